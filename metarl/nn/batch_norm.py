"""Batch normalization as a pure function, in four variants.

Few-shot results depend on the variant of batch norm (`BatchNorm`):

- "batch": each forward pass uses the statistics of its inputs. The query points then share
  information (transductive), as in MAML, also at test time.
- "support": every pass uses the statistics of the task's support set. Not transductive.
- "running": training uses batch statistics; evaluation uses averages over training batches.
- "per-step": batch statistics, with a separate scale and offset for each inner step. The paper
  (MAML++) also keeps running statistics per step; its published code collects them but normalizes
  by the batch statistics (`training=True`), as here.

The formula consists of primitive operations, so it supports per-task parameters and derivatives of
any order.

`normalized_convolution` computes a 3×3 convolution and its batch norm as one matrix product, which
is faster for inputs with few channels. The outputs of a convolution are linear in the 3×3 patches p
of its inputs, so their statistics follow from the patches' statistics:

    mean(W p) = W mean(p),   variance(W p) = diag(W cov(p) Wᵀ)

Scale and shift are folded into the kernel, so the largest maps of a net, the outputs of its first
block, are written only once: a step of Prototypical Networks on 28×28 images takes two thirds of
the time.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from metarl.nn.convolution import kernel_matrices, patches

__all__ = [
    "EPSILON",
    "BatchNorm",
    "Moments",
    "batch_moments",
    "normalize",
    "NormalizedMaps",
    "folds",
    "normalized_convolution",
]


BatchNorm = Literal["batch", "support", "running", "per-step"]

EPSILON = 1e-5


class Moments(NamedTuple):
    """Mean and variance (divided by n) of each channel."""

    mean: Tensor
    """[tasks, C], or [C] for all tasks."""
    variance: Tensor
    """Same shape as `mean`."""


def batch_moments(maps: Tensor, counts: Tensor | None = None) -> Moments:
    """Statistics of each task and channel over points and pixels, [tasks, C].

    Args:
        maps: [tasks, points, H, W, C].
        counts: which points enter the statistics, bool [tasks, points]; None: all.
    """
    if counts is None:
        values = maps.flatten(1, 3)
        mean = values.mean(1)
        return Moments(mean, (values - mean.unsqueeze(1)).square().mean(1))
    weights = counts.to(maps.dtype)
    weights = (weights / weights.sum(1, keepdim=True).clamp_min(1))[..., None, None, None]
    mean = (weights * maps).sum(1).mean((1, 2))
    centered = maps - _per_task(mean)
    return Moments(mean, (weights * centered.square()).sum(1).mean((1, 2)))


def normalize(maps: Tensor, moments: Moments, scale: Tensor, offset: Tensor) -> Tensor:
    """Normalize each channel of maps [tasks, points, H, W, C] to mean `offset`, deviation `scale`.

        y = (x − mean) / √(variance + 10⁻⁵) · scale + offset

    Scale and offset are [tasks, C], or [C] for all tasks.

    Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), alg. 1.
    """
    gain = torch.rsqrt(moments.variance + EPSILON) * scale
    shift = offset - moments.mean * gain
    return maps * _per_task(gain) + _per_task(shift)


def _per_task(values: Tensor) -> Tensor:
    """Reshape [tasks, C] to [tasks, 1, 1, 1, C]; values of shape [C] are unchanged."""
    return values if values.dim() == 1 else values[:, None, None, None]


_MAX_FOLDED_CHANNELS = 4
_MAX_FOLDED_NUMBERS = 200_000  # in the inputs of a task with more than one channel


class NormalizedMaps(NamedTuple):
    """The result of `normalized_convolution`."""

    maps: Tensor
    """[tasks, points, h, w, O]."""
    moments: Moments
    """Moments of the convolution's outputs before normalization, [tasks, O]."""


def folds(maps: Tensor, *, is_first_order: bool = False) -> bool:
    """Whether maps [tasks, points, H, W, C] have so few channels that folding is faster.

    Color images have patches of 27 numbers for each pixel, so large ones are excluded, and all of
    them if no second derivatives are taken.
    """
    channels, numbers = maps.shape[-1], maps[0].numel()
    if channels == 1 or is_first_order:
        return channels == 1
    return channels <= _MAX_FOLDED_CHANNELS and numbers <= _MAX_FOLDED_NUMBERS


def normalized_convolution(
    maps: Tensor,
    kernels: Tensor,
    scale: Tensor,
    offset: Tensor,
    *,
    stride: int,
    counts: Tensor | None = None,
) -> NormalizedMaps:
    """`normalize` applied to `convolve`, with the statistics of each task.

    Args:
        maps: [tasks, points, H, W, C].
        kernels: [tasks, O, C, 3, 3], or [O, C, 3, 3] for all tasks.
        scale: standard deviation of each normalized channel, [tasks, O] or [O].
        offset: mean of each normalized channel, [tasks, O] or [O].
        stride: stride in both directions.
        counts: which points enter the statistics, bool [tasks, points]; None: all.
    """
    rows = patches(maps, stride)
    points = rows.flatten(1, 3)  # [tasks, pixels of all points, 9 C]
    counted, number = _counted(rows, counts)
    mean = (counted * points).sum(1, keepdim=True) / number
    centered = points - mean
    covariance = (counted * centered).mT @ centered / number
    matrices = kernel_matrices(kernels)  # [tasks, 9 C, O] or [9 C, O]
    variance = (matrices * (covariance @ matrices)).sum(-2)
    gain = torch.rsqrt(variance + EPSILON) * scale
    shift = offset.expand_as(gain).unsqueeze(-2)
    folded = torch.cat([matrices * gain.unsqueeze(-2), shift], -2)
    found = torch.bmm(torch.cat([centered, torch.ones_like(centered[..., :1])], -1), folded)
    moments = Moments((mean @ matrices).squeeze(-2), variance)
    return NormalizedMaps(found.view(*rows.shape[:-1], -1), moments)


def _counted(rows: Tensor, counts: Tensor | None) -> tuple[Tensor, Tensor]:
    """Weights 0 or 1 of all pixels [tasks, pixels, 1], and their sum [tasks, 1, 1]; or scalars."""
    pixels = rows.shape[2] * rows.shape[3]
    if counts is None:
        return rows.new_ones(()), rows.new_tensor(rows.shape[1] * pixels)
    counted = counts.to(rows.dtype).repeat_interleave(pixels, 1).unsqueeze(-1)
    return counted, counted.sum(1, keepdim=True).clamp_min(1)
