"""What a run measures: its rows, and its best checkpoint."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Mapping

from metarl.runs.directory import RunDirectory
from metarl.runs.tracking import TrackerName, open_tracker
from metarl.storage.checkpoints import read_header
from metarl.storage.files import write_atomically

__all__ = ["BestCheckpoint", "MetricsLog", "read_metrics"]


class BestCheckpoint:
    """Knows which checkpoint is the best: by the mean score of the iterations that led to it.

    Scores are read off the metrics, so a resumed run goes on where it was.
    """

    def __init__(
        self, run: RunDirectory, score: Callable[[Mapping[str, float]], float], *, window: int
    ) -> None:
        """Take up a run's metrics so far.

        Args:
            run: whose checkpoints.
            score: of one line of metrics, the higher the better.
            window: iterations up to a checkpoint that count for it.
        """
        self._run, self._score, self._window = run, score, window
        self._recent: deque[tuple[int, float]] = deque()
        self._best = -float("inf")
        marked = self._marked_iteration()
        for row in read_metrics(run):
            self.add(row)
            if marked is not None and row["iteration"] <= marked:  # lines may be far apart
                self._best = self._mean()

    def add(self, row: Mapping[str, float]) -> None:
        """Take a line of metrics."""
        iteration = int(row["iteration"])
        self._recent.append((iteration, self._score(row)))
        while self._recent[0][0] <= iteration - self._window:
            self._recent.popleft()

    def offer(self, iteration: int) -> None:
        """Mark the checkpoint just written, if it is better than the best."""
        if self._recent and self._mean() > self._best:
            self._best = self._mean()
            self._run.mark_best(iteration)

    def _mean(self) -> float:
        return sum(score for _, score in self._recent) / len(self._recent)

    def _marked_iteration(self) -> int | None:
        """That of best.safetensors; None if there is no good one, which is then replaced."""
        try:
            counters = read_header(self._run.best_checkpoint)["counters"]
            return int(counters["num_iterations"])
        except (ValueError, LookupError, TypeError):
            return None


class MetricsLog:
    """Appends metrics to metrics.jsonl and to a tracker."""

    def __init__(
        self,
        run: RunDirectory,
        *,
        axis: str = "time/env_steps",
        num_iterations: int = 0,
        tracker: TrackerName = "tensorboard",
    ) -> None:
        """Open the log; lines after `num_iterations` belong to lost work and are dropped.

        Args:
            run: where to write.
            axis: the metric that the tracker draws all others against.
            num_iterations: iterations that the run keeps.
            tracker: where metrics go beside the file.

        Raises:
            ValueError: if metrics.jsonl is damaged before its last line.
            ImportError: if the tracker's package is missing.
        """
        self._axis = axis
        path = run.path / "metrics.jsonl"
        kept = [row for row in read_metrics(run) if row["iteration"] <= num_iterations]
        first_step = int(kept[-1].get(axis, 0)) + 1 if kept else 0
        self._tracker = open_tracker(tracker, run.path, config=run.config(), first_step=first_step)
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept).encode())
        self._file = path.open("ab", buffering=0)

    def write(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """One line, at once and whole: if the disk is full, nothing of it stays."""
        row = {"iteration": iteration, **metrics}
        line, start = (json.dumps(row) + "\n").encode(), self._file.seek(0, os.SEEK_END)
        try:
            while line:
                line = line[self._file.write(line) :]
        except BaseException:
            self._file.truncate(start)
            raise
        self._tracker.log(metrics, int(row[self._axis]))

    def sync(self) -> None:
        """Let the lines reach the disk, before a checkpoint that relies on them."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flush and close file and tracker."""
        self._file.close()
        self._tracker.close()


def read_metrics(run: RunDirectory) -> list[dict[str, float]]:
    """The lines of metrics.jsonl; a last line that was cut by a crash is left out.

    Raises:
        ValueError: if a whole line is damaged.
    """
    file = run.path / "metrics.jsonl"
    if not file.exists():
        return []
    rows = []
    for number, line in enumerate(file.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            break
        try:
            row = json.loads(line)
            rows.append({**row, "iteration": int(row["iteration"])})
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{file} is damaged in line {number}") from error
    return rows
