"""Exact measurement of meta-gradient estimators in MDPs whose episodes can be enumerated.

A support set of B episodes is a vector of counts over the K possible episodes. One inner step
θ' = θ + α ĝ follows, and the outer gradient ∇V(θ') is exact, so that only the inner estimator is
judged. There are two objectives:

    J_I(θ)  = V(θ + α ∇V(θ)),                       the inner step with the exact gradient
    J_II(θ) = E[V(θ + α ĝ(θ; τ_1 … τ_B))],          the inner step that is really taken

The gradient of J_II has a second term because θ also decides which episodes are sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from metarl.estimators.episode_tables import EpisodeTable, episode_derivatives
from metarl.estimators.support_sets import SupportSets
from metarl.estimators.surrogates import Surrogate
from metarl.estimators.tabular import (
    SmallMDP,
    expected_return,
    return_gradient,
    return_hessian,
)

__all__ = ["Credit", "InnerStep", "Laboratory", "Measurement"]


@dataclass(frozen=True)
class Credit:
    """The credit for sampling, factor · (V(θ') − b) Σ ∇ log p(τ) over the support set."""

    factor: float = 1.0
    """1: the derivative of J_II."""
    has_baseline: bool = True
    """b: the mean of V(θ') over support sets; else 0."""


@dataclass(frozen=True)
class InnerStep:
    """Derivatives of the inner objective: one for each of the K episodes, P parameters."""

    gradients: Tensor
    """[K, P]."""
    hessians: Tensor
    """[K, P, P]."""


@dataclass(frozen=True)
class Measurement:
    """Errors of one estimator, relative to ‖∇J_I‖."""

    bias_exact_step: float
    """‖E[estimate] − ∇J_I‖."""
    bias_sampled_step: float
    """‖E[estimate] − ∇J_II‖."""
    gap_of_objectives: float
    """‖∇J_II − ∇J_I‖."""
    std: float
    """√(E‖estimate − E[estimate]‖²) of the estimate from one task."""

    def relative_error(self, num_tasks: int) -> float:
        """Root mean square error to ∇J_I of the mean over tasks."""
        return float((self.bias_exact_step**2 + self.std**2 / num_tasks) ** 0.5)


class Laboratory:
    """One MDP and one softmax policy, with everything that is exact about them."""

    def __init__(self, mdp: SmallMDP, logits: Tensor, *, inner_lr: float) -> None:
        """Enumerate the episodes.

        Args:
            mdp: the MDP, in float64.
            logits: θ, shape [S, A], float64.
            inner_lr: α, of an inner objective that sums over steps and averages over episodes.
        """
        self.mdp, self.logits, self.inner_lr = mdp, logits.detach(), inner_lr
        self.table = EpisodeTable.of(mdp)

    @cached_property
    def probabilities(self) -> Tensor:
        """Of all episodes. Shape [K]."""
        return self.table.probabilities(self.logits)

    @cached_property
    def scores(self) -> Tensor:
        """∇ log p of all episodes. Shape [K, P]."""
        jacobian = torch.func.jacrev(lambda logits: self.table.log_probs(logits).sum(-1))
        scores: Tensor = jacobian(self.logits).flatten(1)
        return scores

    @cached_property
    def hessian(self) -> Tensor:
        """∇²V(θ). Shape [P, P]."""
        return return_hessian(self.mdp, self.logits)

    @cached_property
    def exact_step_gradient(self) -> Tensor:
        """∇J_I. Shape [P]."""
        step = self.inner_lr * return_gradient(self.mdp, self.logits)
        outer = return_gradient(self.mdp, self.logits + step).flatten()
        return outer + self.inner_lr * self.hessian @ outer

    def inner_step(self, surrogate: Surrogate, *, baseline: bool = True) -> InnerStep:
        """Derivatives of a surrogate, summed over the steps of each episode."""
        steps = self.table.steps(self.mdp, self.logits, baseline=baseline)
        return InnerStep(*episode_derivatives(surrogate, self.table, steps, self.logits))

    def estimates(
        self, inner: InnerStep, sets: SupportSets, credit: Credit | None = None
    ) -> Tensor:
        """The meta-gradient that each support set gives. Shape [M, P]."""
        outer, returns = self._outer(inner, sets)
        curvature = sets.mean_of(inner.hessians)
        estimates = outer + self.inner_lr * torch.einsum("mpq,mp->mq", curvature, outer)
        if credit is None:
            return estimates
        baseline = sets.expectation(returns) if credit.has_baseline else 0
        score_sums = sets.mean_of(self.scores) * sets.size
        return estimates + credit.factor * (returns - baseline).unsqueeze(-1) * score_sums

    def sampled_step_gradient(self, plain: InnerStep, sets: SupportSets) -> Tensor:
        """∇J_II, in which advantages are constants of the data. Shape [P].

        The part of the sampling term that is linear in ĝ is computed exactly and used as a control
        variate, so that few sampled support sets are enough.

        Args:
            plain: derivatives of `log_prob` with the advantages of the inner step.
            sets: support sets; exact if they are.
        """
        mean = self.probabilities @ plain.gradients
        slope = self.inner_lr * return_gradient(self.mdp, self._moved(mean)).flatten()
        along = (plain.gradients - mean) @ slope  # [K]
        _, returns = self._outer(plain, sets)
        rest = returns - sets.expectation(returns) - sets.mean_of(along)
        score_sums = sets.mean_of(self.scores) * sets.size
        sampling = (self.probabilities * along) @ self.scores
        sampling = sampling + sets.expectation(rest.unsqueeze(-1) * score_sums)
        return sets.expectation(self.estimates(plain, sets)) + sampling

    def measure(
        self,
        inner: InnerStep,
        sets: SupportSets,
        sampled_step_gradient: Tensor,
        credit: Credit | None = None,
    ) -> Measurement:
        """Bias to both objectives and standard deviation of one estimator.

        Args:
            inner: derivatives of the estimator's surrogate.
            sets: support sets.
            sampled_step_gradient: ∇J_II for the same advantages and number of episodes.
            credit: the credit for sampling, if the estimator has one.
        """
        estimates = self.estimates(inner, sets, credit)
        mean = sets.expectation(estimates)
        spread = sets.expectation((estimates - mean).square().sum(-1)).sqrt()
        exact, scale = self.exact_step_gradient, self.exact_step_gradient.norm()
        return Measurement(
            float((mean - exact).norm() / scale),
            float((mean - sampled_step_gradient).norm() / scale),
            float((sampled_step_gradient - exact).norm() / scale),
            float(spread / scale),
        )

    def _outer(self, inner: InnerStep, sets: SupportSets) -> tuple[Tensor, Tensor]:
        """∇V(θ') [M, P] and V(θ') [M] after the inner step of each support set."""
        moved = self._moved(sets.mean_of(inner.gradients))
        return return_gradient(self.mdp, moved).flatten(-2), expected_return(self.mdp, moved)

    def _moved(self, gradients: Tensor) -> Tensor:
        """θ + α g for gradients [..., P]. Shape [..., S, A]."""
        step = gradients.view(*gradients.shape[:-1], *self.logits.shape)
        return self.logits + self.inner_lr * step
