"""The display of long work: a bar on a terminal, a few lines elsewhere, nothing for short work."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "support"))

from silence import listen

import metarl.progress
from metarl.console import plain_console
from metarl.progress import Activity, counted_text


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Displays appear after hundredths of a second."""
    monkeypatch.setattr(metarl.progress, "_SECONDS_BEFORE_BAR", 0.01)
    monkeypatch.setattr(metarl.progress, "_SECONDS_BEFORE_LINE", 0.05)


def wait_for(text: str, stream: io.StringIO) -> None:
    end = time.monotonic() + 20
    while text not in stream.getvalue():
        assert time.monotonic() < end, stream.getvalue()
        time.sleep(0.01)


def test_a_terminal_shows_the_work_and_how_much_is_done(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    screen = io.StringIO()
    with Activity("loading [b]", plain_console(file=screen, width=100)) as activity:
        wait_for("loading [b]", screen)
        activity("measuring", 3, 8)
        wait_for("measuring, 3 of 8 done", screen)


def test_the_bar_disappears_at_the_end(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    screen = io.StringIO()
    with Activity("loading", plain_console(file=screen, width=100)):
        wait_for("loading", screen)
    assert screen.getvalue().endswith("\x1b[2K")  # the line is erased


def test_other_outputs_get_fewer_and_fewer_plain_lines_on_standard_error(capfd):
    with Activity("loading", plain_console()) as activity:
        time.sleep(0.02)
        activity("measuring", 3, 8)
        time.sleep(0.6)
    printed = capfd.readouterr()
    lines = printed.err.splitlines()
    assert printed.out == ""
    assert 1 <= len(lines) <= 4  # after 0.05, 0.15, 0.35 and 0.75 s
    assert set(lines) <= {f"measuring, 3 of 8 done ({k} s)" for k in (0, 1)}


@pytest.mark.parametrize("quiet", [{"prints_lines": False}, {"console": plain_console(quiet=True)}])
def test_lines_can_be_left_out(capfd, quiet):
    with Activity("loading", **quiet):
        time.sleep(0.1)
    assert capfd.readouterr() == ("", "")


def test_short_work_shows_nothing(monkeypatch, capfd):
    monkeypatch.setattr(metarl.progress, "_SECONDS_BEFORE_BAR", 10)
    monkeypatch.setattr(metarl.progress, "_SECONDS_BEFORE_LINE", 10)
    monkeypatch.setenv("FORCE_COLOR", "1")
    screen = io.StringIO()
    began = time.monotonic()
    with Activity("a", plain_console(file=screen)), Activity("b", plain_console(stderr=True)):
        pass
    assert time.monotonic() - began < 5  # it does not wait for the display
    assert screen.getvalue() == ""
    assert capfd.readouterr() == ("", "")


def test_an_error_ends_the_display(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    screen = io.StringIO()
    with pytest.raises(ValueError, match="broken"), Activity("a", plain_console(file=screen)):
        raise ValueError("broken")
    before = screen.getvalue()
    time.sleep(0.1)
    assert screen.getvalue() == before


def test_an_unknown_number_is_left_out():
    assert counted_text("reading", 0, 0) == "reading"


PROGRAM = """
import logging, time
from metarl.console import plain_console
from metarl.progress import Activity
console = plain_console()
with Activity("working hard", console) as activity:
    time.sleep(1)
    logging.getLogger("metarl").warning("a warning")
    time.sleep(3)
    console.print("a result")
    activity("still working", 1, 2)
    time.sleep(1)
print("the end")
"""


def test_a_terminal_is_never_silent_and_other_lines_stay_whole():
    heard = listen([sys.executable, "-c", PROGRAM])
    assert heard.code == 0
    assert heard.longest_gap[0] < 3, heard.longest_gap
    lines = [line.strip() for line in heard.text.replace("\r", "\n").splitlines()]
    assert {"a warning", "a result", "the end"} <= {*lines}
    assert any("still working, 1 of 2 done" in line for line in lines)


def test_silence_is_measured():
    heard = listen([sys.executable, "-c", "import time; print(1); time.sleep(4); print(2)"])
    assert heard.longest_gap[0] > 3.5
