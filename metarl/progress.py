"""Progress of long work: the callback that library code reports to, and its display in commands.

Library code never prints: it calls a `Progress`. `Activity` is the only one that shows something.
The display of training iterations is `metarl.runs.progress.TrainingProgress`.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from metarl.console import plain_console
from metarl.printable import printable

if TYPE_CHECKING:  # rich is imported when something is shown, so that help texts are fast
    from rich.console import Console

__all__ = ["Activity", "Progress", "counted_text", "ignore_progress"]

_SECONDS_BEFORE_BAR = 0.5  # shorter work shows nothing
_SECONDS_BEFORE_LINE = 10.0  # on other outputs than a terminal; doubled after each line


class Progress(Protocol):
    """A function that is called at the beginning of each piece of work."""

    def __call__(self, doing: str, done: int = 0, total: int = 0) -> None:
        """State the current work.

        Args:
            doing: the work in a few words, such as "measuring random actions".
            done: number of pieces that are complete.
            total: number of all pieces; 0 if unknown.
        """


def ignore_progress(doing: str, done: int = 0, total: int = 0) -> None:
    """A `Progress` that does nothing."""


def counted_text(doing: str, done: int, total: int) -> str:
    """The work with the number of complete pieces, if it is known.

    >>> counted_text("measuring", 3, 8)
    'measuring, 3 of 8 done'
    """
    return f"{doing}, {done:,} of {total:,} done" if total else doing


class Activity:
    """Shows the current work while it runs; a `Progress` and a context manager.

    A terminal gets a bar that disappears at the end. Other outputs get a plain line on standard
    error after ten seconds, then ever fewer lines. Short work shows nothing.
    """

    def __init__(
        self,
        doing: str,
        console: Console | None = None,
        *,
        prints_lines: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create a display that begins when it is entered as a context manager.

        Args:
            doing: the first piece of work.
            console: console of the command; nothing is shown if it is quiet. None: standard output.
            prints_lines: whether other outputs than a terminal get lines.
            clock: returns the time in seconds.
        """
        self._console: Console | None = None
        if console is not None or prints_lines or sys.stdout.isatty():
            self._console = _console_to_use(console, prints_lines=prints_lines)
        self._clock = clock
        self._state = (printable(doing), 0, 0)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, doing: str, done: int = 0, total: int = 0) -> None:
        """State the current work; see `Progress`."""
        self._state = (printable(doing), done, total)

    def __enter__(self) -> Activity:
        if self._console is not None:
            self._ended.clear()
            show = self._show_bar if self._console.is_terminal else self._print_lines
            self._thread = threading.Thread(
                target=show, args=(self._console,), name="metarl-activity", daemon=True
            )
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _show_bar(self, console: Console) -> None:
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar
        from rich.table import Column

        if self._ended.wait(_SECONDS_BEFORE_BAR):
            return
        text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True))
        bar = Bar(
            SpinnerColumn(),
            text,
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
        )
        with bar:
            task = bar.add_task(self._state[0], total=None)
            while not self._ended.wait(0.1):
                doing, done, total = self._state
                description = counted_text(doing, done, total)
                bar.update(task, description=description, completed=done, total=total or None)

    def _print_lines(self, console: Console) -> None:
        began, pause = self._clock(), _SECONDS_BEFORE_LINE
        while not self._ended.wait(pause):
            seconds = self._clock() - began
            line = f"{counted_text(*self._state)} ({seconds:.0f} s)"
            console.print(line, soft_wrap=True, highlight=False)
            pause *= 2


def _console_to_use(console: Console | None, *, prints_lines: bool) -> Console | None:
    """The terminal, else standard error if it gets lines; None if nothing is shown."""
    chosen = plain_console() if console is None else console
    if chosen.quiet:
        return None
    if chosen.is_terminal:
        return chosen
    chosen = plain_console(stderr=True)
    return chosen if chosen.is_terminal or prints_lines else None
