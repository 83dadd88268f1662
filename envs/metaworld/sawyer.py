"""Faster creation and stepping of Meta-World's environments, with identical results.

The classes here are inserted between a task's class in Meta-World and its base class. The package
metaworld is imported when they are created.
"""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from collections.abc import Callable
from functools import cache, lru_cache
from types import FunctionType
from typing import Any

import mujoco
import numpy as np
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray

from ..simulators.mujoco_rendering import render

__all__ = ["goal_bounds", "make_sawyer", "scripted_actions", "set_goal"]

Array = NDArray[np.float64]

_MAX_COMPILED = 16  # cached models, 21 MB each
_CAMERA = "corner2"


def make_sawyer(task_name: str, reward_version: str) -> Any:
    """Create an environment for a task name; call `set_goal` before its first reset.

    Args:
        task_name: without Meta-World's "-v3".
        reward_version: "v1" or "v2".
    """
    return _fast_class(task_name)(
        reward_function_version=reward_version,
        render_mode="rgb_array",
    )


def set_goal(env: Any, task_name: str, goal: Array) -> None:
    """Set the goal of an environment that was created for this task name, and hide it from
    observations.

    Args:
        env: from `make_sawyer`.
        task_name: without Meta-World's "-v3".
        goal: the task's random vector, [3] or [6].
    """
    from metaworld.types import Task

    data = {
        "rand_vec": goal,
        "env_cls": _task_class(task_name),
        "partially_observable": True,
    }
    env.set_task(Task(env_name=f"{task_name}-v3", data=pickle.dumps(data)))


def scripted_actions(task_name: str, goal: Array, observations: Array) -> NDArray[np.float32]:
    """Return the actions of Meta-World's scripted policy, which observes the goal.

    Args:
        task_name: without Meta-World's "-v3".
        goal: the task's random vector, [3] or [6].
        observations: with the goal hidden, [E, 39].

    Returns:
        Actions in [−1, 1], [E, 4].
    """
    from metaworld.policies import ENV_POLICY_MAP

    policy = ENV_POLICY_MAP[f"{task_name}-v3"]()
    completed = observations.copy()
    completed[:, -3:] = _target(task_name, goal)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that actions are clipped
        actions = np.array([policy.get_action(row)[:4] for row in completed], np.float32)
    return actions.clip(-1, 1)


def _target(task_name: str, goal: Array) -> Array:
    """Target position for scripted policies that use the goal, [3]; the others ignore it."""
    if task_name == "door-close":
        return np.array([goal[0] + 0.2, goal[1] - 0.2, goal[2]])
    if task_name == "sweep":
        return np.array([0.5, goal[1], 0.01])
    if task_name == "sweep-into":
        return np.array([0.0, 0.84, 0.02])
    return goal[-3:]


@cache
def goal_bounds(task_name: str) -> tuple[Array, Array]:
    """Low and high of a task's random vector, each [3] or [6]."""
    space = _insert_base(_task_class(task_name), _BoundsOnly)()._random_reset_space
    return space.low, space.high


@cache
def _fast_class(task_name: str) -> Any:
    base = _task_class(task_name)
    fast_class = _insert_base(base, _FastSawyer)
    quaternions = base._get_quat_objects
    if "Rotation" in quaternions.__code__.co_names:
        names = {**quaternions.__globals__, "Rotation": _Rotation}
        fast_class._get_quat_objects = FunctionType(quaternions.__code__, names)
    return fast_class


def _insert_base(task_class: Any, mixin: type) -> Any:
    """The class of a task with a mixin between it and its base class."""
    from metaworld.sawyer_xyz_env import SawyerXYZEnv

    between = type(mixin.__name__, (mixin, SawyerXYZEnv), {})
    return type(mixin.__name__ + task_class.__name__, (task_class, between), {})


def _task_class(task_name: str) -> Any:
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    return ALL_V3_ENVIRONMENTS[f"{task_name}-v3"]


@lru_cache(maxsize=_MAX_COMPILED)
def _compiled(path: str) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_path(path)


class _FastSawyer:
    """Faster versions of inherited methods, with bitwise identical results."""

    fullpath: str
    model: mujoco.MjModel
    data: mujoco.MjData
    get_endeff_pos: Callable[[], Array]
    _get_pos_objects: Callable[[], Array]
    _get_quat_objects: Callable[[], Array]

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """Model and data; a compiled model is cached and copied because resets modify it."""
        model = copy.copy(_compiled(self.fullpath))
        return model, mujoco.MjData(model)

    def _step_mujoco_simulation(self, ctrl: Any, n_frames: int) -> None:
        """Run physics steps without computing body forces, which are not used."""
        self.data.ctrl[:] = ctrl
        mujoco.mj_step(self.model, self.data, nstep=n_frames)

    def _get_curr_obs_combined_no_goal(self) -> Array:
        """Hand [3], opening of the gripper [1], positions and quaternions of two objects [14]."""
        observation = np.zeros(18)
        body = self.data.body
        opening = body("rightclaw").xpos - body("leftclaw").xpos
        observation[:3] = self.get_endeff_pos()
        observation[3] = min(math.sqrt(opening.dot(opening)) / 0.1, 1.0)
        positions, quaternions = self._get_pos_objects(), self._get_quat_objects()
        for k in range(len(positions) // 3):
            start = 4 + 7 * k
            observation[start : start + 3] = positions[3 * k : 3 * k + 3]
            observation[start + 3 : start + 7] = quaternions[4 * k : 4 * k + 4]
        return observation

    def touching_object(self, object_geom_id: int) -> bool:
        """Whether both pads of the gripper press on an object."""
        contact = self.data.contact
        geoms = contact.geom
        on_object = (geoms == object_geom_id).any(axis=1)
        for pad in ("leftpad_geom", "rightpad_geom"):
            on_pad = (geoms == self.model.geom(pad).id).any(axis=1)
            rows = contact.efc_address[on_object & on_pad]
            if not sum(self.data.efc_force[rows].tolist()) > 0:
                return False
        return True

    def render(self) -> NDArray[np.uint8]:
        """An image [height, width, 3], rotated because Meta-World's cameras are upside down."""
        try:
            image = render(self.model, self.data, _CAMERA)
        except RuntimeError as error:
            raise DependencyNotInstalled(str(error)) from error
        return image[::-1, ::-1]


class _Rotation:
    """Replaces SciPy's class, in which a conversion takes as long as a physics step."""

    def __init__(self, matrix: Array) -> None:
        self._matrix = matrix

    @classmethod
    def from_matrix(cls, matrix: Array) -> _Rotation:
        """A rotation from its orthogonal matrix [3, 3]."""
        return cls(matrix)

    def as_quat(self) -> Array:
        """The unit quaternion (x, y, z, w), with the same sign as in SciPy.

        Source: Markley 2008, "Unit Quaternion from Rotation Matrix".
        """
        (a, b, c), (d, e, f), (g, h, i) = self._matrix.tolist()
        trace = a + e + i
        largest = max(a, e, i, trace)
        if largest == a:
            x, y, z, w = 1 - trace + 2 * a, d + b, g + c, h - f
        elif largest == e:
            x, y, z, w = d + b, 1 - trace + 2 * e, h + f, c - g
        elif largest == i:
            x, y, z, w = g + c, h + f, 1 - trace + 2 * i, d - b
        else:
            x, y, z, w = h - f, c - g, d - b, 1 + trace
        return np.array((x, y, z, w)) / math.sqrt(x * x + y * y + z * z + w * w)


class _BoundsOnly:
    """A base class without physics, sufficient to read the bounds of a task."""

    def __init__(self, **settings: Any) -> None:
        self.hand_low, self.hand_high = (np.array(settings[key]) for key in _HAND)
        self.model = _AnyAttribute()


_HAND = ("hand_low", "hand_high")


class _AnyAttribute:
    """A dummy model that accepts every attribute and call; the results are not used."""

    def __getattr__(self, name: str) -> _AnyAttribute:
        return self

    def __call__(self, *_: object) -> _AnyAttribute:
        return self
