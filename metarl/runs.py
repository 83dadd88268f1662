"""A run's directory: resolved configuration, metrics, tracker's files, checkpoints.

config.json        everything that decides the run, versions, the command, where it was resumed
metrics.jsonl      one line per iteration
events.out…        the same for TensorBoard, against environment steps
checkpoints/       iteration_000100.safetensors, the newest few
best.safetensors   the checkpoint with the best returns, the same file under a second name
.lock              held while a process writes here
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metarl.checkpoints import read_header
from metarl.durable_files import (
    create_whole,
    locked,
    read_json_object,
    sync_folder,
    write_atomically,
)
from metarl.stored_settings import settings_agree
from metarl.tracking import TrackerName, open_tracker
from metarl.versions import library_versions

__all__ = [
    "BestCheckpoint",
    "MetricsLog",
    "RunDirectory",
    "command_words",
    "library_versions",
    "read_metrics",
]

_KEPT_CHECKPOINTS = 3
_DECIDING: dict[str, tuple[type, str]] = {  # in config.json, and as checkpoints call it
    "agent": (str, "agent"),
    "environment": (str, "environment"),
    "seed": (int, "seed"),
    "agent_config": (dict, "config"),
}


class RunDirectory:
    """Where one training run lives. A directory that exists is never overwritten."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"

    @classmethod
    def create(
        cls, path: Path, config: dict[str, Any], *, save: Callable[[Path], None] | None = None
    ) -> RunDirectory:
        """A new directory with its config.json. It appears whole or, after a crash, not at all.

        Args:
            path: where.
            config: what decides the run; versions and the command are added.
            save: writes the untrained agent's checkpoint, so that there is always one to go on
                from.

        Raises:
            ValueError: if something is there already.
        """

        def fill(folder: Path) -> None:
            new = cls(folder)
            new.checkpoints.mkdir()
            if save is not None:
                save(new.checkpoint_path(0))
            new.write_config({**config, "versions": library_versions(), "command": command_words()})

        create_whole(path, fill)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """An existing run.

        Raises:
            ValueError: if there is none.
        """
        if (path / "seeds.json").is_file():
            raise ValueError(
                f"run must be of one seed, {path} holds those of several: name one, "
                f"such as {min(path.glob('seed_*'), default=path / 'seed_0')}"
            )
        if not (path / "config.json").is_file():
            raise ValueError(f"run must be a directory with a config.json, there is none in {path}")
        return cls(path)

    def config(self) -> dict[str, Any]:
        """The resolved configuration.

        Raises:
            ValueError: if the file is damaged, or does not say what was trained.
        """
        file = self.path / "config.json"
        config = read_json_object(file)
        for key, (needed, _) in _DECIDING.items():
            if not isinstance(config.get(key), needed) or isinstance(config[key], bool):
                words = {str: "a text", int: "a whole number", dict: "an object"}
                raise ValueError(
                    f"{file} is damaged: {key!r} must be {words[needed]}, got {config.get(key)!r}"
                )
        return config

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Replace config.json."""
        write_atomically(self.path / "config.json", json.dumps(config, indent=2).encode())

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the run for this process, and sweep up what a killed one left half written.

        Raises:
            ValueError: if another process holds it.
        """
        with locked(self.path):
            for folder in (self.path, self.checkpoints):
                for path in folder.glob(".*.tmp"):
                    path.unlink()
            self.drop_old_checkpoints()
            yield

    def checkpoint_path(self, iteration: int) -> Path:
        """Where the checkpoint after this many iterations goes."""
        return self.checkpoints / f"iteration_{iteration:06d}.safetensors"

    @property
    def best_checkpoint(self) -> Path:
        """Where the best checkpoint is, once there is one."""
        return self.path / "best.safetensors"

    def newest_checkpoint(self) -> Path:
        """The checkpoint with the most iterations, every byte of it checked.

        Raises:
            ValueError: if there is none; or if it is damaged, or of another run or iteration than
                its place says, with the newest good one named.
        """
        found = self._saved()
        if not found:
            published = self.path / "checkpoint.safetensors"
            remedy = f"; it was published: name {published}" if published.is_file() else ""
            raise ValueError(f"run {self.path} has no checkpoint yet{remedy}")
        try:
            self._check(found[-1])
        except ValueError as error:
            good = next((path for path in reversed(found[:-1]) if self._is_good(path)), None)
            if good is None:
                raise ValueError(f"{error}; there is no good one before it") from error
            raise ValueError(
                f"{error}; the newest good one is {good}: to go on from it, move the other away"
            ) from error
        return found[-1]

    def drop_old_checkpoints(self) -> None:
        """Keep the newest few."""
        for path in self._saved()[:-_KEPT_CHECKPOINTS]:
            path.unlink()

    def mark_best(self, iteration: int) -> None:
        """Give the checkpoint of this iteration the second name best.safetensors, in one step."""
        source = self.checkpoint_path(iteration)
        temporary = self.path / f".best.safetensors.{os.getpid()}.tmp"
        temporary.unlink(missing_ok=True)
        try:
            os.link(source, temporary)
        except OSError:  # a file system without hard links
            write_atomically(self.best_checkpoint, source.read_bytes())
            return
        temporary.replace(self.best_checkpoint)
        sync_folder(self.path)

    def _saved(self) -> list[Path]:
        """Checkpoints, the newest last; by number, since names sort wrongly past six digits."""
        pattern = re.compile(r"iteration_(\d+)\.safetensors")
        numbers = {
            path: int(match.group(1))
            for path in self.checkpoints.glob("iteration_*.safetensors")
            if (match := pattern.fullmatch(path.name))
        }
        return sorted(numbers, key=numbers.__getitem__)

    def _check(self, path: Path) -> None:
        header = read_header(path)
        counters = header.get("counters")
        held = counters.get("num_iterations") if isinstance(counters, dict) else None
        if not isinstance(held, int) or self.checkpoint_path(held).name != path.name:
            raise ValueError(f"checkpoint {path} holds iteration {held}, not that of its name")
        config = self.config()
        for key, (_, name) in _DECIDING.items():
            if not settings_agree(header.get(name), config[key]):
                raise ValueError(f"checkpoint {path} is of another run: its {name} differs")

    def _is_good(self, path: Path) -> bool:
        try:
            self._check(path)
        except ValueError:
            return False
        return True


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


def command_words() -> list[str]:
    """The command that runs now: the program's name without its folder, then its arguments."""
    program, *arguments = sys.argv
    return [Path(program).name, *arguments]


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
