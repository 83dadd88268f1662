"""Running statistics of batch norm: averages over training, used in evaluation only."""

from __future__ import annotations

import torch

from metarl.fewshot.contract.interface import FewShotLearner
from metarl.fewshot.data.batches import FewShotBatch
from metarl.parameters import Params

__all__ = ["initial_statistics", "is_updated", "update_statistics"]

_MOMENTUM = 0.1
_EVERY = 5  # iterations; statistics need a pass through the net


def initial_statistics(learner: FewShotLearner, params: Params, batch: FewShotBatch) -> Params:
    """Zero means and unit variances, with the names and shapes of a batch's statistics."""
    found = learner.statistics(params, batch)
    return {
        name: torch.zeros_like(v) if "mean" in name else torch.ones_like(v)
        for name, v in found.items()
    }


def is_updated(iteration: int) -> bool:
    """Whether the statistics are updated in an iteration, counted from 0."""
    return iteration % _EVERY == 0


def update_statistics(running: Params, found: Params) -> None:
    """Move the running statistics towards a batch's statistics, in place: r ← r + 0.1 (s − r)."""
    for name, values in found.items():
        running[name].lerp_(values, _MOMENTUM)
