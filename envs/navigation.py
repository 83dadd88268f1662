"""2D navigation: a point in the plane walks to a goal it is not told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.suggestions import known
from metarl.tasks import Tasks, uniform_tasks

from .tensor_family import TensorFamily, Transition

__all__ = ["Navigation2D"]


@dataclass(frozen=True)
class _Variant:
    goal_range: float  # goals are uniform in the square of this half width
    max_step: float  # bound on each coordinate of an action
    goal_tolerance: float  # an episode ends when both coordinates are nearer than this
    horizon: int
    action_scale: float
    source: str


_VARIANTS = {
    "maml17": _Variant(
        goal_range=0.5,
        max_step=0.1,
        goal_tolerance=0.01,
        horizon=100,
        action_scale=1.0,
        source="Finn et al. 2017 (arXiv:1703.03400)",
    ),
}


class Navigation2D(TensorFamily):
    """A point starts at the origin; the reward is minus its distance to a hidden goal.

    Task: the goal, shape [2]. Observation: the position, [2]. Action: the displacement, [2],
    clipped. The reward of a step is measured where the step leads.

    Source: Finn et al. 2017 (arXiv:1703.03400), sec. 5.3 and their point environment.
    """

    name: ClassVar[str] = "Navigation2D"
    variants: ClassVar[tuple[str, ...]] = tuple(_VARIANTS)

    def __init__(self, variant: str) -> None:
        self._numbers = numbers = known("variant of Navigation2D", variant, _VARIANTS)
        self.variant, self.source = variant, numbers.source
        self.task_description = f"goal U(−{numbers.goal_range:g}, {numbers.goal_range:g})²"
        self.observation_description = "the position"
        self.horizon = numbers.horizon
        self.action_scale = numbers.action_scale
        self.task_space = spaces.Box(-numbers.goal_range, numbers.goal_range, (2,), np.float64)
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Box(-numbers.max_step, numbers.max_step, (2,), np.float32)

    def initial_states(
        self, parameters: Tensor, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        del generator  # every episode starts at the origin
        return parameters.new_zeros(*shape, 2)

    def transition(
        self, states: Tensor, actions: Tensor, parameters: Tensor, generator: torch.Generator
    ) -> Transition:
        del generator
        reach = self._numbers.max_step
        positions = states + actions.clamp(-reach, reach)
        offset = positions - parameters
        reached = (offset.abs() < self._numbers.goal_tolerance).all(-1)
        return Transition(positions, -torch.linalg.vector_norm(offset, dim=-1), reached)

    def best_actions(self, states: Tensor, parameters: Tensor, time: Tensor) -> Tensor:
        """The longest allowed displacement towards the goal, in each coordinate."""
        del time
        reach = self._numbers.max_step
        return (parameters - states).clamp(-reach, reach)

    def _draw_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        del split  # train and test goals come from one distribution
        return uniform_tasks(self.task_space, num_tasks, rng)
