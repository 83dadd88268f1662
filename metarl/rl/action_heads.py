"""From a network's outputs to a distribution over actions, for every action space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import gymnasium
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.rl.distributions import Categorical, DiagonalGaussian, Distribution, MultiCategorical
from metarl.tasks.actions import encoded_size

__all__ = ["ActionHead"]


@dataclass(frozen=True)
class ActionHead:
    """Normal for boxes, with a learned standard deviation that ignores the state; categorical.

    The normal's mean and standard deviation are divided by `action_scale`, as in
    `metarl.rl.policies.GaussianPolicy`.
    """

    action_space: gymnasium.Space[Any]
    initial_std: float = 1.0
    min_std: float = 1e-6
    action_scale: float = 1.0

    @property
    def size(self) -> int:
        """Outputs that the network must give."""
        return encoded_size(self.action_space)

    def init(self, device: torch.device) -> dict[str, Tensor]:
        """Parameters beside the network's: `log_std` [A] for boxes, else none."""
        if not isinstance(self.action_space, spaces.Box):
            return {}
        return {"log_std": torch.full((self.size,), math.log(self.initial_std), device=device)}

    def distribution(self, outputs: Tensor, params: dict[str, Tensor]) -> Distribution:
        """The distribution of actions for outputs [..., size]."""
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            return Categorical(outputs)
        if isinstance(space, spaces.MultiDiscrete):
            return MultiCategorical(outputs, tuple(space.nvec.tolist()))
        log_std = params["log_std"].clamp(min=math.log(self.min_std)) - math.log(self.action_scale)
        return DiagonalGaussian(outputs / self.action_scale, log_std.expand_as(outputs))
