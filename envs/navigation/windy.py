"""A point in the plane that is pushed by a wind it must find out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from metarl.tasks.family import listed_tasks, uniform_tasks
from metarl.tasks.spaces import Tasks
from metarl.validation import lookup

from ..simulators.tensor import TensorFamily, Transition
from .plane import distance, draw_point, moved, shortest_way, use_plane

__all__ = ["WindyPoint"]


class _Wind(NamedTuple):
    winds: Tensor  # [N, 1, 2]
    goal: Tensor  # [2]


@dataclass(frozen=True)
class _Windy:
    source: str
    num_fixed: tuple[int, int] | None = None  # of fixed winds, to train on and to test
    warning: str = ""


_WINDY = {
    "borel": _Windy(
        "Dorfman et al. 2021 (arXiv:2008.02598)",
        warning="their released code has no wind; the numbers are those of pomdp-baselines",
    ),
    "pomdp": _Windy(
        "Ni et al. 2022 (arXiv:2110.05038)",
        num_fixed=(40, 20),
        warning="their configuration speaks of 25 steps, their code takes 75",
    ),
}


class WindyPoint(TensorFamily):
    """A point walks to a fixed goal in a wind that it is not told.

        s' = s + a + wind,   r = 1 if ‖s' − (0, 1)‖ ≤ .03, else 0

    Task: the wind, shape [2]. Observation: the position, [2]. Action: the displacement, [2],
    clipped. The start is the origin, and no episode ends before the horizon. "pomdp" knows a
    fixed list of 60 winds: the first 40 are its split "train", the last 20 "test".

    Source: Ni et al. 2022 (arXiv:2110.05038), `WindEnv` of their code pomdp-baselines. Differs:
    that code shuffles the list before it is split.
    """

    name: ClassVar[str] = "WindyPoint"
    variants: ClassVar[tuple[str, ...]] = tuple(_WINDY)
    horizon = 75
    action_scale = 10.0  # their policies act in ±1, which is mapped to ±.1

    _STEP: ClassVar = 0.1
    _GOAL: ClassVar = (0.0, 1.0)
    _RADIUS: ClassVar = 0.03
    _STRONGEST: ClassVar = 0.08

    def __init__(self, variant: str) -> None:
        self._numbers = numbers = lookup("variant of WindyPoint", variant, _WINDY)
        self.variant, self.source, self.warning = variant, numbers.source, numbers.warning
        self.task_space = spaces.Box(-self._STRONGEST, self._STRONGEST, (2,), np.float64)
        drawn = f"wind U(−{self._STRONGEST:g}, {self._STRONGEST:g})² a step"
        self.task_description = drawn
        if numbers.num_fixed:
            train, test = numbers.num_fixed
            self.task_description = f"{drawn}, {train} fixed ones to train on, {test} to test"
        use_plane(self, self._STEP)

    def prepare(self, tasks: Tensor) -> _Wind:
        return _Wind(tasks.unsqueeze(1), tasks.new_tensor(self._GOAL))

    def initial_states(
        self, parameters: _Wind, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        del generator  # every episode starts at the origin
        return parameters.winds.new_zeros(*shape, 2)

    def transition(
        self, states: Tensor, actions: Tensor, parameters: _Wind, generator: torch.Generator
    ) -> Transition:
        del generator
        positions = moved(states, actions, self._STEP) + parameters.winds
        there = distance(positions, parameters.goal) <= self._RADIUS
        return Transition(positions, there.to(states.dtype))

    def best_actions(self, states: Tensor, parameters: _Wind, time: Tensor) -> Tensor:
        """To the goal as fast as the wind allows, then against the wind."""
        del time
        return shortest_way(states + parameters.winds, parameters.goal, self._STEP)

    def render_state(
        self, state: NDArray[np.float64], task: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        blown = [tuple(10 * share * task) for share in np.linspace(0, 1, 8)]  # 10 steps of wind
        radius = self._RADIUS
        return draw_point(state, self._GOAL, half_width=1.5, paid_radius=radius, others=blown)

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        if self._numbers.num_fixed is None:  # train and test winds come from one distribution
            return uniform_tasks(self.task_space, num_tasks, rng)
        train, test = self._numbers.num_fixed
        strongest = self._STRONGEST
        winds = np.random.RandomState(1337).uniform(-strongest, strongest, (train + test, 2))
        return listed_tasks(winds[:train] if split == "train" else winds[train:], num_tasks, rng)
