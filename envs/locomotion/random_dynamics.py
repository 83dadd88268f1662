"""Planar robots whose masses, inertias, damping and friction are the task.

Models are Gymnasium's, with a physics step of 0.004 s as in the source's copies.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache, partial
from typing import ClassVar

import mujoco
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.tasks.family import fixed_tasks
from metarl.tasks.spaces import Tasks
from metarl.validation import lookup

from ..simulators.mujoco_batch import Array, gymnasium_model, refresh_constants
from ..simulators.mujoco_family import ControlStep, MujocoFamily, Noise, RobotSpec, States
from .walkers import control_cost, forward_velocity, walker_fallen, walker_observation

__all__ = ["HopperRandParams", "Walker2DRandParams", "num_exponents", "scaled_model"]

_SOURCE = {"pearl": "Rakelly et al. 2019 (arXiv:1903.08254), rand_param_envs"}
_LOG_SCALE_LIMIT = 3.0
_BASES = {"body_mass": 1.5, "body_inertia": 1.5, "dof_damping": 1.3, "geom_friction": 1.5}
_ALIVE = 1.0
_CONTROL_COST = 0.001
_SPLIT_SIZES = (40, 10)
_TASK = (
    "one of 50 (10 for testing): multipliers 1.5^U(−3, 3) of masses, inertias, friction, "
    "1.3^U(−3, 3) of damping"
)
_OBSERVATION = "joint angles and velocities clipped to ±10"


@cache
def _source_model(file: str) -> mujoco.MjModel:
    model = copy.copy(gymnasium_model(file))
    model.opt.timestep = 0.004
    return model


_WALKER = RobotSpec(
    load=partial(_source_model, "walker2d.xml"),
    frame_skip=4,
    position_noise=Noise("uniform", 0.005),
    velocity_noise=Noise("uniform", 0.005),
)
_HOPPER = RobotSpec(
    load=partial(_source_model, "hopper.xml"),
    frame_skip=4,
    position_noise=Noise("uniform", 0.005),
    velocity_noise=Noise("uniform", 0.005),
)


def num_exponents(model: mujoco.MjModel) -> int:
    """Number of model parameters that a task scales, D."""
    return sum(int(np.count_nonzero(getattr(model, name))) for name in _BASES)


def scaled_model(
    model: mujoco.MjModel, exponents: NDArray[np.float64], scratch: mujoco.MjData
) -> mujoco.MjModel:
    """Return a copy of a model with each mass, inertia, damping and friction multiplied by bᵉ.

    b is 1.3 for damping and 1.5 otherwise. The constants that MuJoCo derives are recomputed.

    Args:
        model: the original; it is not modified.
        exponents: e, in MuJoCo's order of `body_mass`, `body_inertia`, `dof_damping` and
            `geom_friction`, without parameters that are 0. Shape [D].
        scratch: data of the model, which is overwritten.
    """
    scaled = copy.copy(model)
    start = 0
    for name, base in _BASES.items():
        values = getattr(model, name).copy()
        is_scaled = values != 0
        stop = start + int(np.count_nonzero(is_scaled))
        values[is_scaled] *= base ** exponents[start:stop]
        getattr(scaled, name)[:] = values
        start = stop
    refresh_constants(scaled, scratch)
    return scaled


def _scaled_models(model: mujoco.MjModel, tasks: Tasks) -> list[mujoco.MjModel]:
    scratch = mujoco.MjData(model)
    return [scaled_model(model, exponents, scratch) for exponents in tasks]


def _exponents(robot: RobotSpec) -> spaces.Box:
    limit = _LOG_SCALE_LIMIT
    return spaces.Box(-limit, limit, (num_exponents(robot.load()),), np.float64)


def _tasks(space: spaces.Box, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
    fixed = np.random.RandomState(1337).uniform(
        space.low, space.high, (sum(_SPLIT_SIZES), *space.shape)
    )
    return fixed_tasks(fixed, _SPLIT_SIZES, split, num_tasks, rng)


def _reward(step: ControlStep, robot: RobotSpec) -> Array:
    """v + 1 − 0.001 ‖a‖². Shape [B]."""
    return forward_velocity(step, robot) + _ALIVE - control_cost(step, _CONTROL_COST)


class Walker2DRandParams(MujocoFamily):
    """Walk forward with a body whose masses, inertias, damping and friction are hidden.

        r = v + 1 − 0.001 ‖a‖²,   v: velocity of the root joint, Δx / 0.016 s

    Task: 58 exponents e in [−3, 3], one for each nonzero mass, inertia and friction (times 1.5ᵉ)
    and damping (times 1.3ᵉ), in MuJoCo's order, including the ground's friction.
    Action: torques in [−1, 1], [6]. The episode ends when the torso's height leaves (0.8, 2) m or
    its pitch (−1, 1) radians.

    Source: Rakelly et al. 2019 (arXiv:1903.08254) and rand_param_envs. There are 40 fixed training
    and 10 fixed test tasks (walker_rand_params.json, lines 3 to 6). Differs: the constants that
    MuJoCo derives from masses and inertias are recomputed; in the source they keep the values of
    the unscaled robot. The source leaves the seed of its tasks open; here it is 1337. As in the
    source, inertias scaled axis by axis may be physically impossible, and torsional and rolling
    friction have no effect on these contacts.
    """

    name: ClassVar[str] = "Walker2DRandParams"
    variants: ClassVar[tuple[str, ...]] = tuple(_SOURCE)
    robot: RobotSpec = _WALKER
    task_description = _TASK
    observation_description = _OBSERVATION
    horizon = 200
    action_divisor = 1.0

    def __init__(self, variant: str) -> None:
        self.source = lookup("variant of Walker2DRandParams", variant, _SOURCE)
        self.variant = variant
        self.task_space: spaces.Box = _exponents(_WALKER)
        self.observation_space = spaces.Box(-np.inf, np.inf, (17,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (6,), np.float32)

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        return _tasks(self.task_space, num_tasks, split, rng)

    def task_models(self, tasks: Tasks) -> Sequence[mujoco.MjModel]:
        return _scaled_models(self.model, tasks)

    def observe(self, states: States) -> Array:
        return walker_observation(states)

    def reward(self, step: ControlStep) -> Array:
        return _reward(step, _WALKER)

    def terminated(self, step: ControlStep) -> NDArray[np.bool_]:
        return walker_fallen(step)


class HopperRandParams(MujocoFamily):
    """Hop forward with a body whose masses, inertias, damping and friction are hidden.

        r = v + 1 − 0.001 ‖a‖²,   v: velocity of the root joint, Δx / 0.016 s

    Task: 34 exponents, as in Walker2DRandParams. Action: torques in [−1, 1], [3]. The
    episode ends when the torso's height is 0.7 m or less, its pitch leaves (−0.2, 0.2) radians, or
    an angle or velocity leaves (−100, 100).

    Source: Rakelly et al. 2019 (arXiv:1903.08254) and rand_param_envs. Differs: in the
    same points as Walker2DRandParams.
    """

    name: ClassVar[str] = "HopperRandParams"
    variants: ClassVar[tuple[str, ...]] = tuple(_SOURCE)
    robot: RobotSpec = _HOPPER
    task_description = _TASK
    observation_description = _OBSERVATION
    horizon = 200
    action_divisor = 1.0

    def __init__(self, variant: str) -> None:
        self.source = lookup("variant of HopperRandParams", variant, _SOURCE)
        self.variant = variant
        self.task_space: spaces.Box = _exponents(_HOPPER)
        self.observation_space = spaces.Box(-np.inf, np.inf, (11,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (3,), np.float32)

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        return _tasks(self.task_space, num_tasks, split, rng)

    def task_models(self, tasks: Tasks) -> Sequence[mujoco.MjModel]:
        return _scaled_models(self.model, tasks)

    def observe(self, states: States) -> Array:
        return walker_observation(states)

    def reward(self, step: ControlStep) -> Array:
        return _reward(step, _HOPPER)

    def terminated(self, step: ControlStep) -> NDArray[np.bool_]:
        """Whether the robot has fallen or moves too fast, bool [B]."""
        height, pitch = step.qpos[:, 1], step.qpos[:, 2]
        upright = (height > 0.7) & (np.abs(pitch) < 0.2)
        rest = np.concatenate([step.qpos[:, 2:], step.qvel], axis=1)
        is_bounded = (np.abs(rest) < 100).all(axis=1)
        fallen: NDArray[np.bool_] = ~(upright & is_bounded)
        return fallen
