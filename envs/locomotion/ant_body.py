"""The Ant: model, contact forces, observations, costs and falls, shared by its families.

Physics, frame skip and reset noise are Gymnasium's Ant. Contact forces are `cfrc_ext` in the
observed state, as after `mj_forward` and `mj_rnePostConstraint`. Gymnasium's lag behind: they are
left over from the integrator's last stage, in a state that the robot is never in.
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

__all__ = ["BODY", "AntParams", "costs", "fallen", "observe", "plane_velocity", "apply_params"]

_NUM_BODIES = 13
_CONTACT_COST = 0.5e-3
_HIGHEST = 1.0  # of the torso, metres


def _clipped_contacts(readings: Array) -> Array:
    """`cfrc_ext`, each number clipped to [−1, 1], shape [B, 84]."""
    forces = contact_forces(readings, _NUM_BODIES).reshape(len(readings), -1)
    return np.clip(forces, -1.0, 1.0)


BODY = RobotSpec(
    load=partial(gymnasium_model, "ant.xml"),
    frame_skip=5,
    reset_noise=0.1,
    velocity_noise="normal",
    sensors=Sensors(partial(sensing_model, "ant.xml"), _clipped_contacts),
)

_NAMES = {
    "joints": "torso height and rotation, joint angles",
    "place": "torso place and rotation, joint angles",
    "velocities": "velocities",
    "contacts": "contact forces clipped to ±1",
    "axes": "rotation matrix",
    "torso": "torso place",
}
_LAYOUTS: dict[int, tuple[str, ...]] = {
    27: ("joints", "velocities"),
    111: ("joints", "velocities", "contacts"),
    113: ("place", "velocities", "contacts"),
    116: ("torso", "place", "velocities", "contacts"),
    125: ("place", "velocities", "contacts", "axes", "torso"),
}


@dataclass(frozen=True)
class AntParams:
    """Numbers of a variant that all Ant families have."""

    source: str
    observation_size: int
    control_cost: float  # per ‖a‖²
    survive: float = 0.0  # reward of every step
    min_torso_height: float | None = (
        None  # of the torso before it counts as fallen, metres; None: never
    )
    horizon: int = 200
    action_scale: float = 1.0
    warning: str = ""


def apply_params(family: MujocoFamily, variant: str, numbers: AntParams) -> None:
    """Set the attributes of an Ant family."""
    family.variant, family.source, family.warning = variant, numbers.source, numbers.warning
    family.horizon, family.action_scale = numbers.horizon, numbers.action_scale
    size = numbers.observation_size
    family.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)
    family.observation_description = ", ".join(_NAMES[part] for part in _LAYOUTS[size])
    family.action_space = spaces.Box(-1.0, 1.0, (8,), np.float32)


def observe(states: States, size: int) -> Array:
    """The observation of this many numbers, shape [B, size]."""
    return np.concatenate([_PARTS[part](states) for part in _LAYOUTS[size]], axis=1)


def plane_velocity(step: ControlStep) -> Array:
    """Δ(x, y) of the torso per second, metres per second. Shape [B, 2]."""
    moved: Array = step.qpos[:, :2] - step.qpos_before[:, :2]
    return moved / BODY.dt_seconds


def costs(step: ControlStep, numbers: AntParams) -> tuple[Array, Array]:
    """What the controls cost, and what the contacts cost. Shapes [B].

    c_a ‖a‖² and 0.0005 Σ clip(cfrc_ext, ±1)².
    """
    control: Array = numbers.control_cost * np.square(step.controls).sum(axis=1)
    contact: Array = _CONTACT_COST * np.square(step.sensed).sum(axis=1)
    return control, contact


def fallen(step: ControlStep, numbers: AntParams) -> NDArray[np.bool_] | None:
    """Where the torso's height has left [min_torso_height, 1] m, bool [B]; None: it may."""
    if numbers.min_torso_height is None:
        return None
    height = step.qpos[:, 2]
    outside: NDArray[np.bool_] = (height < numbers.min_torso_height) | (height > _HIGHEST)
    return outside


def _rotation_matrices(quaternions: Array) -> Array:
    """Rows of the rotation matrices of quaternions (w, x, y, z) of any length, [B, 4] ↦ [B, 9]."""
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
    "place": lambda states: states.qpos,
    "velocities": lambda states: states.qvel,
    "contacts": lambda states: states.sensed,
    "axes": lambda states: _rotation_matrices(states.qpos[:, 3:7]),
    "torso": lambda states: states.qpos[:, :3],
}
