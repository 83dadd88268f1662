"""Models with sensors on every body, and the forces and motion computed from the readings.

MuJoCo's threads return only states and sensor readings, so everything else that observations need
is read from sensors: contact forces (`cfrc_ext` of MuJoCo) and the motion of bodies. The readings
are those of the observed state, as after `mj_forward` and `mj_rnePostConstraint`.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple
from xml.etree import ElementTree

import mujoco
import numpy as np

from .mujoco_batch import Array, compile_xml, gymnasium_xml

__all__ = [
    "Motion",
    "center_velocity",
    "contact_forces",
    "cross",
    "mass_center",
    "motion",
    "sensing_model",
]

# MJCF names of the sensors of a body's motion; each reads a vector.
_MOTION = ("framepos", "framexaxis", "frameyaxis", "framezaxis", "framelinvel", "frameangvel")
_CONTACT_SIZE = 9
_CENTER_SIZE = 3  # the first readings are the robot's center of mass


@cache
def sensing_model(
    file: str,
    *,
    with_contacts: bool = True,
    with_motion: bool = False,
    with_center_velocity: bool = False,
) -> mujoco.MjModel:
    """Load Gymnasium's model with sensors and a one-stage integrator.

    The sensors are, in this order: the robot's center of mass; if `with_contacts`, the resultant
    contact force of each body; if `with_motion`, the pose and velocity of each body; if
    `with_center_velocity`, the velocity of the center of mass. Every call returns the same object.

    Raises:
        RuntimeError: if `with_contacts` and the installed MuJoCo has no contact sensors.
    """
    if with_contacts and not hasattr(mujoco.mjtSensor, "mjSENS_CONTACT"):
        raise RuntimeError(
            "contact forces need MuJoCo 3.3.5 or newer (pip install 'mujoco>=3.3.5'), "
            f"installed is {mujoco.__version__}"
        )
    root = gymnasium_xml(file)
    world = root.find("worldbody")
    assert world is not None
    bodies = list(world.iter("body"))
    for index, body in enumerate(bodies):
        body.attrib.setdefault("name", f"body{index}")
    names = [body.attrib["name"] for body in bodies]
    sensors = ElementTree.SubElement(root, "sensor")
    ElementTree.SubElement(sensors, "subtreecom", body=names[0])
    for name in names if with_contacts else ():
        ElementTree.SubElement(
            sensors, "contact", body1=name, data="force torque pos", reduce="netforce"
        )
    for name in names if with_motion else ():
        for kind in _MOTION:
            ElementTree.SubElement(sensors, kind, objtype="body", objname=name)
    if with_center_velocity:
        ElementTree.SubElement(sensors, "subtreelinvel", body=names[0])
    model = compile_xml(root)
    model.opt.integrator = mujoco.mjtIntegrator.mjINT_EULER
    return model


def mass_center(readings: Array) -> Array:
    """Center of mass of the robot from readings [B, ns]. Shape [B, 3]."""
    return readings[:, :_CENTER_SIZE]


def center_velocity(readings: Array) -> Array:
    """Velocity of the center of mass from readings with `with_center_velocity`. Shape [B, 3]."""
    return readings[:, -_CENTER_SIZE:]


def contact_forces(readings: Array, num_bodies: int) -> Array:
    """Return MuJoCo's `cfrc_ext`, the contact forces on each body, in the world's frame.

    A row contains the torque about the robot's center of mass c and the force,

        (τ + (p − c) × f, f),

    with the resultant force f and torque τ of the body's contacts at the point p. The world's row
    is 0.

    Args:
        readings: readings of a `sensing_model` with `with_contacts`, shape [B, ns].
        num_bodies: bodies of the robot, without the world.

    Returns:
        N·m and N, shape [B, num_bodies + 1, 6].
    """
    width = num_bodies * _CONTACT_SIZE
    force, torque, point = _by_component(readings[:, _CENTER_SIZE:][:, :width], num_bodies)
    center = mass_center(readings).T[:, :, None]
    wrenches = np.zeros((len(readings), num_bodies + 1, 6))
    # The sensor reads the force that the body exerts on others, hence the minus signs.
    wrenches[:, 1:, :3] = -(torque + cross(point - center, force)).transpose(1, 2, 0)
    wrenches[:, 1:, 3:] = -force.transpose(1, 2, 0)
    return wrenches


class Motion(NamedTuple):
    """Positions and velocities of the bodies, without the world, in the world's frame.

    The components are the first axis, because arithmetic on long contiguous rows is several times
    faster.
    """

    mass_center: Array  # center of mass of the robot, [3, B, 1]
    positions: Array  # centers of mass, [3, B, bodies]
    axes: Array  # principal axes of inertia, [3 axes, 3 components, B, bodies]
    velocities: Array  # velocities of the centers of mass, [3, B, bodies]
    angular_velocities: Array  # [3, B, bodies]


def motion(readings: Array, num_bodies: int) -> Motion:
    """Motion of the bodies from readings [B, ns]; needs `with_contacts` and `with_motion`."""
    start = _CENTER_SIZE + num_bodies * _CONTACT_SIZE
    vectors = _by_component(readings[:, start:], num_bodies)
    center = mass_center(readings).T[:, :, None]
    return Motion(center, vectors[0], vectors[1:4], vectors[4], vectors[5])


def cross(a: Array, b: Array) -> Array:
    """Cross product a × b along the first axis."""
    x, y, z = a
    u, v, w = b
    return np.stack([y * w - z * v, z * u - x * w, x * v - y * u])


def _by_component(readings: Array, num_bodies: int) -> Array:
    """Move components to the front, [B, bodies·V·3] ↦ [V, 3, B, bodies]."""
    vectors = readings.reshape(len(readings), num_bodies, -1, 3).transpose(2, 3, 0, 1)
    return np.ascontiguousarray(vectors)
