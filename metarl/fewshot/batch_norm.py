"""Batch normalisation as a pure function, exact under every derivative, in four meanings.

In few-shot learning "batch norm" decides results, and it can mean four things (`BatchNorm`):

- "batch": each forward pass uses the statistics of its own inputs. The query points then share
  information (transductive): what MAML did, at test too.
- "support": every pass uses the statistics of the task's support set. Not transductive.
- "running": training as "batch", averaging the statistics; evaluation uses the averages.
- "per-step": statistics as "batch", but scale and offset of their own for each inner step. The
  paper (MAML++) also keeps running statistics per step; its published code collects them and
  normalises by the batch's all the same (`training=True`), which is what is done here.

The formula is written out of primitives, since torch's own batch norm gives wrong second
derivatives when the outer derivative is taken outside `vmap`.
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
    """[C]."""
    variance: Tensor
    """[C]."""


def batch_moments(maps: Tensor, counts: Tensor | None = None) -> Moments:
    """Statistics of each channel over points and places.

    Args:
        maps: [points, C, H, W], one task.
        counts: which points enter, bool [points]; None: all.
    """
    if counts is None:
        variance, mean = torch.var_mean(maps, (0, 2, 3), correction=0)
        return Moments(mean, variance)
    weights = counts.to(maps.dtype)
    weights = (weights / weights.sum().clamp_min(1)).view(-1, 1, 1, 1)
    mean = (weights * maps).sum(0).mean((-2, -1))
    centred = maps - mean.view(-1, 1, 1)
    return Moments(mean, (weights * centred.square()).sum(0).mean((-2, -1)))


def normalize(maps: Tensor, moments: Moments, scale: Tensor, offset: Tensor) -> Tensor:
    """Each channel of maps [points, C, H, W] brought to mean `offset` and deviation `scale` [C].

        y = (x − mean) / √(variance + 10⁻⁵) · scale + offset

    Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), alg. 1.
    """
    gain = torch.rsqrt(moments.variance + EPSILON) * scale
    shift = offset - moments.mean * gain
    return maps * gain.view(-1, 1, 1) + shift.view(-1, 1, 1)
