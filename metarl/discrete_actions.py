"""Discrete actions as environments take them: one index an environment."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["require_action_indices"]


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
