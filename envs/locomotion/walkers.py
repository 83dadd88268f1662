"""Walker2D and Swimmer families of ProMP, in which the task is a velocity or a direction.

Models, frame skips and reset noise are from the version of Gym that the source uses; its Walker2D,
unlike Gymnasium's v5, has feet of unequal friction and takes 8 physics steps per control step.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.validation import lookup

from ..simulators.mujoco_batch import Array, gymnasium_model
from ..simulators.mujoco_family import ControlStep, MujocoFamily, Noise, RobotSpec, States

__all__ = [
    "SwimmerVel",
    "Walker2DDir",
    "Walker2DVel",
    "control_cost",
    "forward_velocity",
    "walker_fallen",
    "walker_observation",
]

_SOURCE = {"promp": "Rothfuss et al. 2019 (arXiv:1810.06784)"}

_WALKER = RobotSpec(
    load=partial(gymnasium_model, "walker2d.xml"),
    frame_skip=8,
    position_noise=Noise("uniform", 0.005),
    velocity_noise=Noise("uniform", 0.005),
)
_WALKER_CONTROL_COST = 0.001

_SWIMMER = RobotSpec(
    load=partial(gymnasium_model, "swimmer.xml"),
    frame_skip=4,
    position_noise=Noise("uniform", 0.1),
    velocity_noise=Noise("uniform", 0.1),
)
_SWIMMER_CONTROL_COST = 0.0001


def walker_observation(states: States) -> Array:
    """qpos without the root's x, then qvel clipped to ±10. Shape [B, nq − 1 + nv]."""
    return np.concatenate([states.qpos[:, 1:], np.clip(states.qvel, -10.0, 10.0)], axis=1)


def walker_fallen(step: ControlStep) -> NDArray[np.bool_]:
    """Whether the torso's height is outside (0.8, 2) m or its pitch outside (−1, 1) radians.
    [B]."""
    height, pitch = step.qpos[:, 1], step.qpos[:, 2]
    upright: NDArray[np.bool_] = (height > 0.8) & (height < 2.0) & (np.abs(pitch) < 1.0)
    return ~upright


def forward_velocity(step: ControlStep, robot: RobotSpec) -> Array:
    """Mean velocity of the root joint during a step, meters per second. Shape [B]."""
    moved: Array = step.qpos[:, 0] - step.qpos_before[:, 0]
    return moved / robot.dt_seconds


def control_cost(step: ControlStep, weight: float) -> Array:
    """weight·‖a‖². Shape [B]."""
    cost: Array = weight * np.square(step.controls).sum(axis=1)
    return cost


def _set_params(
    family: MujocoFamily, variant: str, *, observation_size: int, num_motors: int
) -> None:
    family.source = lookup(f"variant of {family.name}", variant, _SOURCE)
    family.variant = variant
    family.horizon, family.action_divisor = 200, 10.0
    family.observation_space = spaces.Box(-np.inf, np.inf, (observation_size,), np.float32)
    family.action_space = spaces.Box(-1.0, 1.0, (num_motors,), np.float32)


class Walker2DVel(MujocoFamily):
    """Walk forward at a hidden target velocity.

        r = −|v − v*| + 15 − 0.001 ‖a‖²,   v: velocity of the root joint, Δx / 0.016 s

    Task: v* in m/s, shape [1]. Action: torques in [−1, 1], [6]. The episode ends when the torso's
    height leaves (0.8, 2) m or its pitch (−1, 1) radians.

    Source: Rothfuss et al. 2019 (arXiv:1810.06784), ProMP's code.
    """

    name: ClassVar[str] = "Walker2DVel"
    variants: ClassVar[tuple[str, ...]] = tuple(_SOURCE)
    robot: RobotSpec = _WALKER
    task_description = "target velocity U(0, 10) m/s"
    observation_description = "joint angles and velocities clipped to ±10"

    def __init__(self, variant: str) -> None:
        _set_params(self, variant, observation_size=17, num_motors=6)
        self.task_space = spaces.Box(0.0, 10.0, (1,), np.float64)

    def observe(self, states: States) -> Array:
        return walker_observation(states)

    def reward(self, step: ControlStep) -> Array:
        speed_error = np.abs(forward_velocity(step, _WALKER) - step.tasks[:, 0])
        return 15.0 - speed_error - control_cost(step, _WALKER_CONTROL_COST)

    def terminated(self, step: ControlStep) -> NDArray[np.bool_]:
        return walker_fallen(step)


class Walker2DDir(MujocoFamily):
    """Walk in a hidden direction, forward or backward.

        r = d v + 1 − 0.001 ‖a‖²,   d = −1 or +1,   v: velocity of the root joint, Δx / 0.016 s

    Task: 0 backward, 1 forward, shape [1]. Action: torques in [−1, 1], [6]. Episodes end as in
    Walker2DVel.

    Source: Rothfuss et al. 2019 (arXiv:1810.06784), ProMP's code.
    """

    name: ClassVar[str] = "Walker2DDir"
    variants: ClassVar[tuple[str, ...]] = tuple(_SOURCE)
    robot: RobotSpec = _WALKER
    shared_tasks = "all"
    task_description = "direction backward or forward"
    observation_description = "joint angles and velocities clipped to ±10"

    def __init__(self, variant: str) -> None:
        _set_params(self, variant, observation_size=17, num_motors=6)
        self.task_space = spaces.Discrete(2)

    def observe(self, states: States) -> Array:
        return walker_observation(states)

    def reward(self, step: ControlStep) -> Array:
        progress = (2 * step.tasks[:, 0] - 1) * forward_velocity(step, _WALKER)
        return progress + 1.0 - control_cost(step, _WALKER_CONTROL_COST)

    def terminated(self, step: ControlStep) -> NDArray[np.bool_]:
        return walker_fallen(step)


class SwimmerVel(MujocoFamily):
    """Swim forward at a hidden target velocity.

        r = −|v − v*| − 0.0001 ‖a‖²,   v: velocity of the root joint, Δx / 0.04 s

    Task: v* in m/s, shape [1]. Action: torques in [−1, 1], [2]. No episode terminates.

    Source: Rothfuss et al. 2019 (arXiv:1810.06784), ProMP's code. Differs: that code has
    reward +|v − v*|, which rewards missing the target; here the sign is the intended one.
    """

    name: ClassVar[str] = "SwimmerVel"
    variants: ClassVar[tuple[str, ...]] = tuple(_SOURCE)
    robot: RobotSpec = _SWIMMER
    task_description = "target velocity U(0.1, 0.2) m/s"
    observation_description = "joint angles and velocities"
    warning = "ProMP's code has the wrong sign, +|v − v*|, so its returns are not comparable"

    def __init__(self, variant: str) -> None:
        _set_params(self, variant, observation_size=8, num_motors=2)
        self.task_space = spaces.Box(0.1, 0.2, (1,), np.float64)

    def observe(self, states: States) -> Array:
        return np.concatenate([states.qpos[:, 2:], states.qvel], axis=1)

    def reward(self, step: ControlStep) -> Array:
        speed_error = np.abs(forward_velocity(step, _SWIMMER) - step.tasks[:, 0])
        return -speed_error - control_cost(step, _SWIMMER_CONTROL_COST)
