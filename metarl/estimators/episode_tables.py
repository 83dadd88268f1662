"""All episodes of a small MDP, and the derivatives of a surrogate on each of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.estimators.surrogates import Surrogate
from metarl.estimators.tabular import SmallMDP, state_values

__all__ = ["EpisodeSteps", "EpisodeTable", "episode_derivatives"]


class EpisodeSteps(NamedTuple):
    """Data of all K episodes as an estimator sees them, each [K, H]; see `ActedSteps`."""

    log_probs: Tensor
    advantages: Tensor
    rewards: Tensor
    values: Tensor
    times: Tensor


@dataclass(frozen=True)
class EpisodeTable:
    """All episodes with positive probability: K in total, H steps."""

    states: Tensor
    """[K, H] int64."""
    actions: Tensor
    """[K, H] int64."""
    log_dynamics: Tensor
    """Log-probability of the start and the transitions, without the actions, nats. Shape [K]."""

    @classmethod
    def of(cls, mdp: SmallMDP) -> EpisodeTable:
        """The possible episodes of an MDP, at most S^H · A^H, up to the action of step H."""
        num_states, num_actions = mdp.rewards.shape
        states, actions = (
            torch.tensor(list(itertools.product(range(size), repeat=mdp.horizon)))
            for size in (num_states, num_actions)
        )
        pairs = torch.cartesian_prod(torch.arange(len(states)), torch.arange(len(actions)))
        states, actions = states[pairs[:, 0]], actions[pairs[:, 1]]
        moves = mdp.transitions[states[:, :-1], actions[:, :-1], states[:, 1:]]
        log_dynamics = mdp.start[states[:, 0]].log() + moves.log().sum(-1)
        possible = log_dynamics.isfinite()
        return cls(states[possible], actions[possible], log_dynamics[possible])

    def log_probs(self, logits: Tensor) -> Tensor:
        """log π(a_t | s_t) of every step under a softmax policy [S, A], nats. Shape [K, H]."""
        return torch.log_softmax(logits, -1)[self.states, self.actions]

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probability of every episode under a softmax policy [S, A]. Shape [K], sum 1."""
        return torch.exp(self.log_dynamics + self.log_probs(logits).sum(-1))

    def steps(self, mdp: SmallMDP, logits: Tensor, *, baseline: bool = True) -> EpisodeSteps:
        """Data of all episodes under the policy θ; advantages are returns minus a baseline.

            A_t = Σ_{s ≥ t} γ^s r_s − γ^t b_t,   b_t = V_t(s_t), or 0

        Args:
            mdp: the MDP of this table.
            logits: θ of the policy that acts, [S, A].
            baseline: subtract the exact values of that policy.
        """
        times = torch.arange(mdp.horizon).expand_as(self.states)
        discounts = mdp.gamma ** times.to(mdp.rewards.dtype)
        rewards = discounts * mdp.rewards[self.states, self.actions]
        values = discounts * state_values(mdp, logits.detach())[times, self.states]
        values = values if baseline else torch.zeros_like(values)
        returns = rewards.flip(-1).cumsum(-1).flip(-1)
        log_probs = self.log_probs(logits.detach())
        return EpisodeSteps(log_probs, returns - values, rewards, values, times)


def episode_derivatives(
    surrogate: Surrogate, table: EpisodeTable, steps: EpisodeSteps, logits: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradient and Hessian at θ of a surrogate's sum over each episode.

    Args:
        surrogate: a function of `metarl.estimators.surrogates`.
        table: all episodes.
        steps: their data, from the policy that acted.
        logits: θ, shape [S, A]; P = S · A.

    Returns:
        Gradients [K, P] and Hessians [K, P, P].
    """

    def total(flat: Tensor, episode: tuple[Tensor, Tensor], own: tuple[Tensor, ...]) -> Tensor:
        log_probs = torch.log_softmax(flat.view_as(logits), -1)[episode]
        return surrogate(log_probs, EpisodeSteps(*own)).sum()

    def map_episodes(derivative: Callable[..., Tensor]) -> Tensor:
        mapped: Tensor = torch.func.vmap(derivative, (None, 0, 0))(flat, episodes, tuple(steps))
        return mapped

    flat, episodes = logits.detach().flatten(), (table.states, table.actions)
    gradient = torch.func.grad(total)
    return map_episodes(gradient), map_episodes(torch.func.jacrev(gradient))
