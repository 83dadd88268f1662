"""Model, contact forces, observations, costs and termination shared by the Ant families.

Physics, frame skip and reset noise are Gymnasium's Ant. Contact forces are `cfrc_ext` in the
observed state, as after `mj_forward` and `mj_rnePostConstraint`. Gymnasium's belong to the last
stage of the integrator, whose state the robot never reaches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ..simulators.mujoco_batch import Array, gymnasium_model
from ..simulators.mujoco_family import ControlStep, MujocoFamily, RobotSpec, Sensors, States
from ..simulators.mujoco_sensors import contact_forces, sensing_model

__all__ = ["ANT", "AntParams", "costs", "fallen", "observe", "plane_velocity", "apply_params"]

_NUM_BODIES = 13
_CONTACT_COST = 0.5e-3
_MAX_TORSO_HEIGHT = 1.0  # meters


def _clipped_contacts(readings: Array) -> Array:
    """`cfrc_ext`, each component clipped to [−1, 1]. Shape [B, 84]."""
    forces = contact_forces(readings, _NUM_BODIES).reshape(len(readings), -1)
    return np.clip(forces, -1.0, 1.0)


ANT = RobotSpec(
    load=partial(gymnasium_model, "ant.xml"),
    frame_skip=5,
    reset_noise=0.1,
    velocity_noise="normal",
    sensors=Sensors(partial(sensing_model, "ant.xml"), _clipped_contacts),
)

_NAMES = {
    "joints": "torso height and rotation, joint angles",
    "position": "torso position and rotation, joint angles",
    "velocities": "velocities",
    "contacts": "contact forces clipped to ±1",
    "axes": "rotation matrix",
    "torso": "torso position",
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


def apply_params(family: MujocoFamily, variant: str, params: AntParams) -> None:
    """Set the attributes of an Ant family for a variant."""
    family.variant, family.source, family.warning = variant, params.source, params.warning
    family.horizon, family.action_divisor = params.horizon, params.action_divisor
    size = params.observation_size
    family.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)
    family.observation_description = ", ".join(_NAMES[part] for part in _LAYOUTS[size])
    family.action_space = spaces.Box(-1.0, 1.0, (8,), np.float32)


def observe(states: States, size: int) -> Array:
    """The observation of the layout with this size. Shape [B, size]."""
    return np.concatenate([_PARTS[part](states) for part in _LAYOUTS[size]], axis=1)


def plane_velocity(step: ControlStep) -> Array:
    """Mean velocity of the torso in the plane during a step, meters per second. Shape [B, 2]."""
    moved: Array = step.qpos[:, :2] - step.qpos_before[:, :2]
    return moved / ANT.dt_seconds


def costs(step: ControlStep, params: AntParams) -> tuple[Array, Array]:
    """Control cost c ‖a‖² and contact cost 0.0005 Σ clip(cfrc_ext, ±1)². Shapes [B]."""
    actions = step.actions if params.penalizes_unclipped else step.controls
    control: Array = params.control_cost * np.square(actions).sum(axis=1)
    contact: Array = _CONTACT_COST * np.square(step.sensed).sum(axis=1)
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
    "contacts": lambda states: states.sensed,
    "axes": lambda states: _rotation_matrices(states.qpos[:, 3:7]),
    "torso": lambda states: states.qpos[:, :3],
}
