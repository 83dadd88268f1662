"""HumanoidDir: a humanoid on MuJoCo walks in a hidden direction.

Physics, frame skip and reset noise are Gymnasium's Humanoid. Inertias, velocities and forces of the
bodies are computed for the observed state; Gymnasium computes them for the last stage of the
integrator.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import ClassVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.tasks.family import fixed_tasks, uniform_tasks
from metarl.tasks.spaces import Tasks
from metarl.validation import lookup

from ..simulators.mujoco_batch import Array, gymnasium_model
from ..simulators.mujoco_family import ControlStep, MujocoFamily, Noise, RobotSpec, Sensors, States
from ..simulators.mujoco_sensors import Motion, contact_forces, cross, motion, sensing_model

__all__ = ["HumanoidDir"]

_FILE = "humanoid.xml"
_NUM_BODIES = 13
_SPEED_WEIGHT = 0.25
_ALIVE = 5.0
_CONTROL_COST = 0.1
_IMPACT_COST, _MAX_IMPACT_COST = 0.5e-6, 10.0
_MIN_TORSO_HEIGHT, _MAX_TORSO_HEIGHT = 1.0, 2.0  # meters
_CONTROL_LIMIT = 0.4

_INERTIA_INDICES = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))  # order in MuJoCo's `cinert`

# Columns of the values from `_read`.
_MASS_CENTER = slice(0, 3)
_FORCES = slice(-6 * (_NUM_BODIES + 1), None)


def _read(readings: Array) -> Array:
    """The robot's center of mass, then `cinert`, `cvel` and `cfrc_ext` of all bodies. [B, 311]."""
    bodies = motion(readings, _NUM_BODIES)
    parts = (
        readings[:, _MASS_CENTER],
        _inertias(bodies),
        _velocities(bodies),
        contact_forces(readings, _NUM_BODIES),
    )
    return np.concatenate([part.reshape(len(readings), -1) for part in parts], axis=1)


_ROBOT = RobotSpec(
    load=partial(gymnasium_model, _FILE),
    frame_skip=5,
    position_noise=Noise("uniform", 0.01),
    velocity_noise=Noise("uniform", 0.01),
    sensors=Sensors(partial(sensing_model, _FILE, with_motion=True), _read),
)


_PEARL_SPLIT_SIZES = (100, 30)


@cache
def _pearl_angles() -> Tasks:
    """The fixed list of directions. Shape [130, 1]."""
    return np.random.RandomState(1337).uniform(0.0, 2 * np.pi, (sum(_PEARL_SPLIT_SIZES), 1))


@dataclass(frozen=True)
class _Variant:
    source: str
    action_divisor: float


# The sources map the range of a policy, ±1 or in "promp" ±10, to the controls, which are in ±0.4.
_VARIANTS = {
    "pearl": _Variant("Rakelly et al. 2019 (arXiv:1903.08254)", 2.5),
    "promp": _Variant("Rothfuss et al. 2019 (arXiv:1810.06784)", 25.0),
    "learn2learn": _Variant("learn2learn", 2.5),
}


class HumanoidDir(MujocoFamily):
    """Walk in a hidden direction.

        r = 0.25 d · Δc / 0.003 s + 5 − 0.1 ‖a‖² − min(0.5·10⁻⁶ ‖cfrc_ext‖², 10)

    with d = (cos φ, sin φ) and Δc the displacement of the center of mass in the plane in one
    control step of 0.015 s. As in Gym, it is divided by the 0.003 s of one of the five physics
    steps, so the first term is 1.25 times the speed in m/s.

    Task: the angle φ in radians, shape [1]. Action: controls in [−0.4, 0.4], [17]. The episode
    ends when the torso's height leaves [1, 2] m.

    Source: Rakelly et al. 2019 (arXiv:1903.08254) and Gym's Humanoid; action divisors from
    each variant's source. Differs: the task is the angle φ; in the sources of "promp" and
    "learn2learn" it is the vector d. The source of "promp" has a second environment with only two
    directions, which is not included. "pearl" has a fixed list of 100 angles for
    training and 30 for testing (humanoid-dir.json, lines 3 to 6; humanoid_dir.py, lines 57 to 61);
    its code leaves the seed open, here it is 1337.
    """

    name: ClassVar[str] = "HumanoidDir"
    variants: ClassVar[tuple[str, ...]] = tuple(_VARIANTS)
    robot: RobotSpec = _ROBOT
    task_description = "direction U(0, 2π)"
    observation_description = (
        "torso height and rotation, joint angles, velocities, inertias and velocities of all "
        "bodies, joint torques, contact forces"
    )
    horizon = 200

    def __init__(self, variant: str) -> None:
        params = lookup("variant of HumanoidDir", variant, _VARIANTS)
        self.variant, self.source = variant, params.source
        self.action_divisor = params.action_divisor
        if variant == "pearl":
            self.task_description = "one of 130 directions in [0, 2π] (30 for testing)"
        self.task_space = spaces.Box(0.0, 2 * np.pi, (1,), np.float64)
        self.observation_space = spaces.Box(-np.inf, np.inf, (376,), np.float32)
        self.action_space = spaces.Box(-_CONTROL_LIMIT, _CONTROL_LIMIT, (17,), np.float32)

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        if self.variant == "pearl":
            return fixed_tasks(_pearl_angles(), _PEARL_SPLIT_SIZES, split, num_tasks, rng)
        return uniform_tasks(self.task_space, num_tasks, rng)

    def observe(self, states: States) -> Array:
        parts = (
            states.qpos[:, 2:],
            states.qvel,
            states.sensed[:, _MASS_CENTER.stop : _FORCES.start],
            states.controls @ _torques_of_controls(),
            states.sensed[:, _FORCES],
        )
        return np.concatenate(parts, axis=1)

    def reward(self, step: ControlStep) -> Array:
        angle = step.tasks[:, 0]
        displacement = step.sensed[:, _MASS_CENTER] - step.sensed_before[:, _MASS_CENTER]
        along = np.cos(angle) * displacement[:, 0] + np.sin(angle) * displacement[:, 1]
        velocity_reward = _SPEED_WEIGHT * along / self.model.opt.timestep
        control = _CONTROL_COST * np.square(step.controls).sum(axis=1)
        impact = _IMPACT_COST * np.square(step.sensed[:, _FORCES]).sum(axis=1)
        reward: Array = velocity_reward + _ALIVE - control - np.minimum(impact, _MAX_IMPACT_COST)
        return reward

    def terminated(self, step: ControlStep) -> NDArray[np.bool_]:
        height = step.qpos[:, 2]
        fallen: NDArray[np.bool_] = (height < _MIN_TORSO_HEIGHT) | (height > _MAX_TORSO_HEIGHT)
        return fallen


@cache
def _torques_of_controls() -> Array:
    """Torque per unit of each control on each degree of freedom, N·m. Shape [17, 23].

    A row of controls times this is MuJoCo's `qfrc_actuator`.
    """
    model = _ROBOT.load()
    matrix = np.zeros((model.nu, model.nv))
    joints = model.actuator_trnid[:, 0]
    matrix[np.arange(model.nu), model.jnt_dofadr[joints]] = model.actuator_gear[:, 0]
    return matrix


def _inertias(bodies: Motion) -> Array:
    """MuJoCo's `cinert`: inertia of each body about the robot's center of mass. Shape [B, 14, 10].

    The order is Ixx, Iyy, Izz, Ixy, Ixz, Iyz, m·(p − c), m; the world's are 0.
    """
    model = _ROBOT.load()
    mass, principal = model.body_mass[1:], model.body_inertia[1:].T
    offset = bodies.positions - bodies.mass_center
    weighted = principal[:, None, None] * bodies.axes
    inertias = np.zeros((offset.shape[1], _NUM_BODIES + 1, 10))
    for index, (i, j) in enumerate(_INERTIA_INDICES):
        rotated = (weighted[:, i] * bodies.axes[:, j]).sum(axis=0)
        shifted = -offset[i] * offset[j]  # parallel axes
        if i == j:
            shifted += np.square(offset).sum(axis=0)
        inertias[:, 1:, index] = rotated + mass * shifted
    inertias[:, 1:, 6:9] = (mass * offset).transpose(1, 2, 0)
    inertias[:, 1:, 9] = mass
    return inertias


def _velocities(bodies: Motion) -> Array:
    """MuJoCo's `cvel`: angular velocity, and linear velocity at the robot's center of mass.

    The world's are 0. Shape [B, 14, 6].
    """
    offset = bodies.mass_center - bodies.positions
    velocities = np.zeros((offset.shape[1], _NUM_BODIES + 1, 6))
    velocities[:, 1:, :3] = bodies.angular_velocities.transpose(1, 2, 0)
    velocities[:, 1:, 3:] = (
        bodies.velocities + cross(bodies.angular_velocities, offset)
    ).transpose(1, 2, 0)
    return velocities
