"""Which few-shot data sets there are; nothing is loaded until one is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from metarl.fewshot.batches import FewShotTasks
from metarl.registry import Entry, Registry

__all__ = ["DATASETS", "make_tasks"]

DATASETS = Registry(
    "dataset",
    (
        Entry(
            "sinusoid",
            "metarl.fewshot.sinusoid:SinusoidTasks",
            "sine curves of random amplitude and phase, regression (Finn et al. 2017)",
        ),
        Entry(
            "harmonic",
            "metarl.fewshot.harmonic:HarmonicTasks",
            "sums of two sine waves with noise, regression (Lacoste et al. 2018)",
        ),
        Entry(
            "glyphs",
            "metarl.fewshot.glyphs:GlyphTasks",
            "random strokes made on the fly, no download",
        ),
    ),
)

_ON_A_DEVICE = ("glyphs",)


def make_tasks(
    name: str,
    *,
    data_dir: Path | None = None,
    device: torch.device | str = "cpu",
    **options: Any,
) -> FewShotTasks:
    """The tasks of a data set.

    Args:
        name: as `DATASETS` has it.
        data_dir: folder of the data sets that are files.
        device: where the data lie.
        options: of the data set.

    Raises:
        ValueError: if there is no such data set.
    """
    del data_dir  # none of these is a file
    where = {"device": device} if name in _ON_A_DEVICE else {}
    tasks: FewShotTasks = DATASETS.load(name)(**where, **options)
    return tasks
