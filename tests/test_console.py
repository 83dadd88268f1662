"""Text is printed literally."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import pytest
from rich.table import Table

from metarl.console import plain_console
from metarl.printable import UNENCODABLE, printable
from metarl.progress import Activity
from metarl.runs.progress import TrainingProgress

ROOT = Path(__file__).parents[1]
HIDDEN = "a\x1b[31m\rb\x00\u202ec\u2066\udcff\x9b"
SHOWN = "a\\x1b[31m\\x0db\\x00\\u202ec\\u2066\\xff\\x9b"
TEXT = "[v2]run :fire: ours:Fire a[/b] [red]x"


def test_brackets_and_colons_are_printed_in_lines_tables_and_titles():
    stream = io.StringIO()
    console = plain_console(file=stream, width=100)
    console.print(TEXT)
    table = Table(TEXT, title=TEXT)
    table.add_row(TEXT)
    console.print(table)
    assert stream.getvalue().count(TEXT) == 4


def test_progress_prints_text_as_it_is(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = io.StringIO()
    console = plain_console(file=stream, width=150)
    assert console.is_terminal
    with TrainingProgress(console, total=2) as progress:
        progress.update(1, TEXT)
    assert TEXT in stream.getvalue()


@pytest.mark.parametrize("folder", ["metarl", "envs", "agents", "scripts"])
def test_every_console_is_created_in_one_place(folder):
    own = ROOT / "metarl" / "console.py"
    made = [
        f"{path}:{node.lineno}"
        for path in (ROOT / folder).rglob("*.py")
        if path != own
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "Console"
    ]
    assert made == []


def test_every_text_column_of_a_progress_bar_is_plain():
    for path in (ROOT / "metarl").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "TextColumn":
                assert any(word.arg == "markup" for word in node.keywords), path


def test_control_characters_are_escaped_in_lines_tables_titles_and_progress(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = io.StringIO()
    console = plain_console(file=stream, width=200)
    console.print(HIDDEN)
    table = Table(HIDDEN, title=HIDDEN)
    table.add_row(HIDDEN)
    console.print(table)
    with TrainingProgress(console, total=2) as progress:
        progress.update(1, HIDDEN)
    printed = stream.getvalue()
    assert printed.count(SHOWN) == 4  # rich colors the bracket of the line
    for hidden in ("a\x1b[31m", "\x00", "\u202e", "\u2066", "\udcff", "\x9b"):
        assert hidden not in printed
    activity = Activity(HIDDEN, console)
    activity(HIDDEN)
    assert activity._state[0] == SHOWN


def test_printable_keeps_lines_and_any_script():
    assert printable("a\tb\nć 日本 − 😀 עברית") == "a\tb\nć 日本 − 😀 עברית"


def test_numbers_keep_their_sign_in_ascii():
    text = "−20.8 (−77 … 35) × 2 – 日"
    assert text.encode("ascii", UNENCODABLE) == b"-20.8 (-77 ... 35) x 2 - ?"


def test_a_console_is_quiet_once_its_reader_has_ended():
    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    console = plain_console(file=Closed())
    console.print("a line")
    console.print("another line")
    assert console.quiet
