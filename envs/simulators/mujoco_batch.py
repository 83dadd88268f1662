"""A batch of MuJoCo environments that steps in native threads.

One call steps all environments of all tasks. This module handles physics states as arrays; models,
observations and rewards are defined by families.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, TypeAlias
from xml.etree import ElementTree

import mujoco
import numpy as np
from mujoco import rollout
from numpy.typing import NDArray

from metarl.devices import usable_cores
from metarl.validation import require_at_least

__all__ = [
    "Array",
    "MujocoBatch",
    "compile_xml",
    "gymnasium_model",
    "gymnasium_xml",
    "refresh_constants",
]

_SIZES = ("nq", "nv", "nu", "na", "nbody", "njnt", "ngeom", "nsite", "nsensordata", "nM")
"""Attributes of a model that determine the size of its data."""

Array: TypeAlias = NDArray[np.float64]


def gymnasium_xml(file: str) -> ElementTree.Element:
    """Parse a model file of the installed Gymnasium, such as "half_cheetah.xml"."""
    path = resources.files("gymnasium") / "envs" / "mujoco" / "assets" / file
    return ElementTree.fromstring(path.read_text(encoding="utf-8"))


@cache
def gymnasium_model(file: str) -> mujoco.MjModel:
    """Load a model from Gymnasium's files, so that both have the same physics.

    The attribute `settotalmass`, which newer versions of MuJoCo deprecate, is applied by
    `compile_xml`; the model is bitwise identical. Every call returns the same object: copy it
    before you modify it.
    """
    return compile_xml(gymnasium_xml(file))


def compile_xml(root: ElementTree.Element) -> mujoco.MjModel:
    """Compile a model; `settotalmass` is removed from `root` and applied here."""
    compiler = root.find("compiler")
    total_mass = None if compiler is None else compiler.attrib.pop("settotalmass", None)
    model = mujoco.MjModel.from_xml_string(ElementTree.tostring(root, encoding="unicode"))
    if total_mass is not None:
        mujoco.mj_setTotalmass(model, float(total_mass))
        refresh_constants(model, mujoco.MjData(model))
    return model


def refresh_constants(model: mujoco.MjModel, scratch: mujoco.MjData) -> None:
    """Recompute the constants that depend on masses and inertias after these were modified.

    Args:
        model: modified in place.
        scratch: data of a model of the same shape, which is overwritten.
    """
    mujoco.mj_setConst(model, scratch)
    model.stat.meaninertia = model.dof_M0.mean()  # mj_setConst does not update these two
    model.stat.meanmass = model.body_mass[1:].mean()


class MujocoBatch:
    """Physics states of many environments, stepped together by `mujoco.rollout`.

    Owns the threads, one `MjData` per thread, and the states. The constraint solver has no warm
    start at control steps, so results depend only on the state and the controls, not on the thread
    or on earlier steps.
    """

    def __init__(
        self,
        models: mujoco.MjModel | Sequence[mujoco.MjModel],
        batch_size: int,
        *,
        frame_skip: int,
        sensor_model: mujoco.MjModel | None = None,
        num_threads: int | None = None,
    ) -> None:
        """Start the threads.

        Args:
            models: one model for all environments, or one for each.
            batch_size: number of environments B.
            frame_skip: physics steps per control step.
            sensor_model: model with sensors and a one-stage integrator; None reads no sensors.
            num_threads: native threads; None uses one per core available to this process.

        Raises:
            ValueError: if a number is below 1, or the number of models is neither 1 nor B.
        """
        require_at_least("batch_size", batch_size, 1)
        require_at_least("frame_skip", frame_skip, 1)
        if num_threads is not None:
            require_at_least("num_threads", num_threads, 1)
        shared = not isinstance(models, Sequence)
        self.models: list[Any] = [models] * batch_size if shared else list(models)
        if len(self.models) != batch_size:
            raise ValueError(
                f"models must be one model or {batch_size} of them, got {len(self.models)}"
            )
        self.model = model = self.models[0]
        _require_same_shape(model, self.models)
        self._frame_skip = frame_skip
        cores = usable_cores() if num_threads is None else num_threads
        self._num_threads = min(cores, batch_size)
        size = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        self._states = np.zeros((batch_size, size))
        self._trajectory = np.empty((batch_size, frame_skip, size))
        self._controls = np.zeros((batch_size, frame_skip, model.nu))
        self._qpos = slice(1, 1 + model.nq)  # a state is [time, qpos, qvel, …]
        self._qvel = slice(1 + model.nq, 1 + model.nq + model.nv)
        self._start_seconds = frame_skip * model.opt.timestep  # above 0, see `diverged`
        self._min_step_seconds = (frame_skip - 0.5) * model.opt.timestep
        self._min_clock_seconds = np.zeros(batch_size)
        self._sensor = None if sensor_model is None else _Sensor(sensor_model, batch_size, size)
        self._start_threads()

    def _start_threads(self) -> None:
        self._pool = rollout.Rollout(nthread=self._num_threads)
        self._workspaces = _workspaces(self.model, self._num_threads)
        if self._sensor is not None:
            self._sensor.workspaces = _workspaces(self._sensor.model, self._num_threads)

    def __getstate__(self) -> dict[str, Any]:
        """The state without threads, which a copy starts again."""
        return {k: v for k, v in vars(self).items() if k not in ("_pool", "_workspaces")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._start_threads()

    @property
    def qpos(self) -> Array:
        """Generalized positions as a view. Shape [B, nq]."""
        return self._states[:, self._qpos]

    @property
    def qvel(self) -> Array:
        """Generalized velocities as a view. Shape [B, nv]."""
        return self._states[:, self._qvel]

    @property
    def sensors(self) -> Array:
        """Sensor readings in the present states as a view. Shape [B, ns]; ns = 0 without sensors.

        Forces are computed with the controls of the last step, and with 0 after `set_states`.
        """
        return self._states[:, :0] if self._sensor is None else self._sensor.readings[:, 0]

    @property
    def controls(self) -> Array:
        """Controls of the last step as a view; 0 after `set_states`. Shape [B, nu]."""
        return self._controls[:, 0]

    def set_states(
        self, qpos: Array, qvel: Array, env_mask: NDArray[np.bool_] | None = None
    ) -> None:
        """Set the states of environments at the start of an episode.

        Args:
            qpos: shape [B, nq].
            qvel: shape [B, nv].
            env_mask: bool [B], true for environments to set; None sets all.
        """
        chosen = slice(None) if env_mask is None else env_mask
        self._states[chosen] = 0
        self._states[chosen, 0] = self._start_seconds
        self._states[chosen, self._qpos] = qpos[chosen]
        self._states[chosen, self._qvel] = qvel[chosen]
        self._controls[chosen] = 0
        self._read_sensors()

    def set_models(self, models: Sequence[mujoco.MjModel]) -> None:
        """Replace the models by others of the same shape, one for each environment.

        Raises:
            ValueError: if the number of models is not B, or one has another shape.
        """
        if len(models) != len(self._states):
            raise ValueError(f"models must have {len(self._states)} entries, got {len(models)}")
        _require_same_shape(self.model, models)
        self.models = list(models)

    def diverged(self) -> NDArray[np.bool_] | None:
        """Which environments MuJoCo reset in the last step, bool [B]; None if it reset none.

        MuJoCo resets an environment if a position, velocity or acceleration is huge or not finite.
        Its clock then restarts at 0, whereas the clock of an episode starts one control step later.
        """
        was_reset: NDArray[np.bool_] = self._states[:, 0] < self._min_clock_seconds
        return was_reset if was_reset.any() else None

    def step(self, controls: Array, env_mask: NDArray[np.bool_] | None = None) -> None:
        """Run `frame_skip` physics steps with constant controls.

        Args:
            controls: shape [B, nu].
            env_mask: bool [B], true for environments to step; None steps all. The state, the
                controls and the sensors of the others stay as they are.
        """
        if env_mask is None or env_mask.all():
            np.add(self._states[:, 0], self._min_step_seconds, out=self._min_clock_seconds)
            self._controls[:] = controls[:, None]
            self._rollout(self.models, self._states, self._controls)
            self._states[:] = self._trajectory[:, -1]
        else:
            self._step_some(controls, np.flatnonzero(env_mask))
        self._read_sensors()

    def _step_some(self, controls: Array, rows: NDArray[np.intp]) -> None:
        self._min_clock_seconds[:] = 0  # no environment that waits has diverged
        if not len(rows):
            return
        states = self._states[rows]
        self._min_clock_seconds[rows] = states[:, 0] + self._min_step_seconds
        self._controls[rows] = controls[rows, None]
        self._rollout([self.models[k] for k in rows], states, self._controls[rows])
        self._states[rows] = self._trajectory[: len(rows), -1]

    def _rollout(self, models: list[Any], states: Array, controls: Array) -> None:
        """Run the physics of k environments and write to the first k trajectories."""
        self._pool.rollout(
            models,
            self._workspaces,
            states,
            controls,
            nstep=self._frame_skip,
            state=self._trajectory[: len(states)],
            skip_checks=True,
        )

    def close(self) -> None:
        """End the threads."""
        self._pool.close()

    def _read_sensors(self) -> None:
        if self._sensor is not None:
            self._sensor.read(self._pool, self._states, self._controls[:, 0])


def _require_same_shape(model: mujoco.MjModel, others: Sequence[mujoco.MjModel]) -> None:
    """Reject models whose data have another size: MuJoCo would write out of bounds."""
    for k, other in enumerate({id(one): one for one in others}.values()):
        for name in _SIZES:
            if getattr(other, name) != getattr(model, name):
                raise ValueError(
                    f"models must have one shape, got {name} {getattr(other, name)} in model {k} "
                    f"and {getattr(model, name)} in model 0"
                )
        if other.opt.timestep != model.opt.timestep:
            raise ValueError(
                f"models must have one time step, got {other.opt.timestep:g} s in model {k} and "
                f"{model.opt.timestep:g} s in model 0"
            )


def _workspaces(model: mujoco.MjModel, num_threads: int) -> list[Any]:
    return [mujoco.MjData(model) for _ in range(num_threads)]


class _Sensor:
    """Reads sensors in given states; MuJoCo evaluates them at the start of a physics step.

    A separate model has the sensors, so they are evaluated once per control step instead of once
    per stage of the integrator.
    """

    def __init__(self, model: mujoco.MjModel, batch_size: int, state_size: int) -> None:
        self.model = model
        self.workspaces: list[Any] = []
        """One `MjData` per thread, set by the owner of the threads."""
        self._models = [model] * batch_size
        self._controls = np.zeros((batch_size, 1, model.nu))
        self._next_states = np.empty((batch_size, 1, state_size))  # required by MuJoCo, not used
        self.readings = np.zeros((batch_size, 1, model.nsensordata))

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "workspaces": []}

    def read(self, pool: rollout.Rollout, states: Array, controls: Array) -> None:
        self._controls[:, 0] = controls
        pool.rollout(
            self._models,
            self.workspaces,
            states,
            self._controls,
            nstep=1,
            state=self._next_states,
            sensordata=self.readings,
            skip_checks=True,
        )
