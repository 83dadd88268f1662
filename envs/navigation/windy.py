"""Navigation to a known goal in a hidden constant wind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from metarl.tasks.family import fixed_tasks, uniform_tasks
from metarl.tasks.spaces import Tasks
from metarl.validation import lookup

from ..simulators.tensor import TensorFamily, Transition
from .plane import distance, move, render_point, set_plane_spaces, shortest_step

__all__ = ["WindyPoint"]


class _WindTasks(NamedTuple):
    winds: Tensor  # [N, 1, 2]
    goal: Tensor  # [2]


@dataclass(frozen=True)
class _Variant:
    source: str
    # Sizes of the fixed lists of winds for training and testing; None: winds are sampled.
    split_sizes: tuple[int, int] | None = None
    warning: str = ""


_WINDY = {
    "borel": _Variant(
        "Dorfman et al. 2021 (arXiv:2008.02598)",
        warning="the released code has no wind; the parameters are from pomdp-baselines",
    ),
    "pomdp": _Variant(
        "Ni et al. 2022 (arXiv:2110.05038)",
        split_sizes=(40, 20),
        warning="the configuration states 25 steps, but the code takes 75",
    ),
}


class WindyPoint(TensorFamily):
    """A point moves to a fixed goal in a hidden wind.

        s' = s + a + wind,   r = 1 if ‖s' − (0, 1)‖ ≤ 0.03, else 0

    Task: the wind, shape [2]. Observation: the position, [2]. Action: the displacement, [2],
    clipped. The start is the origin, and no episode ends before the horizon. "pomdp" has a
    fixed list of 60 winds: the first 40 are the split "train", the last 20 the split "test".

    Source: Ni et al. 2022 (arXiv:2110.05038), `WindEnv` of their code pomdp-baselines. Differs:
    that code shuffles the list before splitting it.
    """

    name: ClassVar[str] = "WindyPoint"
    variants: ClassVar[tuple[str, ...]] = tuple(_WINDY)
    horizon = 75
    action_divisor = 10.0  # policies in the sources act in ±1, which is mapped to ±0.1

    _MAX_DISPLACEMENT: ClassVar = 0.1
    _GOAL: ClassVar = (0.0, 1.0)
    _RADIUS: ClassVar = 0.03
    _MAX_WIND: ClassVar = 0.08

    def __init__(self, variant: str) -> None:
        self._params = params = lookup("variant of WindyPoint", variant, _WINDY)
        self.variant, self.source, self.warning = variant, params.source, params.warning
        self.task_space = spaces.Box(-self._MAX_WIND, self._MAX_WIND, (2,), np.float64)
        wind = f"wind U(−{self._MAX_WIND:g}, {self._MAX_WIND:g})² per step"
        self.task_description = wind
        if params.split_sizes:
            train, test = params.split_sizes
            self.task_description = f"{wind}, {train} fixed for training, {test} for testing"
        set_plane_spaces(self, self._MAX_DISPLACEMENT)

    def prepare(self, tasks: Tensor) -> _WindTasks:
        return _WindTasks(tasks.unsqueeze(1), tasks.new_tensor(self._GOAL))

    def initial_states(
        self, parameters: _WindTasks, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        del generator  # every episode starts at the origin
        return parameters.winds.new_zeros(*shape, 2)

    def transition(
        self, states: Tensor, actions: Tensor, parameters: _WindTasks, generator: torch.Generator
    ) -> Transition:
        del generator
        positions = move(states, actions, self._MAX_DISPLACEMENT) + parameters.winds
        at_goal = distance(positions, parameters.goal) <= self._RADIUS
        return Transition(positions, at_goal.to(states.dtype))

    def best_actions(self, states: Tensor, parameters: _WindTasks, time: Tensor) -> Tensor:
        """Move to the goal as fast as the wind allows, then stay there against the wind."""
        del time
        return shortest_step(states + parameters.winds, parameters.goal, self._MAX_DISPLACEMENT)

    def render_state(
        self, state: NDArray[np.float64], task: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        drift = [tuple(10 * share * task) for share in np.linspace(0, 1, 8)]  # 10 steps of wind
        radius = self._RADIUS
        return render_point(state, self._GOAL, half_width=1.5, reward_radius=radius, others=drift)

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        if self._params.split_sizes is None:  # train and test winds come from one distribution
            return uniform_tasks(self.task_space, num_tasks, rng)
        shape, max_wind = (sum(self._params.split_sizes), 2), self._MAX_WIND
        winds = np.random.RandomState(1337).uniform(-max_wind, max_wind, shape)
        return fixed_tasks(winds, self._params.split_sizes, split, num_tasks, rng)
