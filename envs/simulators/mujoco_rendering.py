"""Images of MuJoCo states, rendered off screen."""

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

__all__ = ["render", "render_state"]

_HEIGHT, _WIDTH = 240, 320
_DISTANCE_METRES = 4.0
_MAX_RENDERERS = 2


def render_state(
    model: mujoco.MjModel, qpos: NDArray[np.float64], qvel: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Render a state with a camera that follows the robot. Shape [240, 320, 3].

    Args:
        model: the robot's model.
        qpos: generalized positions. Shape [nq].
        qvel: generalized velocities. Shape [nv].

    Raises:
        RuntimeError: if this machine cannot render off screen.
    """
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = qpos, qvel
    mujoco.mj_forward(model, data)
    return render(model, data, _camera(model))


def render(model: mujoco.MjModel, data: mujoco.MjData, camera: Any) -> NDArray[np.uint8]:
    """Render the present state of `data`. Shape [240, 320, 3].

    Args:
        model: the model to render.
        data: its data, after `mj_forward`.
        camera: a camera object, name or index.

    Raises:
        RuntimeError: if this machine cannot render off screen.
    """
    renderer = _RENDERERS.get(model)
    renderer.update_scene(data, camera=camera)
    image: NDArray[np.uint8] = renderer.render().copy()
    return image


class _Renderers:
    """Cache of the two most recently used renderers; each takes 110 MB and is slow to create."""

    def __init__(self) -> None:
        self._kept: dict[mujoco.MjModel, Any] = {}

    def get(self, model: mujoco.MjModel) -> Any:
        """The renderer of a model, created if it is not in the cache."""
        renderer = self._kept.pop(model, None) or _new_renderer(model)
        self._kept[model] = renderer  # at the end, as the most recently used
        while len(self._kept) > _MAX_RENDERERS:
            self._kept.pop(next(iter(self._kept))).close()
        return renderer

    def close(self) -> None:
        """Free all renderers."""
        while self._kept:
            self._kept.popitem()[1].close()


_RENDERERS = _Renderers()
# Exit handlers run in reverse order, so this one runs before MuJoCo's own.
atexit.register(_RENDERERS.close)


def _new_renderer(model: mujoco.MjModel) -> Any:
    _use_egl_without_a_display()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error below covers them
            return mujoco.Renderer(model, _HEIGHT, _WIDTH)
    except Exception as error:
        raise RuntimeError(
            "MuJoCo cannot render off screen here; on a machine without a display it needs the "
            "libraries libegl1, libgl1 and libgles2"
        ) from error


def _use_egl_without_a_display() -> None:
    """Make MuJoCo render through EGL if GLFW, its default, would not find a display.

    Setting MUJOCO_GL would be too late: MuJoCo reads it only when it is imported.
    """
    if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("MUJOCO_GL"):
        return
    contexts = getattr(sys.modules[mujoco.Renderer.__module__], "gl_context", None)
    with contextlib.suppress(Exception):  # without EGL the renderer raises
        from mujoco.egl import GLContext

        if contexts is not None:
            contexts.GLContext = GLContext


def _camera(model: mujoco.MjModel) -> Any:
    """The model's tracking camera, or a new one that follows its first body."""
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
