"""The metrics file of a run, and the selection of the best checkpoint."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping, Sequence

from metarl.runs.appended import AppendedFile
from metarl.runs.directory import RunDirectory
from metarl.runs.tracking import TrackerName, open_tracker
from metarl.storage.checkpoints import read_header
from metarl.storage.files import write_atomically

__all__ = ["BestCheckpoint", "MetricsLog", "read_metrics"]


class BestCheckpoint:
    """Marks the checkpoint with the best mean score over the iterations before it.

    Scores are read from the stored metrics, so that a resumed run continues the comparison.
    """

    def __init__(
        self, run: RunDirectory, metric: str, *, window: int, higher_is_better: bool = True
    ) -> None:
        """Read a run's metrics so far.

        Args:
            run: the run whose checkpoints are compared.
            metric: name of the score; every row must hold it.
            window: number of iterations before a checkpoint whose scores are averaged.
            higher_is_better: whether a higher score is better.

        Raises:
            ValueError: if metrics.jsonl is damaged, or a row lacks the metric.
        """
        self._run, self._metric, self._window = run, metric, window
        self._sign = 1.0 if higher_is_better else -1.0
        self._recent: deque[tuple[int, float]] = deque()
        self._best = -float("inf")
        marked = self._marked_iteration()
        for row in read_metrics(run, required=(metric,)):
            self.add(row)
            if (
                marked is not None and row["iteration"] <= marked
            ):  # the row of the marked checkpoint may not exist
                self._best = self._mean()

    def add(self, row: Mapping[str, float]) -> None:
        """Add one row of metrics."""
        iteration = int(row["iteration"])
        self._recent.append((iteration, self._sign * row[self._metric]))
        while self._recent[0][0] <= iteration - self._window:
            self._recent.popleft()

    def offer(self, iteration: int) -> None:
        """Mark the newest checkpoint if it is better than the best so far."""
        if self._recent and self._mean() > self._best:
            self._best = self._mean()
            self._run.mark_best(iteration)

    def _mean(self) -> float:
        return sum(score for _, score in self._recent) / len(self._recent)

    def _marked_iteration(self) -> int | None:
        """The iteration of best.safetensors; None if it does not exist or is damaged."""
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
        """Open the log; rows after `num_iterations` were not saved in a checkpoint and are deleted.

        Args:
            run: the run.
            axis: name of the metric that the tracker uses as the x-axis.
            num_iterations: number of iterations of the checkpoint.
            tracker: tracker to write to in addition to the file.

        Raises:
            ValueError: if metrics.jsonl is damaged before its last line.
            ImportError: if the tracker's package is missing.
            OSError: if a file cannot be written.
        """
        self._axis = axis
        path = run.path / "metrics.jsonl"
        kept = [row for row in read_metrics(run) if row["iteration"] <= num_iterations]
        first_step = int(kept[-1].get(axis, 0)) + 1 if kept else 0
        self._tracker = open_tracker(tracker, run.path, config=run.config(), first_step=first_step)
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept).encode())
        self._file = AppendedFile(path)

    def write(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Append one row immediately; if the disk is full, no part of it remains."""
        row = {"iteration": iteration, **metrics}
        self._file.write((json.dumps(row) + "\n").encode())
        self._tracker.log(metrics, int(row[self._axis]))

    def sync(self) -> None:
        """Wait until all rows are on the disk; called before a checkpoint is written."""
        self._file.sync()

    def close(self) -> None:
        """Flush and close file and tracker."""
        self._file.close()
        self._tracker.close()


def read_metrics(run: RunDirectory, *, required: Sequence[str] = ()) -> list[dict[str, float]]:
    """The rows of metrics.jsonl, without an incomplete last line after a crash.

    Args:
        run: the run.
        required: names of metrics that every row must hold.

    Raises:
        ValueError: if a line is not a row of numbers, or a required one is missing or not finite,
            naming the file.
    """
    file = run.path / "metrics.jsonl"
    if not file.exists():
        return []
    rows = []
    for number, line in enumerate(file.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            break
        where = f"{file} is damaged in line {number}"
        try:
            row = {name: _number(value) for name, value in json.loads(line).items()}
            rows.append({**row, "iteration": int(row["iteration"])})
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(where) from error
        missing = [name for name in required if name not in row]
        if missing:
            raise ValueError(f"{where}: it must hold {missing[0]!r}, it holds {', '.join(row)}")
        for name in required:
            if not math.isfinite(row[name]):
                raise ValueError(f"{where}: {name!r} must be finite, got {row[name]}")
    return rows


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"metrics must be numbers, got {value!r}")
    return value
