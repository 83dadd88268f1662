"""A task family with a long horizon and short episodes, to measure the cost of padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.envs.simulators.tensor import TensorFamily, Transition
from metarl.validation import require_at_least

__all__ = ["ShortEpisodes"]


class ShortEpisodes(TensorFamily):
    """A point moves to a hidden goal; a limit on the steps of each episode is drawn at its start.

    The horizon has no influence on the episodes unless it is below the limit.
    """

    name = "ShortEpisodes"
    variant = "benchmark"
    task_space = spaces.Box(-1.0, 1.0, (2,), np.float64)
    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-0.1, 0.1, (2,), np.float32)
    task_description = "a goal in the square"
    observation_description = "position"
    source = "this benchmark"

    def __init__(self, horizon: int, *, shortest: int = 10, longest: int = 10) -> None:
        """
        Args:
            horizon: steps after which every episode is truncated.
            shortest: minimum limit on the steps of an episode.
            longest: maximum limit; limits are uniform between the two.
        """
        require_at_least("shortest", shortest, 1)
        require_at_least("longest", longest, shortest)
        self.horizon, self._limits = horizon, (shortest, longest + 1)

    def initial_states(
        self,
        parameters: Any,  # noqa: ARG002
        shape: tuple[int, int],
        generator: torch.Generator,
    ) -> Tensor:
        left = torch.randint(*self._limits, (*shape, 1), generator=generator)
        position = torch.zeros(*shape, 2, device=left.device)
        return torch.cat([position, left.float()], -1)

    def transition(
        self,
        states: Tensor,
        actions: Tensor,
        parameters: Any,
        generator: torch.Generator,  # noqa: ARG002
    ) -> Transition:
        position, left = states[..., :2] + actions.clamp(-0.1, 0.1), states[..., 2:] - 1
        rewards = -torch.linalg.vector_norm(position - parameters, dim=-1)
        return Transition(torch.cat([position, left], -1), rewards, left.squeeze(-1) <= 0)

    def observe(self, states: Tensor) -> Tensor:
        return states[..., :2]
