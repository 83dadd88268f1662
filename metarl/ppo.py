"""The losses of proximal policy optimisation as pure functions of tensors [...]."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["clipped_surrogate", "clipped_value_loss", "masked_mean", "standardized"]


def clipped_surrogate(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, *, clip: float
) -> Tensor:
    """The clipped policy loss of each step, to be minimised.

        −min(ρ A, clip(ρ, 1 − ε, 1 + ε) A),   ρ = π(a|·) / π_old(a|·)

    Args:
        log_probs: log π of the actions taken, nats. Shape [...].
        old_log_probs: log π_old, without a graph.
        advantages: A.
        clip: ε, above 0.

    Source: Schulman et al. 2017 (arXiv:1707.06347), eq. 7.
    """
    ratios = torch.exp(log_probs - old_log_probs)
    clipped = ratios.clamp(1 - clip, 1 + clip)
    return -torch.minimum(ratios * advantages, clipped * advantages)


def clipped_value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, *, clip: float | None = None
) -> Tensor:
    """Half the squared error of the values; with `clip`, the worse of it and the clipped one.

        ½ max((V − G)², (V_old + clip(V − V_old, −ε, ε) − G)²)

    Args:
        values: V, shape [...].
        old_values: V_old, without a graph.
        returns: G, what the values should be.
        clip: ε in units of the values; None does not clip.

    Source: the reference code of Schulman et al. 2017 (openai/baselines, ppo2).
    """
    errors = (values - returns).square()
    if clip is not None:
        near = old_values + (values - old_values).clamp(-clip, clip)
        errors = torch.maximum(errors, (near - returns).square())
    return 0.5 * errors


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where the mask is true."""
    return torch.where(mask, values, 0).sum() / mask.sum()


def standardized(values: Tensor, mask: Tensor) -> Tensor:
    """Values with mean 0 and standard deviation 1 over the mask; 0 outside of it."""
    centred = torch.where(mask, values - masked_mean(values, mask), 0)
    return centred / (masked_mean(centred.square(), mask).sqrt() + 1e-8)
