"""Families on MuJoCo, whose environments step together in native threads.

A family defines observations and rewards as pure functions of arrays; this module handles physics,
resets and time.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import gymnasium
import mujoco
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from torch import Tensor

from metarl.finite import NonFiniteError
from metarl.tasks.family import Step, TaskFamily
from metarl.tasks.spaces import Tasks
from metarl.validation import require_at_least

from .mujoco_batch import Array, MujocoBatch
from .mujoco_rendering import render_state

__all__ = [
    "ControlStep",
    "Noise",
    "RobotSpec",
    "MujocoFamily",
    "MujocoFamilyBatch",
    "Sensors",
    "States",
]


@dataclass(frozen=True)
class Sensors:
    """Sensors of a robot, in addition to positions and velocities."""

    load: Callable[[], mujoco.MjModel]
    """Returns the model with sensors, always the same object, see `mujoco_sensors`."""
    read: Callable[[Array], Array]
    """Readings [B, ns] ↦ the values that observation and reward use, [B, m]."""


@dataclass(frozen=True)
class Noise:
    """Distribution of the noise on initial positions or velocities."""

    kind: Literal["normal", "uniform"]
    scale: float
    """Standard deviation, or half-width of the uniform distribution."""

    def sample(self, shape: tuple[int, int], generator: torch.Generator) -> Array:
        """Independent samples, float64."""
        if self.kind == "normal":
            noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        else:
            noise = 2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1
        samples: Array = noise.numpy()
        return self.scale * samples


@dataclass(frozen=True)
class RobotSpec:
    """Model of a robot, and the distribution of its initial states."""

    load: Callable[[], mujoco.MjModel]
    """Returns the model, always the same object."""
    frame_skip: int
    """Physics steps per control step."""
    position_noise: Noise
    velocity_noise: Noise
    sensors: Sensors | None = None
    initial_qpos: tuple[float, ...] | None = None
    """Initial positions without noise; None: those of the model."""

    @cached_property
    def dt_seconds(self) -> float:
        """Duration of a control step."""
        return float(self.load().opt.timestep) * self.frame_skip


@dataclass(frozen=True)
class States:
    """States of all B = N·E environments."""

    qpos: Array  # [B, nq]
    qvel: Array  # [B, nv]
    sensed: Array  # [B, m], values of the robot's sensors; m = 0 without sensors
    tasks: Tasks  # [B, D]
    controls: Array  # [B, nu], of the last step, clipped to the action space; 0 after a reset


@dataclass(frozen=True)
class ControlStep(States):
    """One control step of all environments: the states after it, and parts of those before."""

    qpos_before: Array  # [B, nq]
    sensed_before: Array  # [B, m]
    actions: Array  # [B, nu], as the policy chose them; `controls` are these after clipping


class MujocoFamily(TaskFamily):
    """A task family on MuJoCo.

    The methods below receive all environments at once, as arrays whose first axis is B = N·E, and
    must not modify them.
    """

    robot: RobotSpec
    action_space: spaces.Box

    @property
    def model(self) -> mujoco.MjModel:
        """The model that all tasks share; the caller must not modify it."""
        return self.robot.load()

    def task_models(self, tasks: Tasks) -> Sequence[mujoco.MjModel] | None:  # noqa: ARG002
        """One model for each task [N, D] if dynamics vary; None: all tasks share `model`."""
        return None

    @abstractmethod
    def observe(self, states: States) -> Array:
        """Observations, shape [B, O]."""

    @abstractmethod
    def reward(self, step: ControlStep) -> Array:
        """Rewards of one control step, shape [B]."""

    def terminated(self, step: ControlStep) -> NDArray[np.bool_] | None:  # noqa: ARG002
        """Which episodes ended with this step, bool [B]; None: they never do."""
        return None

    def success(self, step: ControlStep) -> NDArray[np.bool_] | None:  # noqa: ARG002
        """Which environments succeeded in this step, bool [B]; None: success is not defined."""
        return None

    def best_actions(self, observations: Tensor, tasks: Tensor) -> Tensor | None:  # noqa: ARG002
        """Best known actions [N, E, A] of an oracle that knows the tasks; None without an oracle.

        Args:
            observations: [N, E, O].
            tasks: [N, 1, D], on the same device.
        """
        return None

    def make_batch(
        self, tasks: Tasks, *, num_envs: int, device: torch.device | str = "cpu"
    ) -> MujocoFamilyBatch:
        return MujocoFamilyBatch(self, tasks, num_envs, torch.device(device))


class MujocoFamilyBatch:
    """All environments of all tasks: physics on the CPU's threads, results on the caller's device.

    An environment whose episode has ended is not stepped: it returns its last observation and
    reward 0 until it is reset. An environment whose physics diverge terminates with reward 0 for
    that step; MuJoCo resets its state to the model's default.
    """

    autoreset_mode: ClassVar[AutoresetMode] = AutoresetMode.DISABLED

    def __init__(
        self, family: MujocoFamily, tasks: Tasks, num_envs: int, device: torch.device
    ) -> None:
        require_at_least("num_envs", num_envs, 1)
        rows = family.check_tasks(tasks)
        self._family, self._device, self._on_cpu = family, device, device.type == "cpu"
        self.num_tasks, self.num_envs, self.horizon = len(rows), num_envs, family.horizon
        self.observation_space = family.observation_space
        self.action_space: gymnasium.Space[Any] = family.action_space
        self._size = self.num_tasks * num_envs
        self._low = family.action_space.low.astype(np.float64)
        self._high = family.action_space.high.astype(np.float64)
        sensors = family.robot.sensors
        self._read = None if sensors is None else sensors.read
        models = family.task_models(rows)
        if models is not None and sensors is not None:
            raise TypeError(f"{family.id} cannot combine sensors with separate models for tasks")
        self.physics = MujocoBatch(
            family.model if models is None else self._for_each_env(models),
            self._size,
            frame_skip=family.robot.frame_skip,
            sensor_model=None if sensors is None else sensors.load(),
        )
        self._time = np.zeros(self._size, np.int64)
        self._terminated = np.zeros(self._size, np.bool_)
        self._observations: Tensor | None = None
        self._store_tasks(rows)

    def reset(self, generator: torch.Generator, env_mask: Tensor | None = None) -> Tensor:
        if env_mask is not None:
            self._last_observations()  # raises unless all environments were reset before
        robot, model = self._family.robot, self.physics.model
        start = model.qpos0 if robot.initial_qpos is None else np.array(robot.initial_qpos)
        positions = start + robot.position_noise.sample((self._size, model.nq), generator)
        velocities = robot.velocity_noise.sample((self._size, model.nv), generator)
        chosen = None if env_mask is None else env_mask.reshape(-1).cpu().numpy()
        self.physics.set_states(positions, velocities, chosen)
        self._sensed = self._read_sensors()
        begun = slice(None) if chosen is None else chosen
        self._time[begun], self._terminated[begun] = 0, False
        self._observations = self._floats(self._family.observe(States(*self._state_fields())))
        return self._observations

    def step(self, actions: Tensor) -> Step:
        self._last_observations()
        family, physics = self._family, self.physics
        flat = actions.numpy(force=True).reshape(self._size, -1)
        self._require_finite(flat)
        controls = np.minimum(np.maximum(flat, self._low), self._high)
        before, sensed_before = physics.qpos.copy(), self._sensed
        running = ~self._terminated & (self._time < self.horizon)
        physics.step(controls, running)
        self._sensed = self._read_sensors()
        chosen = flat.astype(np.float64)
        control_step = ControlStep(*self._state_fields(), before, sensed_before, chosen)
        rewards, ends = family.reward(control_step), family.terminated(control_step)
        diverged = physics.diverged()
        if diverged is not None:
            rewards = np.where(diverged, 0.0, rewards)
            ends = diverged if ends is None else ends | diverged
        success = family.success(control_step)
        if ends is not None:
            self._terminated = self._terminated | (ends & running)
        self._time += running
        self._observations = self._floats(family.observe(control_step))
        return Step(
            self._observations,
            self._floats(rewards if running.all() else np.where(running, rewards, 0.0)),
            self._by_task(self._terminated.copy()),
            self._by_task(self._time >= self.horizon),
            None if success is None else self._by_task(success),
        )

    def _require_finite(self, actions: NDArray[Any]) -> None:
        """Reject non-finite actions: in MuJoCo they would end the episode with reward 0."""
        if not np.isfinite(actions).all():
            row = int(np.flatnonzero(~np.isfinite(actions).all(axis=1))[0])
            task, env = divmod(row, self.num_envs)
            raise NonFiniteError(
                f"actions must be finite, got {actions[row].tolist()} for task {task}, "
                f"environment {env}",
                task,
            )

    def set_tasks(self, tasks: Tasks) -> None:
        rows = self._family.check_tasks(tasks)
        if len(rows) != self.num_tasks:
            raise ValueError(f"tasks must have {self.num_tasks} rows as before, got {len(rows)}")
        models = self._family.task_models(rows)
        if models is not None:
            self.physics.set_models(self._for_each_env(models))
        self._store_tasks(rows)

    def oracle_actions(self) -> Tensor | None:
        tasks = torch.from_numpy(self._tasks).to(self._device, torch.float32)
        return self._family.best_actions(self._last_observations(), tasks.unsqueeze(1))

    def render(self, task: int, env: int) -> NDArray[np.uint8]:
        """Render one environment. Shape [height, width, 3]."""
        index = task * self.num_envs + env
        physics = self.physics
        return render_state(self._family.model, physics.qpos[index], physics.qvel[index])

    def close(self) -> None:
        self.physics.close()

    def _store_tasks(self, rows: Tasks) -> None:
        self._tasks = rows
        self._rows = np.repeat(rows, self.num_envs, axis=0)

    def _for_each_env(self, models: Sequence[mujoco.MjModel]) -> list[mujoco.MjModel]:
        return [model for model in models for _ in range(self.num_envs)]

    def _state_fields(self) -> tuple[Array, Array, Array, Tasks, Array]:
        """The fields of `States`."""
        physics = self.physics
        return physics.qpos, physics.qvel, self._sensed, self._rows, physics.controls

    def _read_sensors(self) -> Array:
        """Current sensor values; a new array unless there are no sensors."""
        readings = self.physics.sensors
        return readings if self._read is None else self._read(readings)

    def _last_observations(self) -> Tensor:
        if self._observations is None:
            raise RuntimeError("the batch must be reset before its first step")
        return self._observations

    def _floats(self, rows: Array) -> Tensor:
        """A copy on the caller's device, [B, …] float64 ↦ [N, E, …] float32."""
        return self._by_task(rows.astype(np.float32))

    def _by_task(self, rows: NDArray[Any]) -> Tensor:
        """[B, …] ↦ [N, E, …] on the caller's device."""
        values = torch.from_numpy(rows.reshape(self.num_tasks, self.num_envs, *rows.shape[1:]))
        return values if self._on_cpu else values.to(self._device)
