"""Experiment trackers in addition to metrics.jsonl: TensorBoard, W&B and trackio.

The package of a tracker is imported only if the tracker is chosen.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from metarl.runs.appended import AppendedFile

__all__ = ["Tracker", "TrackerName", "open_tracker", "require_tracker"]

TrackerName = Literal["tensorboard", "wandb", "trackio", "none"]
_PROJECT = "metarl"


class Tracker(Protocol):
    """Interface of experiment trackers."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record numbers by name at a step; steps increase."""

    def close(self) -> None:
        """Send remaining records and close."""


def open_tracker(
    name: TrackerName, folder: Path, *, config: Mapping[str, Any], first_step: int = 0
) -> Tracker:
    """Open a tracker for one run.

    Args:
        name: name of the tracker.
        folder: folder of the run; its name becomes the run's name, and local files are written in
            it.
        config: settings that the tracker shows with the run.
        first_step: earlier records from this step on are discarded, if the tracker supports it
            (TensorBoard).

    Raises:
        ImportError: if its package is not installed.
        ValueError: if the name is unknown.
    """
    if name == "none":
        return _Nowhere()
    if name == "tensorboard":
        return _TensorBoard(folder, first_step)
    if name == "wandb":
        return _WandB(folder, config)
    if name == "trackio":
        return _Trackio(folder, config)
    raise ValueError(f"tracker must be tensorboard, wandb, trackio or none, got {name!r}")


def require_tracker(name: TrackerName) -> None:
    """Reject a tracker whose package is missing, before any file is written.

    Raises:
        ImportError: naming the package to install.
    """
    if name in ("wandb", "trackio"):
        _package(name)


class _Nowhere:
    def log(self, metrics: Mapping[str, float], step: int) -> None:
        pass

    def close(self) -> None:
        pass


class _TensorBoard:
    """An event file in the run's folder, written without a thread.

    TensorBoard's own writer uses a thread, which prints a traceback if the disk is full.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = event_pb2, summary_pb2
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        taken = len(list(folder.glob(f"{name}.*")))
        self._writer = RecordWriter(AppendedFile(folder / f"{name}.{taken}"))
        self._write(file_version="brain.Event:2")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(step=first_step, session_log=start)  # records after this step are discarded

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        values = [
            self._summary.Summary.Value(tag=name, simple_value=value)
            for name, value in metrics.items()
        ]
        self._write(step=step, summary=self._summary.Summary(value=values))

    def close(self) -> None:
        self._writer.close()

    def _write(self, **content: Any) -> None:
        event = self._event.Event(wall_time=time.time(), **content)
        self._writer.write(event.SerializeToString())


class _WandB:
    """Weights & Biases; a resumed run keeps its id, which is derived from the folder's path.

    The project is WANDB_PROJECT or "metarl". Steps that were sent already are not
    overwritten.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._run = _package("wandb").init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=folder.name,
            id=hashlib.blake2b(os.fsencode(os.path.realpath(folder)), digest_size=8).hexdigest(),
            resume="allow",
            dir=str(folder),
            config=dict(config),
        )

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


class _Trackio:
    """trackio; a resumed run keeps its name, the name of its folder."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._run = _package("trackio").init(
            project=os.environ.get("TRACKIO_PROJECT", _PROJECT),
            name=folder.name,
            resume="allow",
            config=dict(config),
        )

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"tracker {name} needs the package {name}, which cannot be imported ({error}); "
            f"install it with pip install {name}, or choose --tracker tensorboard"
        ) from error
