"""Models, observations, velocities and costs shared by the HalfCheetah families.

Physics, frame skip and reset noise are Gymnasium's HalfCheetah. "maml17" has the same model, but
rllab's base class: one physics step of 0.01 s per control step, other reset noise, and the center
of mass in place of the torso.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from gymnasium import spaces

from ..simulators.mujoco_batch import Array, gymnasium_model
from ..simulators.mujoco_family import ControlStep, MujocoFamily, Noise, RobotSpec, Sensors, States
from ..simulators.mujoco_sensors import center_velocity, mass_center, sensing_model

__all__ = [
    "GYMNASIUM_ROBOT",
    "CheetahParams",
    "apply_params",
    "control_cost",
    "observe",
    "velocity",
]

_FILE = "half_cheetah.xml"
_CONTROL_COST = 0.05

GYMNASIUM_ROBOT = RobotSpec(
    load=partial(gymnasium_model, _FILE),
    frame_skip=5,
    position_noise=Noise("uniform", 0.1),
    velocity_noise=Noise("normal", 0.1),
)


def _read(readings: Array) -> Array:
    """Center of mass and its velocity. Shape [B, 6]."""
    return np.concatenate([mass_center(readings), center_velocity(readings)], axis=1)


# rllab/envs/mujoco/mujoco_env.py of cbfinn/maml_rl, lines 72 to 77 and 108 to 113.
_RLLAB_ROBOT = RobotSpec(
    load=partial(gymnasium_model, _FILE),
    frame_skip=1,
    position_noise=Noise("normal", 0.01),
    velocity_noise=Noise("normal", 0.1),
    sensors=Sensors(
        partial(sensing_model, _FILE, with_contacts=False, with_center_velocity=True), _read
    ),
)


@dataclass(frozen=True)
class CheetahParams:
    """Parameters of a variant."""

    source: str
    max_speed: float = 0.0  # upper bound of the target velocities, meters per second
    observation_size: int = 20  # see `observe`
    horizon: int = 200
    action_divisor: float = 1.0
    min_distance_meters: float = 0.0  # from the start; running is not rewarded within it
    penalizes_unclipped: bool = False  # whether a in the control cost is the unclipped action
    is_rllab: bool = False  # rllab's control step and center of mass, not Gymnasium's
    warning: str = ""

    @property
    def robot(self) -> RobotSpec:
        """The robot."""
        return _RLLAB_ROBOT if self.is_rllab else GYMNASIUM_ROBOT


def apply_params(family: MujocoFamily, variant: str, params: CheetahParams) -> None:
    """Set the attributes of a HalfCheetah family for a variant."""
    family.variant, family.source, family.warning = variant, params.source, params.warning
    family.robot = params.robot
    family.horizon, family.action_divisor = params.horizon, params.action_divisor
    size = params.observation_size
    family.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)
    position = "center of mass" if params.is_rllab else "torso position"
    family.observation_description = {
        17: "joint angles and velocities",
        20: f"joint angles and velocities, {position}",
        21: "torso position, position along x, joint angles and velocities",
    }[size]
    family.action_space = spaces.Box(-1.0, 1.0, (6,), np.float32)


def observe(states: States, params: CheetahParams) -> Array:
    """The observation of a variant. Shape [B, observation_size].

    17 numbers are qpos without the root's x, then qvel; 20 are these and a position; 21 are a
    position, qpos and qvel. The position (x, 0, z) is of the torso; of the center of mass if
    `is_rllab`.
    """
    joints = [states.qpos[:, 1:], states.qvel]
    if params.observation_size == 17:
        return np.concatenate(joints, axis=1)
    position = states.sensed[:, :3] if params.is_rllab else _torso_position(states)
    if params.observation_size == 21:
        return np.concatenate([position, states.qpos, states.qvel], axis=1)
    return np.concatenate([*joints, position], axis=1)


def _torso_position(states: States) -> Array:
    position = np.zeros((len(states.qpos), 3))
    position[:, 0], position[:, 2] = states.qpos[:, 0], states.qpos[:, 1] + _torso_height()
    return position


@cache
def _torso_height() -> float:
    """Height of the torso's frame if the root joints are 0, meters."""
    return float(GYMNASIUM_ROBOT.load().body("torso").pos[2])


def velocity(step: ControlStep, params: CheetahParams) -> Array:
    """Forward velocity, meters per second. Shape [B].

    The mean velocity of the root joint during the step; if `is_rllab`, the velocity of the center
    of mass after it.
    """
    if params.is_rllab:
        return step.sensed[:, 3]
    moved: Array = step.qpos[:, 0] - step.qpos_before[:, 0]
    return moved / params.robot.dt_seconds


def control_cost(step: ControlStep, params: CheetahParams) -> Array:
    """0.05 ‖a‖². Shape [B]."""
    actions = step.actions if params.penalizes_unclipped else step.controls
    cost: Array = _CONTROL_COST * np.square(actions).sum(axis=1)
    return cost
