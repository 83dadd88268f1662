"""A 3×3 convolution of few channels and its batch norm as one matrix product.

The outputs of a convolution are linear in the 3×3 patches p of its inputs, so their statistics
follow from those of the patches, which are few numbers where channels are few:

    mean(W p) = W mean(p),   variance(W p) = diag(W cov(p) Wᵀ)

Scale and shift are folded into the kernel before it is applied. So the largest maps of a net, those
of its first block, are written once: a step of Prototypical Networks on 28×28 pictures takes two
thirds of the time.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from metarl.fewshot.batch_norm import EPSILON, Moments
from metarl.fewshot.task_convolution import kernel_matrices, patches

__all__ = ["NormalizedMaps", "folds", "normalized_convolution"]

_FEW = 4


class NormalizedMaps(NamedTuple):
    """What `normalized_convolution` finds."""

    maps: Tensor
    """[tasks, points, h, w, O]."""
    moments: Moments
    """Of the convolution's outputs before they were normalised, [tasks, O]."""


def folds(maps: Tensor) -> bool:
    """Whether maps [tasks, points, H, W, C] have so few channels that folding is faster."""
    return maps.shape[-1] <= _FEW


def normalized_convolution(
    maps: Tensor,
    kernels: Tensor,
    scale: Tensor,
    offset: Tensor,
    *,
    stride: int,
    counts: Tensor | None = None,
) -> NormalizedMaps:
    """`normalize` of `convolve` by the statistics of each task.

    Args:
        maps: [tasks, points, H, W, C].
        kernels: [tasks, O, C, 3, 3], or [O, C, 3, 3] of all tasks.
        scale: deviation of each channel afterwards, [tasks, O] or [O].
        offset: its mean, alike.
        stride: of both directions.
        counts: which points enter the statistics, bool [tasks, points]; None: all.
    """
    rows = patches(maps, stride)
    points = rows.flatten(1, 3)  # [tasks, places of all points, 9 C]
    counted, number = _counted(rows, counts)
    mean = (counted * points).sum(1, keepdim=True) / number
    centred = points - mean
    covariance = (counted * centred).mT @ centred / number
    matrices = kernel_matrices(kernels)  # [tasks, 9 C, O] or [9 C, O]
    variance = (matrices * (covariance @ matrices)).sum(-2)
    gain = torch.rsqrt(variance + EPSILON) * scale
    shift = offset.expand_as(gain).unsqueeze(-2)
    folded = torch.cat([matrices * gain.unsqueeze(-2), shift], -2)
    found = torch.bmm(torch.cat([centred, torch.ones_like(centred[..., :1])], -1), folded)
    moments = Moments((mean @ matrices).squeeze(-2), variance)
    return NormalizedMaps(found.view(*rows.shape[:-1], -1), moments)


def _counted(rows: Tensor, counts: Tensor | None) -> tuple[Tensor, Tensor]:
    """Which places of all points count, as ones and zeros, and how many: [tasks, places, 1] and
    [tasks, 1, 1], or two numbers."""
    places = rows.shape[2] * rows.shape[3]
    if counts is None:
        return rows.new_ones(()), rows.new_tensor(rows.shape[1] * places)
    counted = counts.to(rows.dtype).repeat_interleave(places, 1).unsqueeze(-1)
    return counted, counted.sum(1, keepdim=True).clamp_min(1)
