"""Progress of a long loop: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["TrainingProgress"]


class TrainingProgress:
    """Shows how far a training run is and its latest news."""

    def __init__(self, console: Console, *, total: int, completed: int = 0) -> None:
        self._console, self._total = console, total
        self._every = max(1, total // 20)
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[news]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=total, completed=completed, news="")

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def update(self, done: int, news: str) -> None:
        """`done` iterations are over; `news` in a few words."""
        if self._console.is_terminal:
            self._bar.update(self._task, completed=done, news=news)
        elif done == 1 or done % self._every == 0:
            self._console.print(f"iteration {done}/{self._total}: {news}", soft_wrap=True)
