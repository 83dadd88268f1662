"""Discrete actions: their spaces, and as numbers a net can read."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import gymnasium
import torch
from gymnasium import spaces
from torch import Tensor

__all__ = ["require_action_indices", "encode_actions", "encoded_size"]


def require_action_indices(actions: Tensor, lead: tuple[int, ...]) -> None:
    """Refuse actions that are not one int64 index for each environment.

    Looks at dtype and shape only, which costs under a microsecond; whether the indices are in
    range is not looked at, as that would wait for the device at every step.

    Args:
        actions: as the agent gave them.
        lead: the shape wanted, [N, E].

    Raises:
        TypeError: if the actions are not int64.
        ValueError: if their shape differs.

    >>> require_action_indices(torch.tensor([[2, 0]]), (1, 2))
    """
    if actions.dtype != torch.int64:
        raise TypeError(f"actions must be int64 indices, got {actions.dtype}")
    if actions.shape != lead:
        raise ValueError(
            f"actions must have shape {tuple(lead)} (tasks, envs), got {tuple(actions.shape)}"
        )


def encoded_size(space: gymnasium.Space[Any]) -> int:
    """Numbers per action.

    Raises:
        TypeError: if the space is neither a flat Box, Discrete from 0 nor flat MultiDiscrete from
            0.
    """
    if isinstance(space, spaces.Discrete) and space.start == 0:
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1 and not space.start.any():
        return int(space.nvec.sum())
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return int(space.shape[0])
    raise TypeError(
        f"action_space must be Discrete or MultiDiscrete from 0 or a flat Box, got {space}"
    )


def encode_actions(space: gymnasium.Space[Any], actions: Tensor) -> Tensor:
    """Actions [..., A], or [...] int64 where discrete, as float32 [..., encoded size].

    >>> encode_actions(spaces.Discrete(3), torch.tensor([2, 0]))
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    >>> encode_actions(spaces.MultiDiscrete([2, 3]), torch.tensor([1, 2]))
    tensor([0., 1., 0., 0., 1.])
    """
    if isinstance(space, spaces.Discrete):
        return torch.eye(int(space.n), device=actions.device)[actions]
    if isinstance(space, spaces.MultiDiscrete):
        ends = [0, *space.nvec.cumsum().tolist()]
        rows = torch.eye(ends[-1], device=actions.device)
        parts = [
            rows[actions[..., k] + low, low:high] for k, (low, high) in enumerate(pairwise(ends))
        ]
        return torch.cat(parts, dim=-1)
    return actions.to(torch.float32)
