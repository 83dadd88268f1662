"""Ant families whose task is a goal in the plane."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import ClassVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.tasks.family import fixed_tasks, listed_tasks, uniform_tasks
from metarl.tasks.spaces import Tasks
from metarl.validation import lookup

from ..simulators.mujoco_batch import Array
from ..simulators.mujoco_family import ControlStep, MujocoFamily, RobotSpec, States
from .ant_body import (
    GYMNASIUM_ROBOT,
    AntParams,
    apply_params,
    costs,
    fallen,
    observe,
    plane_position,
)

__all__ = ["AntGoal", "AntGoalSparse"]

_GOAL_RANGE = (
    3.0  # radius of the disc, or half-width of the square, that contains the goals, meters
)

_CAVIA = AntParams(
    "Zintgraf et al. 2019 (arXiv:1810.03642)",
    125,
    control_cost=0.005,
    survive=4.05,
    min_torso_height=0.2,
)
_RAKELLY = AntParams("Rakelly et al. 2019 (arXiv:1903.08254)", 113, control_cost=0.1)

_GOAL = {
    "maml17": replace(
        _CAVIA,
        source="Finn et al. 2017 (arXiv:1703.03400)",
        is_rllab=True,
        warning="in version 0.1.0, this name stood for AntGoal:cavia, so results of that version "
        "belong to it",
    ),
    "cavia": _CAVIA,
    "pytorch-maml-rl": replace(
        _CAVIA, source="Deleu, pytorch-maml-rl", horizon=100, action_divisor=10.0
    ),
    "promp": replace(
        _RAKELLY, source="Rothfuss et al. 2019 (arXiv:1810.06784)", action_divisor=10.0
    ),
    "pearl": _RAKELLY,
    "varibad": replace(
        _RAKELLY, source="Zintgraf et al. 2020 (arXiv:1910.08348)", penalizes_unclipped=True
    ),
    "ldm": replace(
        _RAKELLY, source="Lee and Chung 2021 (arXiv:2105.13524)", penalizes_unclipped=True
    ),
}
_SQUARES = ("maml17", "cavia", "pytorch-maml-rl")

# Lee and Chung 2021: training goals near and far, test goals at three radii in four directions.
_LDM_NEAR, _LDM_FAR = (0.0, 1.0), (2.5, 3.0)
_LDM_TEST = np.array(
    [[r * x, r * y] for r in (0.5, 1.75, 2.75) for x, y in ((1, 0), (0, 1), (-1, 0), (0, -1))]
)

# Fixed lists of goals. Rakelly et al. 2019: ant-goal.json, lines 3 to 6; ant_goal.py, lines 34 to
# 39. Zhang et al. 2021: ant-goal-sparse-metacure.json, lines 3 to 7; ant_goal.py, lines 89 to 94.
# Both leave the seed open; 1337 is the seed of their other environments.
_PEARL_SPLIT_SIZES = (150, 30)
_METACURE_SPLIT_SIZES = (80, 20)


@cache
def _pearl_goals() -> Tasks:
    """Goals uniform on the disc. Shape [180, 2]."""
    rng, count = np.random.RandomState(1337), sum(_PEARL_SPLIT_SIZES)
    angles = rng.random_sample(count) * 2 * np.pi
    return _polar_points(_GOAL_RANGE * rng.random_sample(count) ** 0.5, angles)


@cache
def _metacure_goals() -> Tasks:
    """Goals on the half circle. Shape [100, 2]."""
    count = sum(_METACURE_SPLIT_SIZES)
    return _polar_points(np.ones(count), np.random.RandomState(1337).random_sample(count) * np.pi)


_SPARSE = {
    "hyperx": AntParams(
        "Zintgraf et al. 2021 (arXiv:2010.01062)", 116, control_cost=0.01, penalizes_unclipped=True
    ),
    "metacure": AntParams(
        "Zhang et al. 2021 (arXiv:2006.08170), MetaCURE's code", 113, control_cost=0.1, horizon=32
    ),
}
_HYPERX_RADIUS, _METACURE_RADIUS = 0.75, 0.8


class AntGoal(MujocoFamily):
    """Walk to a hidden goal.

        r = −|p − g|₁ + s − c ‖a‖² − 0.0005 Σ clip(cfrc_ext, ±1)²

    with p the torso's position in the plane after the step, c = 0.1 and s = 0. "maml17", "cavia"
    and "pytorch-maml-rl" use c = 0.005, s = 4 + 0.05 (a bonus and a survival reward), and end the
    episode when the torso's height leaves [0.2, 1] m; the other variants do not terminate. In
    "maml17", p is the position of the center of mass, and time step and observation are as in
    AntVel:maml17 (ant_env_rand_goal.py, lines 20 to 65).

    Task: the goal g in meters, shape [2]. Action: torques in [−1, 1], [8]. The cost is for the
    clipped action a, except in "varibad" and "ldm", where it is for the action before clipping, as
    in ant_goal.py of their code, lines 16 to 21 and 20 to 25.

    Source: Finn et al. 2017 (arXiv:1703.03400) for the square of goals, Rothfuss et al. 2019
    (arXiv:1810.06784) for the disc; parameters from each variant's source.
    The differences of AntVel apply. "pearl" has a fixed list of 150 goals for training
    and 30 for testing; its code leaves the seed open, here it is 1337. In "ldm",
    test goals at 1.75 m lie outside the rings of the training goals; those at 0.5 and 2.75 m lie
    within them.
    """

    name: ClassVar[str] = "AntGoal"
    variants: ClassVar[tuple[str, ...]] = tuple(_GOAL)
    robot: RobotSpec = GYMNASIUM_ROBOT

    def __init__(self, variant: str) -> None:
        self._params = lookup("variant of AntGoal", variant, _GOAL)
        apply_params(self, variant, self._params)
        self.task_space = spaces.Box(-_GOAL_RANGE, _GOAL_RANGE, (2,), np.float64)
        self.task_description = (
            f"goal U(−{_GOAL_RANGE:g}, {_GOAL_RANGE:g})² m"
            if variant in _SQUARES
            else f"goal uniform on the disc of {_GOAL_RANGE:g} m"
        )
        if variant == "pearl":
            self.task_description = "one of 180 goals on the disc of 3 m (30 for testing)"
        if variant == "ldm":
            self.task_description = "goal at 0 to 1 or 2.5 to 3 m; tested at 0.5, 1.75 and 2.75 m"
            self.ood_splits, self.shared_tasks = ("test",), "some"

    def observe(self, states: States) -> Array:
        return observe(states, self._params)

    def reward(self, step: ControlStep) -> Array:
        control, contact = costs(step, self._params)
        distance = _taxicab_distance(step, self._params)
        return self._params.survive - distance - control - contact

    def terminated(self, step: ControlStep) -> NDArray[np.bool_] | None:
        return fallen(step, self._params)

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        if self.variant in _SQUARES:
            return uniform_tasks(self.task_space, num_tasks, rng)
        if self.variant == "pearl":
            return fixed_tasks(_pearl_goals(), _PEARL_SPLIT_SIZES, split, num_tasks, rng)
        if self.variant != "ldm":
            return _on_rings(num_tasks, rng, (0.0, _GOAL_RANGE))
        if split == "train":
            return _on_rings(num_tasks, rng, _LDM_NEAR, _LDM_FAR)
        return listed_tasks(_LDM_TEST, num_tasks, rng)


class AntGoalSparse(MujocoFamily):
    """Search for a hidden goal; the sparse reward depends on the distance to it.

    With p the torso's position after the step, k = 0.0005 Σ clip(cfrc_ext, ±1)² and, in "hyperx",
    d = ‖p − g‖₂,

        r = (1 − d if d ≤ 0.75 else −0.75) − 0.01 ‖a‖² − k.

    In "metacure", with b = −|p − g|₁ − 0.1 ‖a‖² − k the dense reward,

        r = (2 + b if b ≥ −0.8 else 0) − 0.1 ‖a‖² − k.

    Task: the goal g in meters, shape [2], uniform on the disc of radius 3 m, or ("metacure") on the
    half circle of radius 1 m. Action: torques in [−1, 1], [8]. No episode terminates. In "hyperx",
    a step with d ≤ 0.75 is a success, and the control cost is for the action before clipping, as in
    ant_goal.py of its code, lines 75 to 89.

    Source: Zintgraf et al. 2021 (arXiv:2010.01062), app.; Zhang et al. 2021 (arXiv:2006.08170)
    and their code, which subtracts the costs twice near the goal. "metacure" has a fixed list of 80
    goals for training and 20 for testing; its code leaves the seed open, here it is 1337.
    """

    name: ClassVar[str] = "AntGoalSparse"
    variants: ClassVar[tuple[str, ...]] = tuple(_SPARSE)
    robot: RobotSpec = GYMNASIUM_ROBOT

    def __init__(self, variant: str) -> None:
        self._params = lookup("variant of AntGoalSparse", variant, _SPARSE)
        apply_params(self, variant, self._params)
        self.task_space = spaces.Box(-_GOAL_RANGE, _GOAL_RANGE, (2,), np.float64)
        self.task_description = (
            f"goal uniform on the disc of {_GOAL_RANGE:g} m, rewarded within {_HYPERX_RADIUS} m"
            if variant == "hyperx"
            else "one of 100 goals on the half circle of 1 m (20 for testing), rewarded within "
            f"{_METACURE_RADIUS} m"
        )

    def observe(self, states: States) -> Array:
        return observe(states, self._params)

    def reward(self, step: ControlStep) -> Array:
        control, contact = costs(step, self._params)
        if self.variant == "hyperx":
            distance = _distance(step)
            near = np.where(distance <= _HYPERX_RADIUS, 1 - distance, -_HYPERX_RADIUS)
            return near - control - contact
        dense = -_taxicab_distance(step, self._params) - control - contact
        return np.where(dense >= -_METACURE_RADIUS, 2 + dense, 0.0) - control - contact

    def success(self, step: ControlStep) -> NDArray[np.bool_] | None:
        if self.variant != "hyperx":
            return None
        reached: NDArray[np.bool_] = _distance(step) <= _HYPERX_RADIUS
        return reached

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        if self.variant == "hyperx":  # train and test goals come from one distribution
            return _on_rings(num_tasks, rng, (0.0, _GOAL_RANGE))
        return fixed_tasks(_metacure_goals(), _METACURE_SPLIT_SIZES, split, num_tasks, rng)


def _taxicab_distance(step: ControlStep, params: AntParams) -> Array:
    """|p − g|₁, meters. Shape [B]."""
    distance: Array = np.abs(plane_position(step, params) - step.tasks).sum(axis=1)
    return distance


def _distance(step: ControlStep) -> Array:
    """Distance from the torso to the goal in the plane, meters. Shape [B]."""
    distance: Array = np.linalg.norm(step.qpos[:, :2] - step.tasks, axis=1)
    return distance


def _on_rings(num_tasks: int, rng: np.random.Generator, *rings: tuple[float, float]) -> Tasks:
    """Points uniform over the area of rings around 0, each given as (inner, outer) radius."""
    inner, outer = np.square(np.array(rings)).T
    areas = outer - inner  # in units of π
    ring = rng.choice(len(rings), num_tasks, p=areas / areas.sum())
    radii = np.sqrt(rng.uniform(inner[ring], outer[ring]))
    return _polar_points(radii, rng.uniform(0, 2 * np.pi, num_tasks))


def _polar_points(radii: Array, angles: Array) -> Tasks:
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
