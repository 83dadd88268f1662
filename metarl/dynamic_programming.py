"""Optimal behaviour in small Markov decision processes that are known exactly."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from metarl.ranges import require_at_least

__all__ = ["Plan", "optimal_plan"]


class Plan(NamedTuple):
    """What to do in each state at each time, and what it is worth."""

    values: Tensor  # [..., T + 1, S]; the last are 0
    actions: Tensor  # [..., T, S] int64


def optimal_plan(rewards: Tensor, transitions: Tensor, horizon: int) -> Plan:
    """Best actions and values over a finite horizon, undiscounted.

        V_t(s) = max_a [ r(s, a) + Σ_s' P(s' | s, a) V_{t+1}(s') ],   V_T = 0

    With a single action per state these are the values of a fixed policy, whose r and P are those
    of its actions.

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
