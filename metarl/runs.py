"""A run's directory: resolved configuration, metrics, TensorBoard events, checkpoints.

config.json        everything that decides the run, versions, the command
metrics.jsonl      one line per iteration
events.out…        the same for TensorBoard, against environment steps
checkpoints/       iteration_000100.safetensors, the newest few
"""

from __future__ import annotations

import json
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from metarl.checkpoints import write_atomically

__all__ = ["MetricsLog", "RunDirectory", "library_versions", "read_metrics"]

_KEPT_CHECKPOINTS = 3


def library_versions() -> dict[str, str]:
    """Versions of what decides a number, by distribution name."""
    names = ("metarl-toolkit", "torch", "numpy", "gymnasium", "mujoco")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


class RunDirectory:
    """Where one training run lives. A directory that exists is never overwritten."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"

    @classmethod
    def create(cls, path: Path, config: dict[str, Any]) -> RunDirectory:
        """A new directory with its config.json.

        Raises:
            ValueError: if something is there already.
        """
        if path.exists():
            raise ValueError(
                f"out must be a new directory, {path} exists; "
                "choose another, or continue that run with --resume"
            )
        run = cls(path)
        run.checkpoints.mkdir(parents=True)
        written = {**config, "versions": library_versions(), "command": sys.argv}
        write_atomically(path / "config.json", json.dumps(written, indent=2).encode())
        return run

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """An existing run.

        Raises:
            ValueError: if there is none.
        """
        if not (path / "config.json").is_file():
            raise ValueError(f"run must be a directory with a config.json, there is none in {path}")
        return cls(path)

    def config(self) -> dict[str, Any]:
        """The resolved configuration.

        Raises:
            ValueError: if the file is damaged.
        """
        file = self.path / "config.json"
        try:
            config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{file} is damaged: {error}") from error
        return config

    def checkpoint_path(self, iteration: int) -> Path:
        """Where the checkpoint after this many iterations goes."""
        return self.checkpoints / f"iteration_{iteration:06d}.safetensors"

    def newest_checkpoint(self) -> Path:
        """The checkpoint with the most iterations.

        Raises:
            ValueError: if there is none.
        """
        found = self._saved()
        if not found:
            raise ValueError(f"run {self.path} has no checkpoint yet")
        return found[-1]

    def drop_old_checkpoints(self) -> None:
        """Keep the newest few."""
        for path in self._saved()[:-_KEPT_CHECKPOINTS]:
            path.unlink()

    def _saved(self) -> list[Path]:
        """Checkpoints, the newest last; by number, since names sort wrongly past six digits."""
        found = self.checkpoints.glob("iteration_*.safetensors")
        return sorted(found, key=lambda path: int(path.stem.removeprefix("iteration_")))


class MetricsLog:
    """Appends metrics to metrics.jsonl and to TensorBoard's event file."""

    def __init__(
        self, run: RunDirectory, *, axis: str = "time/env_steps", num_iterations: int = 0
    ) -> None:
        """Open the log; lines after `num_iterations` belong to lost work and are dropped.

        Args:
            run: where to write.
            axis: the metric that TensorBoard draws all others against.
            num_iterations: iterations that the run keeps.
        """
        self._axis = axis
        file = run.path / "metrics.jsonl"
        kept = [row for row in read_metrics(run) if row["iteration"] <= num_iterations]
        write_atomically(file, "".join(json.dumps(row) + "\n" for row in kept).encode())
        self._file = file.open("a", encoding="utf-8")
        first_step = int(kept[-1][axis]) + 1 if kept else 0
        self._board = SummaryWriter(str(run.path), purge_step=first_step)

    def write(self, iteration: int, metrics: dict[str, float]) -> None:
        """One line, flushed at once."""
        row = {"iteration": iteration, **metrics}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        for name, value in metrics.items():
            self._board.add_scalar(name, value, int(row[self._axis]))

    def close(self) -> None:
        """Flush and close both files."""
        self._file.close()
        self._board.close()


def read_metrics(run: RunDirectory) -> list[dict[str, float]]:
    """The lines of metrics.jsonl; a last line that was cut by a crash is left out."""
    file = run.path / "metrics.jsonl"
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
