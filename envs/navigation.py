"""2D navigation: a point in the plane walks to a goal it is not told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from torch import Tensor

from metarl.ranges import require_at_least
from metarl.suggestions import unknown_name
from metarl.tasks import Step, TaskFamily, Tasks

__all__ = ["Navigation2D"]


@dataclass(frozen=True)
class _Variant:
    goal_range: float  # goals are uniform in the square of this half width
    max_step: float  # bound on each coordinate of an action
    goal_tolerance: float  # an episode ends when both coordinates are nearer than this
    horizon: int
    action_scale: float
    description: str


_VARIANTS = {
    "maml17": _Variant(
        goal_range=0.5,
        max_step=0.1,
        goal_tolerance=0.01,
        horizon=100,
        action_scale=1.0,
        description="goal U(-.5,.5)², reward −distance, 100 steps, observes the position "
        "(Finn et al. 2017)",
    ),
}


class Navigation2D(TaskFamily):
    """A point starts at the origin; the reward is minus its distance to a hidden goal.

    Task: the goal, shape [2]. Observation: the position, [2]. Action: the displacement, [2],
    clipped. The reward of a step is measured where the step leads.

    Source: Finn et al. 2017 (arXiv:1703.03400), sec. 5.3 and their point environment.
    """

    name: ClassVar[str] = "Navigation2D"

    def __init__(self, variant: str) -> None:
        if variant not in _VARIANTS:
            raise ValueError(unknown_name("variant of Navigation2D", variant, _VARIANTS))
        self.variant = variant
        self._numbers = numbers = _VARIANTS[variant]
        self.description = numbers.description
        self.horizon = numbers.horizon
        self.action_scale = numbers.action_scale
        self.task_space = spaces.Box(-numbers.goal_range, numbers.goal_range, (2,), np.float64)
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Box(-numbers.max_step, numbers.max_step, (2,), np.float32)

    def make_batch(
        self, tasks: Tasks, *, num_envs: int, device: torch.device | str = "cpu"
    ) -> NavigationBatch:
        goals = torch.as_tensor(self.check_tasks(tasks), dtype=torch.float32, device=device)
        return NavigationBatch(goals, num_envs, self)

    def oracle(
        self, tasks: Tasks, *, device: torch.device | str = "cpu"
    ) -> Callable[[Tensor], Tensor]:
        """The optimum: the longest allowed displacement towards the goal, in each coordinate."""
        goals = torch.as_tensor(self.check_tasks(tasks), dtype=torch.float32, device=device)
        reach = self._numbers.max_step
        return lambda positions: (goals.unsqueeze(1) - positions).clamp(-reach, reach)

    @property
    def goal_tolerance(self) -> float:
        """An episode ends when both coordinates are nearer to the goal than this."""
        return self._numbers.goal_tolerance

    @property
    def max_step(self) -> float:
        """Bound on each coordinate of a displacement."""
        return self._numbers.max_step

    def _draw_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        del split  # train and test goals come from one distribution
        return rng.uniform(self.task_space.low, self.task_space.high, (num_tasks, 2))


class NavigationBatch:
    """All points of all tasks as one tensor [tasks, envs, 2]."""

    autoreset_mode: ClassVar[AutoresetMode] = AutoresetMode.DISABLED

    def __init__(self, goals: Tensor, num_envs: int, family: Navigation2D) -> None:
        require_at_least("num_envs", num_envs, 1)
        self.num_tasks, self.num_envs = goals.shape[0], num_envs
        self.horizon = family.horizon
        self.observation_space, self.action_space = family.observation_space, family.action_space
        self._goals = goals.unsqueeze(1)
        self._max_step, self._tolerance = family.max_step, family.goal_tolerance
        self._positions = goals.new_zeros(self.num_tasks, num_envs, 2)
        self._time = 0

    def reset(self, generator: torch.Generator) -> Tensor:
        del generator  # every episode starts at the origin
        self._positions = torch.zeros_like(self._positions)
        self._time = 0
        return self._positions

    def step(self, actions: Tensor) -> Step:
        self._time += 1
        self._positions = self._positions + actions.clamp(-self._max_step, self._max_step)
        offset = self._positions - self._goals
        reward = -torch.linalg.vector_norm(offset, dim=-1)
        terminated = (offset.abs() < self._tolerance).all(-1)
        truncated = torch.full_like(terminated, self._time >= self.horizon)
        return Step(self._positions, reward, terminated, truncated)

    def close(self) -> None:
        """Nothing to free."""
