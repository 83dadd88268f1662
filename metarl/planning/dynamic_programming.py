"""Optimal policies and action values of small Markov decision processes.

The model is known, has exploration bonuses, or is the best process of a confidence set. All
functions assume a finite horizon without discount, and are vectorized over leading axes: all
processes of a batch are planned at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.validation import require_at_least

__all__ = ["Plan", "optimal_plan", "action_values", "bonus_action_values", "extended_action_values"]


class Plan(NamedTuple):
    """Optimal values and actions of each state at each time."""

    values: Tensor  # [..., T + 1, S]; values at time T are 0
    actions: Tensor  # [..., T, S] int64


def optimal_plan(rewards: Tensor, transitions: Tensor, horizon: int) -> Plan:
    """Best actions and values over a finite horizon, undiscounted.

        V_t(s) = max_a [ r(s, a) + Σ_s' P(s' | s, a) V_{t+1}(s') ],   V_T = 0

    With a single action per state these are the values of a fixed policy, if r and P are rewards
    and transitions of its actions.

    Args:
        rewards: expected reward r(s, a), reward units. Shape [..., S, A].
        transitions: P(s' | s, a), each row adding up to 1. Shape [..., S, A, S].
        horizon: T, steps of an episode.

    Returns:
        V_t for t = 0 … T, and the actions that attain them (the first of several), for t < T.

    Raises:
        ValueError: if the shapes do not fit or the horizon is below 1.

    Source: Puterman 1994, sec. 4.5 (backward induction).
    """
    require_at_least("horizon", horizon, 1)
    if rewards.ndim < 2 or transitions.shape != (*rewards.shape, rewards.shape[-2]):
        raise ValueError(
            "transitions must have shape [..., states, actions, states] over rewards "
            f"[..., states, actions], got {tuple(transitions.shape)} over {tuple(rewards.shape)}"
        )
    rows = transitions.flatten(-3, -2)  # [..., S · A, S]
    values = [torch.zeros_like(rewards[..., 0])]
    actions = []
    for _ in range(horizon):
        expected_next = (rows @ values[-1].unsqueeze(-1)).view_as(rewards)
        best = (rewards + expected_next).max(dim=-1)
        values.append(best.values)
        actions.append(best.indices)
    return Plan(torch.stack(values[::-1], -2), torch.stack(actions[::-1], -2))


def action_values(rewards: Tensor, transitions: Tensor, horizon: int) -> Tensor:
    """Optimal values of actions under a model.

        Q_t(s, a) = r(s, a) + Σ_s' P(s' | s, a) max_a' Q_{t+1}(s', a'),   Q_T = 0

    Args:
        rewards: expected reward r(s, a), reward units. Shape [..., S, A].
        transitions: P(s' | s, a), each row adding up to 1. Shape [..., S, A, S].
        horizon: T, steps of an episode.

    Returns:
        Q_t for t = 0 … T − 1, shape [..., T, S, A].

    Raises:
        ValueError: if the shapes do not fit or the horizon is below 1.
    """
    later = optimal_plan(rewards, transitions, horizon).values[..., 1:, :]  # [..., T, S]
    expected = transitions.flatten(-3, -2) @ later.transpose(-2, -1)  # [..., S · A, T]
    batch_shape, pairs = rewards.shape[:-2], rewards.shape[-2:]
    return rewards.unsqueeze(-3) + expected.transpose(-2, -1).reshape(*batch_shape, horizon, *pairs)


def bonus_action_values(
    rewards: Tensor, transitions: Tensor, bonus: Tensor, bonus_per_step: Tensor, horizon: int
) -> Tensor:
    """Action values under a model with bonuses for uncertain rewards and transitions.

        Q_t(s, a) = r(s, a) + b(s, a) + (T − 1 − t) c(s, a) + Σ_s' P(s' | s, a) max_a' Q_{t+1}

    Args:
        rewards: r. Shape [..., S, A].
        transitions: P. Shape [..., S, A, S].
        bonus: b, bonus for the reward. Shape [..., S, A].
        bonus_per_step: c, bonus for the transition, per step that is left after this one.
            Shape [..., S, A].
        horizon: T.

    Returns:
        Q_t, shape [..., T, S, A].

    Raises:
        ValueError: if the horizon is below 1.
    """
    rows = transitions.flatten(-3, -2)

    def backup(values: Tensor, left: int) -> Tensor:
        expected = (rows @ values.unsqueeze(-1)).view_as(rewards)
        return rewards + bonus + left * bonus_per_step + expected

    return _backward_induction(backup, rewards, horizon)


def extended_action_values(
    rewards: Tensor,
    transitions: Tensor,
    reward_slack: Tensor,
    transition_slack: Tensor,
    horizon: int,
) -> Tensor:
    """Values of actions in the best process that confidence sets allow.

        Q_t(s, a) = r(s, a) + δ_r(s, a) + max_q Σ_s' q(s') max_a' Q_{t+1}(s', a')
        over distributions q with ‖q − P(· | s, a)‖₁ ≤ δ_P(s, a)

    The inner maximum gives half the slack to the best next state and takes it from the worst.

    Args:
        rewards: r. Shape [..., S, A].
        transitions: P. Shape [..., S, A, S].
        reward_slack: δ_r, reward units. Shape [..., S, A].
        transition_slack: δ_P, in probability. Shape [..., S, A].
        horizon: T.

    Returns:
        Q_t, shape [..., T, S, A].

    Raises:
        ValueError: if the horizon is below 1.

    Source: Jaksch et al. 2010, fig. 2 (the inner maximum of extended value iteration).
    """

    def backup(values: Tensor, left: int) -> Tensor:
        del left
        order = values.argsort(dim=-1, descending=True)  # [..., S]
        best_first = values.gather(-1, order)
        index = order[..., None, None, :].expand_as(transitions)
        probs = transitions.gather(-1, index)
        best = (probs[..., :1] + transition_slack.unsqueeze(-1) / 2).clamp(max=1)
        # In order of value, the other states keep their probability until the total reaches 1.
        kept = probs[..., 1:].cumsum(-1).minimum(1 - best)
        probs = torch.cat([best, kept.diff(dim=-1, prepend=torch.zeros_like(best))], dim=-1)
        expected = (probs * best_first[..., None, None, :]).sum(-1)
        return rewards + reward_slack + expected

    return _backward_induction(backup, rewards, horizon)


def _backward_induction(
    backup: Callable[[Tensor, int], Tensor], like: Tensor, horizon: int
) -> Tensor:
    """Q_t [..., T, S, A] from a backup (values [..., S], steps left) ↦ [..., S, A]."""
    require_at_least("horizon", horizon, 1)
    values = torch.zeros_like(like[..., 0])
    steps = []
    for left in range(horizon):
        steps.append(backup(values, left))
        values = steps[-1].amax(-1)
    return torch.stack(steps[::-1], dim=-3)
