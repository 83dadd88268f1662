"""Models with sensors on every body, and what the readings say about forces and motion.

MuJoCo's threads hand out states and sensor readings only, so what an observation needs beyond the
state is sensed: contact forces (`cfrc_ext` of MuJoCo) and the motion of bodies. The readings
belong to the observed state: they are what `mj_forward` and `mj_rnePostConstraint` give there.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple
from xml.etree import ElementTree

import mujoco
import numpy as np

from .mujoco_batch import Array, gymnasium_xml

__all__ = [
    "Motion",
    "contact_forces",
    "cross",
    "motion",
    "sensing_model",
]

# Sensors of how a body moves, as MJCF names them; each reads a vector.
_MOTION = ("framepos", "framexaxis", "frameyaxis", "framezaxis", "framelinvel", "frameangvel")
_CONTACT_SIZE = 9
_CENTRE_SIZE = 3  # readings of the robot's centre of mass, the first


@cache
def sensing_model(file: str, *, moving: bool = False) -> mujoco.MjModel:
    """Gymnasium's model, with sensors and a one-stage integrator.

    Sensors in this order: the robot's centre of mass; of each body the resultant of its contacts;
    with `moving`, of each body where it is and how it moves. The same object is given every time.

    Raises:
        RuntimeError: if the installed MuJoCo has no contact sensors.
    """
    if not hasattr(mujoco.mjtSensor, "mjSENS_CONTACT"):
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
    for name in names:
        ElementTree.SubElement(
            sensors, "contact", body1=name, data="force torque pos", reduce="netforce"
        )
    for name in names if moving else ():
        for kind in _MOTION:
            ElementTree.SubElement(sensors, kind, objtype="body", objname=name)
    model = mujoco.MjModel.from_xml_string(ElementTree.tostring(root, encoding="unicode"))
    model.opt.integrator = mujoco.mjtIntegrator.mjINT_EULER
    return model


def contact_forces(readings: Array, num_bodies: int) -> Array:
    """MuJoCo's `cfrc_ext`: what contacts exert on each body, in the world's frame.

    A body's six numbers are the torque about the robot's centre of mass c and the force,

        (τ + (p − c) × f, f),

    of the resultant f, τ of its contacts at the point p. The world's are 0.

    Args:
        readings: of `sensing_model`, shape [B, ns].
        num_bodies: bodies of the robot, the world not counted.

    Returns:
        N·m and N, shape [B, num_bodies + 1, 6].
    """
    width = num_bodies * _CONTACT_SIZE
    force, torque, point = _by_component(readings[:, _CENTRE_SIZE:][:, :width], num_bodies)
    centre = readings[:, :_CENTRE_SIZE].T[:, :, None]
    wrenches = np.zeros((len(readings), num_bodies + 1, 6))
    # The sensor's force is the one that the body exerts on what it touches.
    wrenches[:, 1:, :3] = -(torque + cross(point - centre, force)).transpose(1, 2, 0)
    wrenches[:, 1:, 3:] = -force.transpose(1, 2, 0)
    return wrenches


class Motion(NamedTuple):
    """Where the bodies are and how they move, in the world's frame; the world is left out.

    The three components come first: arithmetic on long contiguous rows is several times as fast.
    """

    mass_centre: Array  # of the whole robot, [3, B, 1]
    positions: Array  # of each body's centre of mass, [3, B, bodies]
    axes: Array  # of each body's inertia, [3 axes, 3 components, B, bodies]
    velocities: Array  # of each body's centre of mass, [3, B, bodies]
    spins: Array  # angular velocities, [3, B, bodies]


def motion(readings: Array, num_bodies: int) -> Motion:
    """What the sensors of a `moving` model say about its bodies, from readings [B, ns]."""
    start = _CENTRE_SIZE + num_bodies * _CONTACT_SIZE
    vectors = _by_component(readings[:, start:], num_bodies)
    centre = readings[:, :_CENTRE_SIZE].T[:, :, None]
    return Motion(centre, vectors[0], vectors[1:4], vectors[4], vectors[5])


def cross(a: Array, b: Array) -> Array:
    """a × b along the first axis."""
    x, y, z = a
    u, v, w = b
    return np.stack([y * w - z * v, z * u - x * w, x * v - y * u])


def _by_component(readings: Array, num_bodies: int) -> Array:
    """Vectors of each body, [B, bodies·V·3] ↦ [V, 3, B, bodies]."""
    vectors = readings.reshape(len(readings), num_bodies, -1, 3).transpose(2, 3, 0, 1)
    return np.ascontiguousarray(vectors)
