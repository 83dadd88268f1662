"""Pictures of MuJoCo states, off screen."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import warnings
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

__all__ = ["draw", "draw_state"]

_HEIGHT, _WIDTH = 240, 320
_DISTANCE_METRES = 4.0
_MOST_RENDERERS = 2


def draw_state(
    model: mujoco.MjModel, qpos: NDArray[np.float64], qvel: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """What a camera that follows the robot sees, shape [240, 320, 3].

    Raises:
        RuntimeError: if this machine cannot draw off screen.
    """
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = qpos, qvel
    mujoco.mj_forward(model, data)
    return draw(model, data, _camera(model))


def draw(model: mujoco.MjModel, data: mujoco.MjData, camera: Any) -> NDArray[np.uint8]:
    """What a camera sees, given as an object, a name or an index. Shape [240, 320, 3].

    Raises:
        RuntimeError: if this machine cannot draw off screen.
    """
    renderer = _RENDERERS.of(model)
    renderer.update_scene(data, camera=camera)
    picture: NDArray[np.uint8] = renderer.render().copy()
    return picture


class _Renderers:
    """The last two that were used: one holds a drawing context, slow to make and 110 MB large."""

    def __init__(self) -> None:
        self._kept: dict[mujoco.MjModel, Any] = {}

    def of(self, model: mujoco.MjModel) -> Any:
        """One for a model."""
        renderer = self._kept.pop(model, None) or _new_renderer(model)
        self._kept[model] = renderer  # the last one
        while len(self._kept) > _MOST_RENDERERS:
            self._kept.pop(next(iter(self._kept))).close()
        return renderer

    def close(self) -> None:
        """Free all."""
        while self._kept:
            self._kept.popitem()[1].close()


_RENDERERS = _Renderers()
# Freed before MuJoCo's own clean-up at exit, which was registered when it was imported.
atexit.register(_RENDERERS.close)


def _new_renderer(model: mujoco.MjModel) -> Any:
    _use_egl_without_a_display()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error below says it all
            return mujoco.Renderer(model, _HEIGHT, _WIDTH)
    except Exception as error:
        raise RuntimeError(
            "MuJoCo cannot draw off screen here; on a machine without a display it needs the "
            "libraries libegl1, libgl1 and libgles2"
        ) from error


def _use_egl_without_a_display() -> None:
    """Let MuJoCo draw through EGL where GLFW, its default, would find no display.

    MuJoCo itself reads MUJOCO_GL when it is imported, which may have happened long before.
    """
    if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("MUJOCO_GL"):
        return
    contexts = getattr(sys.modules[mujoco.Renderer.__module__], "gl_context", None)
    with contextlib.suppress(Exception):  # without EGL the renderer says what is missing
        from mujoco.egl import GLContext

        if contexts is not None:
            contexts.GLContext = GLContext


def _camera(model: mujoco.MjModel) -> Any:
    """The model's own tracking camera, or one that follows its first body."""
    following = (mujoco.mjtCamLight.mjCAMLIGHT_TRACK, mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM)
    for index in range(model.ncam):
        if mujoco.mjtCamLight(model.cam_mode[index]) in following:
            return index
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_TRACKING
    camera.trackbodyid = 1
    camera.distance = _DISTANCE_METRES
    camera.azimuth, camera.elevation = 90, -20
    return camera
