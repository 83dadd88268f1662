"""Batch normalisation as a pure function, exact under every derivative, in four meanings.

In few-shot learning "batch norm" decides results, and it can mean four things (`BatchNorm`):

- "batch": each forward pass uses the statistics of its own inputs. The query points then share
  information (transductive): what MAML did, at test too.
- "support": every pass uses the statistics of the task's support set. Not transductive.
- "running": training as "batch", averaging the statistics; evaluation uses the averages.
- "per-step": statistics as "batch", but scale and offset of their own for each inner step. The
  paper (MAML++) also keeps running statistics per step; its published code collects them and
  normalises by the batch's all the same (`training=True`), which is what is done here.

The formula is written out of primitives, so that it holds for parameters of each task's own and
under every derivative.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

__all__ = ["BATCH_NORMS", "EPSILON", "BatchNorm", "Moments", "batch_moments", "normalize"]

BatchNorm = Literal["batch", "support", "running", "per-step"]
BATCH_NORMS: tuple[BatchNorm, ...] = ("batch", "support", "running", "per-step")

EPSILON = 1e-5


class Moments(NamedTuple):
    """Mean and variance (divided by n) of each channel."""

    mean: Tensor
    """[tasks, C], or [C] of all tasks."""
    variance: Tensor
    """Of the same shape."""


def batch_moments(maps: Tensor, counts: Tensor | None = None) -> Moments:
    """Statistics of each task and channel over points and places, [tasks, C].

    Args:
        maps: [tasks, points, H, W, C].
        counts: which points enter, bool [tasks, points]; None: all.
    """
    if counts is None:
        values = maps.flatten(1, 3)
        mean = values.mean(1)
        return Moments(mean, (values - mean.unsqueeze(1)).square().mean(1))
    weights = counts.to(maps.dtype)
    weights = (weights / weights.sum(1, keepdim=True).clamp_min(1))[..., None, None, None]
    mean = (weights * maps).sum(1).mean((1, 2))
    centred = maps - _per_task(mean)
    return Moments(mean, (weights * centred.square()).sum(1).mean((1, 2)))


def normalize(maps: Tensor, moments: Moments, scale: Tensor, offset: Tensor) -> Tensor:
    """Each channel of maps [tasks, points, H, W, C] brought to mean `offset`, deviation `scale`.

        y = (x − mean) / √(variance + 10⁻⁵) · scale + offset

    Scale and offset are [tasks, C], or [C] of all tasks.

    Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), alg. 1.
    """
    gain = torch.rsqrt(moments.variance + EPSILON) * scale
    shift = offset - moments.mean * gain
    return maps * _per_task(gain) + _per_task(shift)


def _per_task(values: Tensor) -> Tensor:
    """[tasks, C] to [tasks, 1, 1, 1, C]; what all tasks share stays [C]."""
    return values if values.dim() == 1 else values[:, None, None, None]
