"""Models, contact forces, observations, costs and termination shared by the Ant families.

Physics, frame skip and reset noise are Gymnasium's Ant, or rllab's in "maml17". Contact forces are
`cfrc_ext` in the observed state, as after `mj_forward` and `mj_rnePostConstraint`. Gymnasium's
belong to the last stage of the integrator, whose state the robot never reaches.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import mujoco
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ..simulators.mujoco_batch import Array, gymnasium_model
from ..simulators.mujoco_family import ControlStep, MujocoFamily, Noise, RobotSpec, Sensors, States
from ..simulators.mujoco_sensors import (
    center_velocity,
    contact_forces,
    mass_center,
    sensing_model,
)

__all__ = [
    "GYMNASIUM_ROBOT",
    "AntParams",
    "apply_params",
    "costs",
    "fallen",
    "observe",
    "plane_position",
    "plane_velocity",
]

_FILE = "ant.xml"
_NUM_BODIES = 13
_NUM_FORCES = 84  # then, on `_RLLAB_ROBOT`, the center of mass and its velocity
_CONTACT_COST = 0.5e-3
_MAX_TORSO_HEIGHT = 1.0  # meters


def _clipped_contacts(readings: Array) -> Array:
    """`cfrc_ext`, each component clipped to [−1, 1]. Shape [B, 84]."""
    forces = contact_forces(readings, _NUM_BODIES).reshape(len(readings), -1)
    return np.clip(forces, -1.0, 1.0)


GYMNASIUM_ROBOT = RobotSpec(
    load=partial(gymnasium_model, _FILE),
    frame_skip=5,
    position_noise=Noise("uniform", 0.1),
    velocity_noise=Noise("normal", 0.1),
    sensors=Sensors(partial(sensing_model, _FILE), _clipped_contacts),
)


def _as_in_rllab(model: mujoco.MjModel) -> mujoco.MjModel:
    """A copy with the numbers of cbfinn/maml_rl, vendor/mujoco_models/ant.xml, lines 3 and 9."""
    changed = copy.copy(model)
    changed.opt.timestep = 0.02
    changed.geom_solimp[:, :3] = 0.8, 0.8, 0.01
    return changed


@cache
def _rllab_model() -> mujoco.MjModel:
    return _as_in_rllab(gymnasium_model(_FILE))


@cache
def _rllab_sensing_model() -> mujoco.MjModel:
    return _as_in_rllab(sensing_model(_FILE, with_center_velocity=True))


def _rllab_senses(readings: Array) -> Array:
    """Clipped contact forces, center of mass and its velocity. Shape [B, 90]."""
    parts = (_clipped_contacts(readings), mass_center(readings), center_velocity(readings))
    return np.concatenate(parts, axis=1)


# rllab/envs/mujoco/mujoco_env.py of cbfinn/maml_rl, lines 72 to 83 and 108 to 113; `init_qpos` is
# from line 5 of its ant.xml.
_RLLAB_ROBOT = RobotSpec(
    load=_rllab_model,
    frame_skip=1,
    position_noise=Noise("normal", 0.01),
    velocity_noise=Noise("normal", 0.1),
    sensors=Sensors(_rllab_sensing_model, _rllab_senses),
    initial_qpos=(0, 0, 0.55, 1, 0, 0, 0, 0, 1, 0, -1, 0, -1, 0, 1),
)

_NAMES = {
    "joints": "torso height and rotation, joint angles",
    "position": "torso position and rotation, joint angles",
    "velocities": "velocities",
    "contacts": "contact forces clipped to ±1",
    "axes": "rotation matrix",
    "torso": "torso position",
    "mass center": "center of mass",
}
_LAYOUTS: dict[int, tuple[str, ...]] = {
    27: ("joints", "velocities"),
    111: ("joints", "velocities", "contacts"),
    113: ("position", "velocities", "contacts"),
    116: ("torso", "position", "velocities", "contacts"),
    125: ("position", "velocities", "contacts", "axes", "torso"),
}


@dataclass(frozen=True)
class AntParams:
    """Parameters of a variant that all Ant families share."""

    source: str
    observation_size: int
    control_cost: float  # per ‖a‖²
    penalizes_unclipped: bool = False  # whether a in the control cost is the unclipped action
    survive: float = 0.0  # constant reward per step
    min_torso_height: float | None = None  # meters; lower or above 1 m is a fall; None: no falls
    horizon: int = 200
    action_divisor: float = 1.0
    warning: str = ""
    is_rllab: bool = False  # rllab's control step and center of mass, not Gymnasium's

    @property
    def robot(self) -> RobotSpec:
        """The robot."""
        return _RLLAB_ROBOT if self.is_rllab else GYMNASIUM_ROBOT

    @property
    def layout(self) -> tuple[str, ...]:
        """Parts of an observation."""
        parts = _LAYOUTS[self.observation_size]
        return (*parts[:-1], "mass center") if self.is_rllab else parts


def apply_params(family: MujocoFamily, variant: str, params: AntParams) -> None:
    """Set the attributes of an Ant family for a variant."""
    family.variant, family.source, family.warning = variant, params.source, params.warning
    family.horizon, family.action_divisor = params.horizon, params.action_divisor
    family.robot = params.robot
    size = params.observation_size
    family.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)
    family.observation_description = ", ".join(_NAMES[part] for part in params.layout)
    family.action_space = spaces.Box(-1.0, 1.0, (8,), np.float32)


def observe(states: States, params: AntParams) -> Array:
    """The observation of a variant. Shape [B, observation_size]."""
    return np.concatenate([_PARTS[part](states) for part in params.layout], axis=1)


def plane_velocity(step: ControlStep, params: AntParams) -> Array:
    """Velocity in the plane, meters per second. Shape [B, 2].

    The mean velocity of the torso during the step; if `is_rllab`, the velocity of the center of
    mass after it.
    """
    if params.is_rllab:
        return step.sensed[:, _NUM_FORCES + 3 : _NUM_FORCES + 5]
    moved: Array = step.qpos[:, :2] - step.qpos_before[:, :2]
    return moved / params.robot.dt_seconds


def plane_position(step: ControlStep, params: AntParams) -> Array:
    """Position of the torso, or if `is_rllab` of the center of mass, in meters. Shape [B, 2]."""
    if params.is_rllab:
        return step.sensed[:, _NUM_FORCES : _NUM_FORCES + 2]
    return step.qpos[:, :2]


def costs(step: ControlStep, params: AntParams) -> tuple[Array, Array]:
    """Control cost c ‖a‖² and contact cost 0.0005 Σ clip(cfrc_ext, ±1)². Shapes [B]."""
    actions = step.actions if params.penalizes_unclipped else step.controls
    control: Array = params.control_cost * np.square(actions).sum(axis=1)
    contact: Array = _CONTACT_COST * np.square(step.sensed[:, :_NUM_FORCES]).sum(axis=1)
    return control, contact


def fallen(step: ControlStep, params: AntParams) -> NDArray[np.bool_] | None:
    """Whether the torso's height is outside [min_torso_height, 1] m, bool [B]; None: no falls."""
    if params.min_torso_height is None:
        return None
    height = step.qpos[:, 2]
    outside: NDArray[np.bool_] = (height < params.min_torso_height) | (height > _MAX_TORSO_HEIGHT)
    return outside


def _rotation_matrices(quaternions: Array) -> Array:
    """Rotation matrices, row by row, of unnormalized quaternions (w, x, y, z), [B, 4] ↦ [B, 9]."""
    unit = quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)
    w, x, y, z = unit.T
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return np.stack(rows, axis=1)


_PARTS: dict[str, Callable[[States], Array]] = {
    "joints": lambda states: states.qpos[:, 2:],
    "position": lambda states: states.qpos,
    "velocities": lambda states: states.qvel,
    "contacts": lambda states: states.sensed[:, :_NUM_FORCES],
    "axes": lambda states: _rotation_matrices(states.qpos[:, 3:7]),
    "torso": lambda states: states.qpos[:, :3],
    "mass center": lambda states: states.sensed[:, _NUM_FORCES : _NUM_FORCES + 3],
}
