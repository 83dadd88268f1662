"""Progress of training: a bar on a terminal, occasional lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column

from metarl.printable import printable
from metarl.progress import Activity

__all__ = ["TrainingProgress"]

_LINES = 20


class TrainingProgress:
    """Shows the iteration, the latest metrics, the elapsed time and the time left.

    The time left is estimated from the mean speed of this process.
    """

    def __init__(
        self,
        console: Console,
        *,
        total: int,
        completed: int = 0,
        first: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create a display that appears when it is entered as a context manager.

        Args:
            console: a terminal shows a bar; other outputs get a line at the first update, after
                each 5 % of the iterations, and at the last update.
            total: number of iterations.
            completed: number of iterations before this process.
            first: the text until the first update.
            clock: returns the time in seconds.
        """
        self._console, self._total, self._clock = console, total, clock
        self._every = max(1, total // _LINES)
        self._first, self._began = completed, clock()
        self._due = completed
        whole = Column(no_wrap=True)
        self._bar = Progress(
            TextColumn("{task.completed}/{task.total}", markup=False, table_column=whole),
            BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=5)),
            TextColumn("{task.fields[text]}", markup=False, table_column=whole),
            TimeElapsedColumn(table_column=whole),
            TextColumn("{task.fields[left]}", markup=False, table_column=whole),
            console=console,
            disable=not console.is_terminal,
            expand=True,
            get_time=clock,
        )
        self._task = self._bar.add_task(
            "training", total=total, completed=completed, text=printable(first), left=""
        )
        self._waiting = Activity(first or "training", console)

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        if not self._console.is_terminal:
            self._waiting.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()
        if not self._console.is_terminal:
            self._waiting.__exit__(kind, error, traceback)

    def update(self, done: int, text: str) -> None:
        """Show that `done` iterations are complete, with a text about the last one."""
        text, elapsed = printable(text), self._clock() - self._began
        left = _clock_time(elapsed / max(1, done - self._first) * (self._total - done))
        if self._console.is_terminal:
            self._bar.update(self._task, completed=done, text=text, left=f"{left} left")
            return
        self._waiting("training", done, self._total)
        if done >= min(self._due, self._total):
            self._due = (done // self._every + 1) * self._every
            times = f"{_clock_time(elapsed)} elapsed, {left} left"
            self._console.print(f"iteration {done}/{self._total}: {text}  {times}", soft_wrap=True)


def _clock_time(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> _clock_time(3725.4)
    '1:02:05'
    """
    return str(timedelta(seconds=round(seconds)))
