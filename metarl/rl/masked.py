"""Means and standardization over the steps that a mask keeps."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["masked_mean", "standardized", "state_weights"]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where the mask is true."""
    return torch.where(mask, values, 0).sum() / mask.sum()


def standardized(values: Tensor, mask: Tensor) -> Tensor:
    """Values with mean 0 and standard deviation 1 over the mask; 0 outside of it."""
    centred = torch.where(mask, values - masked_mean(values, mask), 0)
    return centred / (masked_mean(centred.square(), mask).sqrt() + 1e-8)


def state_weights(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights of a mean over the steps that count of each task. Shape [N, B], sums to 1."""
    counts = mask.to(dtype)
    return counts / counts.sum(-1, keepdim=True)


def _mean_over_states(values: Tensor, mask: Tensor) -> Tensor:
    return (torch.where(mask, values, 0) * state_weights(mask, values.dtype)).sum(-1)


def _standardized(values: Tensor, mask: Tensor) -> Tensor:
    weights = state_weights(mask, values.dtype)
    mean = (values * weights).sum(-1, keepdim=True)
    variance = ((values - mean).square() * weights).sum(-1, keepdim=True)
    return (values - mean) / (variance.sqrt() + 1e-8)
