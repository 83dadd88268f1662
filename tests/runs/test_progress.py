"""The progress display of a training run, on a terminal and elsewhere."""

import io
import re
import time

import pytest
from rich.console import Console

import metarl.progress
from metarl.runs.progress import TrainingProgress

NEWS = "return -39.0 → -12.8  38,910 steps/s"


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def shown(*, terminal: bool, width: int = 80, total: int = 100, completed: int = 0, updates):
    """The content of a console of fixed width after updates (seconds since the start, done)."""
    file, clock = io.StringIO(), Clock()
    console = Console(file=file, width=width, force_terminal=terminal, color_system=None)
    with TrainingProgress(console, total=total, completed=completed, clock=clock) as progress:
        for seconds, done in updates:
            clock.seconds = 100.0 + seconds
            progress.update(done, NEWS)
    return file.getvalue()


def last_line(text: str) -> str:
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n")
    return [line for line in plain.split("\n") if "/100" in line][-1]


@pytest.mark.parametrize("width", [72, 80, 120])
def test_a_terminal_gets_a_bar_with_iteration_returns_speed_and_times(width):
    line = last_line(shown(terminal=True, width=width, updates=[(30, 25)]))
    assert "25/100" in line
    assert NEWS in line
    assert "0:01:30 left" in line  # 25 took 30 seconds, 75 are left
    assert line.index("25/100") < line.index("━") < line.index("return") < line.index("left")
    assert len(line.rstrip()) <= width


def test_a_terminal_shows_the_time_elapsed():
    line = last_line(shown(terminal=True, updates=[(30, 25)]))
    assert "0:00:30 0:01:30 left" in line


def test_other_outputs_get_lines_with_iteration_text_and_times():
    text = shown(terminal=False, updates=[(7, 5)])
    assert text == f"iteration 5/100: {NEWS}  0:00:07 elapsed, 0:02:13 left\n"


def test_elsewhere_the_first_the_last_and_every_5_percent_have_a_line():
    text = shown(terminal=False, total=50, updates=[(k, k) for k in range(1, 51)])
    numbers = [int(line.split("/")[0].split()[1]) for line in text.splitlines()]
    assert numbers == [1, *range(2, 51, 2)]
    assert text.splitlines()[-1].endswith("0:00:50 elapsed, 0:00:00 left")


def test_a_short_run_has_a_line_for_each_iteration():
    text = shown(terminal=False, total=3, updates=[(1, 1), (2, 2), (3, 3)])
    assert [line[:13] for line in text.splitlines()] == [f"iteration {k}/3" for k in (1, 2, 3)]


def test_a_resumed_run_is_timed_from_the_resume():
    text = shown(terminal=False, completed=80, updates=[(10, 85)])
    assert text.endswith("0:00:10 elapsed, 0:00:30 left\n")  # 5 took 10 seconds, 15 are left


def test_elsewhere_there_is_no_bar():
    assert shown(terminal=False, updates=[]) == ""


def test_rare_updates_are_all_shown():
    """Twentieth parts of 1030 fall between them."""
    text = shown(
        terminal=False, total=1030, updates=[(k, k) for k in (*range(100, 1030, 100), 1030)]
    )
    numbers = [int(line.split("/")[0].split()[1]) for line in text.splitlines()]
    assert numbers == [*range(100, 1030, 100), 1030]


def test_a_terminal_shows_the_work_before_the_first_iteration():
    file = io.StringIO()
    console = Console(file=file, width=100, force_terminal=True, color_system=None)
    with TrainingProgress(console, total=100, first="starting environments"):
        pass
    assert "starting environments" in last_line(file.getvalue())


def test_other_outputs_name_the_work_before_a_long_first_iteration(monkeypatch, capfd):
    monkeypatch.setattr(metarl.progress, "_SECONDS_BEFORE_LINE", 0.05)
    console = Console(file=io.StringIO(), force_terminal=False)
    with TrainingProgress(console, total=100, first="starting environments") as progress:
        time.sleep(0.1)
        progress.update(3, NEWS)
        time.sleep(0.2)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "starting environments (0 s)"
    assert lines[-1] == "training, 3 of 100 done (0 s)"
