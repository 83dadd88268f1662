"""The credit for sampling: the part of a meta-gradient that rewards informative support episodes.

    ∇J_II = E[(I + α ∇ĝ)ᵀ ∇V(θ')] + E[V(θ') Σ_e ∇ log p_θ(τ_e)],   e over all support episodes

The functions here give the second term. It belongs to J_II, the objective whose inner steps are
sampled, and so to the estimator `log_prob`; an estimator of ∇²V already holds its counterpart.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["credit_surrogate", "credit_weights"]


def credit_weights(support_returns: Sequence[Tensor], query_returns: Tensor) -> list[Tensor]:
    """How much better than expected each task did after adaptation, for each support episode.

        weight = V̂_n − b,   b = mean return of the task's other episodes of the same phase
                               + mean over the other tasks of (V̂_m − their mean support return)

    The baseline b is independent of the episode that it belongs to, so the credit stays unbiased.
    Without a baseline its standard deviation is tens of times larger.

    Args:
        support_returns: of each phase of N tasks with E episodes, reward units. Each [N, E].
        query_returns: after adaptation, [N, E']; V̂_n is the mean of task n.

    Returns:
        One weight per support episode, for each phase [N, E].
    """
    adapted = query_returns.mean(1, keepdim=True)
    return [
        adapted - _leave_one_out(returns, 1)
        - _leave_one_out(adapted - returns.mean(1, keepdim=True), 0)
        for returns in support_returns
    ]  # fmt: skip


def credit_surrogate(log_probs: Tensor, weights: Tensor) -> Tensor:
    """The sampling credit: Σ over all support steps of weight · ℓ, to be ascended.

    Unbiased for J_II, added to the surrogate of the adapted policies, with inner steps by
    `log_prob`. The sum is over steps and episodes, as the probability of a support set is a
    product: a mean makes the term without effect. Its standard deviation does not fall with the
    number of support episodes. Costs one pass over the support data.

    Args:
        log_probs: ℓ of all support steps of a phase, 0 for padding. Shape [N, ...].
        weights: from `credit_weights`, constant along the steps of an episode. Shape [N, ...].

    Returns:
        One value per task, [N].

    Source: Al-Shedivat et al. 2018 (arXiv:1710.03641), eq. 7; Stadie et al. 2018
    (arXiv:1803.01118). Differs from the codes of E-MAML and ProMP, which take means: a baseline,
    and the sum.
    """
    return (log_probs * weights).flatten(1).sum(-1)


def _leave_one_out(values: Tensor, axis: int) -> Tensor:
    """Mean of all other entries along an axis; 0 if there are none."""
    others = values.shape[axis] - 1
    if others == 0:
        return torch.zeros_like(values)
    return (values.sum(axis, keepdim=True) - values) / others
