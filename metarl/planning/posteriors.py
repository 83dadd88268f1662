"""Exact posteriors of tasks under conjugate priors, and samples from them.

Bernoulli rewards have a Beta prior, transitions a Dirichlet prior, and mean rewards with Gaussian
noise of variance 1 a Gaussian prior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.validation import require_between

__all__ = [
    "MDPPosterior",
    "MDPPrior",
    "sample_beta",
    "sample_dirichlet",
    "sample_mdp",
    "mean_mdp",
    "update_posterior",
]


def sample_dirichlet(concentrations: Tensor, generator: torch.Generator) -> Tensor:
    """Sample from Dirichlet distributions.

        p = g / Σ_i g_i,   g_i ~ Gamma(α_i, 1)

    If an α is below 1, log g is sampled instead, as log Gamma(α + 1) + log(U) / α with U ~ U(0, 1):
    for an α far below 1 all g would underflow.

    Args:
        concentrations: α > 0, float. Shape [..., S].
        generator: random generator on the same device.

    Returns:
        Distributions over the last axis, shape [..., S].
    """
    small = concentrations < 1
    gammas = torch._standard_gamma(concentrations + small, generator=generator)
    if not small.any():
        return gammas / gammas.sum(-1, keepdim=True)
    uniform = 1 - torch.rand(
        gammas.shape, generator=generator, device=gammas.device, dtype=gammas.dtype
    )  # (0, 1]
    return (gammas.log() + torch.where(small, uniform.log() / concentrations, 0)).softmax(-1)


def sample_beta(successes: Tensor, failures: Tensor, generator: torch.Generator) -> Tensor:
    """Sample from Beta(successes, failures), both above 0. Shape [...]."""
    return sample_dirichlet(torch.stack([successes, failures], dim=-1), generator)[..., 0]


@dataclass(frozen=True)
class MDPPrior:
    """Prior of tabular Markov decision processes, with the same parameters for all (s, a)."""

    reward_mean: float = 1.0
    """μ_0 of m(s, a) ~ N(μ_0, 1 / τ_0), reward units."""
    reward_precision: float = 1.0
    """τ_0, in units of one observation, whose noise has variance 1."""
    concentration: float = 1.0
    """α_0 of P(· | s, a) ~ Dirichlet(α_0, …, α_0)."""

    def __post_init__(self) -> None:
        require_between("reward_mean", self.reward_mean, -float("inf"), float("inf"))
        for name in ("reward_precision", "concentration"):
            require_between(name, getattr(self, name), 0, float("inf"), open_low=True)

    def posterior(
        self,
        batch_shape: tuple[int, ...],
        num_states: int,
        num_actions: int,
        device: torch.device | str,
    ) -> MDPPosterior:
        """The belief about each process before any data, with leading axes `batch_shape`."""
        pairs = (*batch_shape, num_states, num_actions)
        return MDPPosterior(
            torch.full(pairs, self.reward_mean, device=device, dtype=torch.float32),
            torch.full(pairs, self.reward_precision, device=device, dtype=torch.float32),
            torch.full(
                (*pairs, num_states), self.concentration, device=device, dtype=torch.float32
            ),
        )


class MDPPosterior(NamedTuple):
    """Beliefs about tabular Markov decision processes: m ~ N(μ, 1 / τ), P ~ Dirichlet(α)."""

    reward_means: Tensor  # μ [..., S, A]
    reward_precisions: Tensor  # τ [..., S, A]
    concentrations: Tensor  # α [..., S, A, S]


def update_posterior(
    belief: MDPPosterior,
    states: Tensor,
    actions: Tensor,
    rewards: Tensor,
    *,
    next_states: Tensor,
    continues: Tensor,
) -> MDPPosterior:
    """The belief after one more transition of each process.

        τ ← τ + 1,   μ ← μ + (r − μ) / τ,   α(s, a, s') ← α(s, a, s') + 1

    Args:
        belief: the belief before the transition, leading axes [...].
        states: s, int64. Shape [...].
        actions: a, int64. Shape [...].
        rewards: r. Shape [...].
        next_states: s', int64. Shape [...].
        continues: bool, false if s' was not observed because the episode ended. Shape [...].

    Source: Murphy 2007, "Conjugate Bayesian analysis of the Gaussian distribution", sec. 2.
    """
    num_states, num_actions = belief.reward_means.shape[-2:]
    pairs = (states * num_actions + actions).unsqueeze(-1)
    triples = pairs * num_states + next_states.unsqueeze(-1)
    means, precisions = belief.reward_means.flatten(-2), belief.reward_precisions.flatten(-2)
    precisions = precisions.scatter_add(-1, pairs, torch.ones_like(means[..., :1]))
    errors = rewards.to(means).unsqueeze(-1) - means.gather(-1, pairs)
    means = means.scatter_add(-1, pairs, errors / precisions.gather(-1, pairs))
    counted = continues.to(means).unsqueeze(-1)
    concentrations = belief.concentrations.flatten(-3).scatter_add(-1, triples, counted)
    return MDPPosterior(
        means.view_as(belief.reward_means),
        precisions.view_as(belief.reward_precisions),
        concentrations.view_as(belief.concentrations),
    )


def sample_mdp(belief: MDPPosterior, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sample mean rewards [..., S, A] and transitions [..., S, A, S] from a belief."""
    means, precisions, concentrations = belief
    noise = torch.randn(means.shape, generator=generator, device=means.device, dtype=means.dtype)
    return means + noise / precisions.sqrt(), sample_dirichlet(concentrations, generator)


def mean_mdp(belief: MDPPosterior) -> tuple[Tensor, Tensor]:
    """Mean rewards [..., S, A] and transitions [..., S, A, S] that a belief expects."""
    concentrations = belief.concentrations
    return belief.reward_means, concentrations / concentrations.sum(-1, keepdim=True)
