"""Means and standardization over the steps where a mask is true."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "masked_mean",
    "mean_over_states",
    "standardized",
    "standardized_by_task",
    "state_weights",
]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where the mask is true."""
    return torch.where(mask, values, 0).sum() / mask.sum()


def standardized(values: Tensor, mask: Tensor) -> Tensor:
    """Values with mean 0 and standard deviation 1 over the mask; 0 outside the mask."""
    centered = torch.where(mask, values - masked_mean(values, mask), 0)
    return centered / (masked_mean(centered.square(), mask).sqrt() + 1e-8)


def state_weights(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights for the mean of each task over the steps where the mask is true.

    Args:
        mask: bool, true for valid steps. Shape [N, ...].
        dtype: dtype of the weights.

    Returns:
        Weights in the shape of `mask`; the weights of each task sum to 1.
    """
    counts = mask.to(dtype)
    return counts / _task_sums(counts)


def mean_over_states(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values [N, ...] of each task where the mask is true. Shape [N]."""
    weighted = torch.where(mask, values, 0) * state_weights(mask, values.dtype)
    return weighted.flatten(1).sum(-1)


def standardized_by_task(values: Tensor, mask: Tensor) -> Tensor:
    """Values [N, ...] with mean 0 and standard deviation 1 over each task's masked steps.

    Values outside the mask are shifted and scaled in the same way; they must be finite.
    """
    weights = state_weights(mask, values.dtype)
    mean = _task_sums(values * weights)
    variance = _task_sums((values - mean).square() * weights)
    return (values - mean) / (variance.sqrt() + 1e-8)


def _task_sums(values: Tensor) -> Tensor:
    """Sums over all axes but the first, which stay with length 1."""
    return values.flatten(1).sum(-1).view(-1, *[1] * (values.dim() - 1))
