"""Navigation with a dense reward: a point in the plane moves to a hidden goal."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from metarl.tasks.family import fixed_tasks
from metarl.tasks.spaces import Tasks
from metarl.validation import lookup

from ..simulators.tensor import TensorFamily, Transition
from .plane import (
    both_coordinates,
    distance,
    move,
    render_point,
    set_plane_spaces,
    shortest_step,
    uniform_points,
)

__all__ = ["Navigation2D", "PointRobot"]


@dataclass(frozen=True)
class _Variant:
    goal_range: float  # half-width of the square in which goals are uniform
    max_displacement: float  # bound on each coordinate of a displacement, per step
    horizon: int
    source: str
    goal_tolerance: float = (
        0.0  # an episode ends if both coordinates are nearer to the goal than this
    )
    action_divisor: float = 1.0


_NAVIGATION = {
    "maml17": _Variant(
        goal_range=0.5,
        max_displacement=0.1,
        horizon=100,
        source="Finn et al. 2017 (arXiv:1703.03400)",
        goal_tolerance=0.01,
    ),
}

_POINT_ROBOT = {
    "pearl": _Variant(
        goal_range=1.0,
        max_displacement=0.1,
        horizon=20,
        source="Rakelly et al. 2019 (arXiv:1903.08254)",
        action_divisor=10.0,
    ),
}


_PEARL_SPLIT_SIZES = (80, 20)


@cache
def _pearl_goals() -> Tasks:
    """The goals of PEARL's code. Shape [100, 2]."""
    return np.random.RandomState(1337).uniform(-1.0, 1.0, (sum(_PEARL_SPLIT_SIZES), 2))


def _set_params(family: TensorFamily, variant: str, params: _Variant) -> None:
    family.variant, family.source = variant, params.source
    family.horizon, family.action_divisor = params.horizon, params.action_divisor
    goal = params.goal_range
    family.task_description = f"goal U(−{goal:g}, {goal:g})²"
    family.task_space = spaces.Box(-goal, goal, (2,), np.float64)
    set_plane_spaces(family, params.max_displacement)


class Navigation2D(TensorFamily):
    """A point starts at the origin; the reward is minus its distance to a hidden goal.

    Task: the goal, shape [2]. Observation: the position, [2]. Action: the displacement, [2],
    clipped. The reward uses the position after the step.
    The episode ends when both coordinates are within the tolerance of the variant.

    Source: Finn et al. 2017 (arXiv:1703.03400), sec. 5.3, and point_env_randgoal.py of their code,
    lines 15 to 45. Differs: their wrapper maps actions in ±1 to ±0.1 (maml_trpo_point.py, line 32);
    here, as in pytorch-maml-rl, actions are displacements and the divisor of actions is 1, so noise
    of the same standard deviation is ten times as large.
    """

    name: ClassVar[str] = "Navigation2D"
    variants: ClassVar[tuple[str, ...]] = tuple(_NAVIGATION)

    def __init__(self, variant: str) -> None:
        self._params = lookup("variant of Navigation2D", variant, _NAVIGATION)
        _set_params(self, variant, self._params)

    def initial_states(
        self, parameters: Tensor, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        del generator  # every episode starts at the origin
        return parameters.new_zeros(*shape, 2)

    def transition(
        self, states: Tensor, actions: Tensor, parameters: Tensor, generator: torch.Generator
    ) -> Transition:
        del generator
        positions = move(states, actions, self._params.max_displacement)
        offset = positions - parameters
        reached = both_coordinates(offset.abs() < self._params.goal_tolerance)
        return Transition(positions, -torch.linalg.vector_norm(offset, dim=-1), reached)

    def best_actions(self, states: Tensor, parameters: Tensor, time: Tensor) -> Tensor:
        del time
        return shortest_step(states, parameters, self._params.max_displacement)

    def render_state(
        self, state: NDArray[np.float64], task: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        return render_point(state, task, half_width=1.0, others=[(0, 0)])


class PointRobot(TensorFamily):
    """A point starts at random in a square; the reward is minus its distance to a hidden goal.

    Task: the goal, shape [2]. Observation: the position, [2]. Action: the displacement, [2],
    clipped. The start is uniform in the goals' square, and no episode ends before the horizon.

    The goals are a fixed list, 80 for training and 20 for testing, of seed 1337.

    Source: Rakelly et al. 2019 (arXiv:1903.08254), `PointEnv` of their code (point_robot.py, lines
    18 to 22 and 61 to 69; point-robot.json, lines 3 to 6).
    """

    name: ClassVar[str] = "PointRobot"
    variants: ClassVar[tuple[str, ...]] = tuple(_POINT_ROBOT)

    def __init__(self, variant: str) -> None:
        self._params = lookup("variant of PointRobot", variant, _POINT_ROBOT)
        _set_params(self, variant, self._params)
        self.task_description = "one of 100 goals in (−1, 1)² (20 for testing)"

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        return fixed_tasks(_pearl_goals(), _PEARL_SPLIT_SIZES, split, num_tasks, rng)

    def initial_states(
        self, parameters: Tensor, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        del parameters
        corner = self._params.goal_range
        return uniform_points((-corner, -corner), (corner, corner), shape, generator)

    def transition(
        self, states: Tensor, actions: Tensor, parameters: Tensor, generator: torch.Generator
    ) -> Transition:
        del generator
        positions = move(states, actions, self._params.max_displacement)
        return Transition(positions, -distance(positions, parameters))

    def best_actions(self, states: Tensor, parameters: Tensor, time: Tensor) -> Tensor:
        del time
        return shortest_step(states, parameters, self._params.max_displacement)

    def render_state(
        self, state: NDArray[np.float64], task: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        return render_point(state, task, half_width=2.0)
