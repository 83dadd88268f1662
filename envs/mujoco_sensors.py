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
    "motion",
    "sensing_model",
]

# Sensors of one body: name in MJCF and number of readings.
_MOTION = (
    ("framepos", 3),
    ("framexaxis", 3),
    ("frameyaxis", 3),
    ("framezaxis", 3),
    ("framelinvel", 3),
    ("frameangvel", 3),
)
_CONTACT_SIZE, _MOTION_SIZE = 9, sum(size for _, size in _MOTION)
_MASS_CENTRE = slice(0, 3)  # the first readings


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
        for kind, _ in _MOTION:
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
    of_bodies = readings[:, 3 : 3 + num_bodies * _CONTACT_SIZE].reshape(-1, num_bodies, 3, 3)
    force, torque, point = of_bodies[:, :, 0], of_bodies[:, :, 1], of_bodies[:, :, 2]
    wrenches = np.zeros((len(readings), num_bodies + 1, 6))
    # The sensor's force is the one that the body exerts on what it touches.
    wrenches[:, 1:, :3] = -torque - _cross(point - readings[:, None, _MASS_CENTRE], force)
    wrenches[:, 1:, 3:] = -force
    return wrenches


class Motion(NamedTuple):
    """Where the bodies are and how they move, in the world's frame; num_bodies without world."""

    mass_centre: Array  # of the whole robot, [B, 3]
    positions: Array  # of each body's centre of mass, [B, bodies, 3]
    rotations: Array  # columns are the axes of each body's inertia, [B, bodies, 3, 3]
    velocities: Array  # of each body's centre of mass, [B, bodies, 3]
    spins: Array  # angular velocities, [B, bodies, 3]


def motion(readings: Array, num_bodies: int) -> Motion:
    """What the sensors of a `moving` model say about its bodies, from readings [B, ns]."""
    start = 3 + num_bodies * _CONTACT_SIZE
    of_bodies = readings[:, start:].reshape(-1, num_bodies, _MOTION_SIZE // 3, 3)
    return Motion(
        readings[:, _MASS_CENTRE],
        of_bodies[:, :, 0],
        np.swapaxes(of_bodies[:, :, 1:4], 2, 3),
        of_bodies[:, :, 4],
        of_bodies[:, :, 5],
    )


def _cross(a: Array, b: Array) -> Array:
    """a × b along the last axis; several times as fast as NumPy's on small arrays."""
    product = np.empty(np.broadcast_shapes(a.shape, b.shape))
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        product[..., i] = a[..., j] * b[..., k] - a[..., k] * b[..., j]
    return product
