"""Checkpoints of few-shot learners without their optimiser: a third of the size.

A learner loaded from one adapts and predicts as it did; it cannot be trained on to the same bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metarl.checkpoints import load_checkpoint, read_header, save_checkpoint

__all__ = ["copy_without_optimizer", "holds_optimizer"]

_LEFT_OUT = "optimizer_left_out"
_GROUP = "optimizer/"


def holds_optimizer(header: Mapping[str, Any]) -> bool:
    """Whether training can go on from the checkpoint of this header.

    Those of format 1 never held an optimiser.
    """
    return header["format_version"] > 1 and not header.get(_LEFT_OUT, False)


def copy_without_optimizer(source: Path, target: Path) -> None:
    """Write a checkpoint anew without its optimiser; the header says so.

    Raises:
        ValueError: if the source is no checkpoint.
    """
    known = read_header(source)
    tensors, header = load_checkpoint(
        source, agent=known["agent"], environment=known["environment"]
    )
    kept = {name: t for name, t in tensors.items() if not name.startswith(_GROUP)}
    save_checkpoint(target, kept, {**header, _LEFT_OUT: True})
