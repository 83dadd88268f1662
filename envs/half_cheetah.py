"""HalfCheetah families: the planar runner on MuJoCo, with a task in its reward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from torch import Tensor

from metarl.ranges import require_at_least
from metarl.suggestions import unknown_name
from metarl.tasks import Step, TaskFamily, Tasks

from .mujoco_batch import Array, MujocoBatch, gymnasium_model

__all__ = ["HalfCheetahVel"]

_FRAME_SKIP = 5
_DT_SECONDS = 0.05  # five physics steps of .01
_RESET_NOISE = 0.1  # Gymnasium's: positions U(−.1, .1), velocities N(0, .1²)
_CONTROL_COST = 0.05


@dataclass(frozen=True)
class _Variant:
    max_velocity: float  # target velocities are uniform in [0, this], metres per second
    observe_torso: bool  # append the torso's position (x, y, z), metres
    horizon: int
    action_scale: float
    description: str


_VARIANTS = {
    "maml17": _Variant(
        max_velocity=2.0,
        observe_torso=True,
        horizon=200,
        action_scale=1.0,
        description="target velocity U(0,2) m/s, 200 steps, observes 20 numbers (Finn et al. 2017)",
    ),
    "promp": _Variant(
        max_velocity=3.0,
        observe_torso=False,
        horizon=200,
        action_scale=10.0,
        description="target velocity U(0,3) m/s, 200 steps, observes 17 numbers, policy actions "
        "divided by 10 (Rothfuss et al. 2019)",
    ),
}


class HalfCheetahVel(TaskFamily):
    """Run forward at a hidden target velocity.

        r = −|v − v*| − 0.05 ‖a‖²,   v = Δx / 0.05 s of the root joint

    Task: v* in m/s, shape [1]. Observation: qpos without the root's x, then qvel (17 numbers);
    variant maml17 appends the torso's position. Action: torques in [−1, 1], [6]. No termination.
    Physics, frame skip and reset noise are those of Gymnasium's HalfCheetah.

    Source: Finn et al. 2017 (arXiv:1703.03400), sec. 5.3; Rothfuss et al. 2019 (arXiv:1810.06784).
    Differs: the torso's position belongs to the same instant as the rest of the observation
    (it was one physics step older), and is the frame's, not the centre of mass.
    """

    name: ClassVar[str] = "HalfCheetahVel"

    def __init__(self, variant: str) -> None:
        if variant not in _VARIANTS:
            raise ValueError(unknown_name("variant of HalfCheetahVel", variant, _VARIANTS))
        self.variant = variant
        numbers = _VARIANTS[variant]
        self.observes_torso = numbers.observe_torso
        self.description = numbers.description
        self.horizon = numbers.horizon
        self.action_scale = numbers.action_scale
        self.task_space = spaces.Box(0.0, numbers.max_velocity, (1,), np.float64)
        size = 20 if numbers.observe_torso else 17
        self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (6,), np.float32)

    def make_batch(
        self, tasks: Tasks, *, num_envs: int, device: torch.device | str = "cpu"
    ) -> HalfCheetahBatch:
        return HalfCheetahBatch(self.check_tasks(tasks), num_envs, self, torch.device(device))

    def _draw_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        del split  # train and test velocities come from one distribution
        return rng.uniform(self.task_space.low, self.task_space.high, (num_tasks, 1))


class HalfCheetahBatch:
    """All cheetahs of all tasks: physics on the CPU's threads, results on the caller's device."""

    autoreset_mode: ClassVar[AutoresetMode] = AutoresetMode.DISABLED

    def __init__(
        self, tasks: Tasks, num_envs: int, family: HalfCheetahVel, device: torch.device
    ) -> None:
        require_at_least("num_envs", num_envs, 1)
        self.num_tasks, self.num_envs = len(tasks), num_envs
        self.horizon = family.horizon
        self.observation_space, self.action_space = family.observation_space, family.action_space
        self.physics = MujocoBatch(
            gymnasium_model("half_cheetah.xml"),
            self.num_tasks * num_envs,
            frame_skip=_FRAME_SKIP,
        )
        self._torso_height = self.physics.model.body("torso").pos[2]
        self._targets = np.repeat(tasks[:, 0], num_envs)
        self._observes_torso = family.observes_torso
        self._device = device
        self._time = 0

    def reset(self, generator: torch.Generator) -> Tensor:
        shape = (self.num_tasks * self.num_envs, 9)
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64).numpy()
        normal = torch.randn(shape, generator=generator, dtype=torch.float64).numpy()
        qpos = self.physics.model.qpos0 + _RESET_NOISE * (2 * uniform - 1)
        self.physics.set_states(qpos, _RESET_NOISE * normal)
        self._time = 0
        return self._to_tensor(self._observations())

    def step(self, actions: Tensor) -> Step:
        self._time += 1
        controls = actions.detach().reshape(-1, 6).to("cpu", torch.float64).clamp(-1, 1).numpy()
        before = self.physics.qpos[:, 0].copy()
        self.physics.step(controls)
        velocity = (self.physics.qpos[:, 0] - before) / _DT_SECONDS
        rewards = -np.abs(velocity - self._targets) - _CONTROL_COST * np.square(controls).sum(1)
        never = torch.zeros(self.num_tasks, self.num_envs, dtype=torch.bool, device=self._device)
        return Step(
            self._to_tensor(self._observations()),
            self._to_tensor(rewards),
            never,
            torch.full_like(never, self._time >= self.horizon),
        )

    def close(self) -> None:
        self.physics.close()

    def _observations(self) -> Array:
        qpos, qvel = self.physics.qpos, self.physics.qvel
        parts = [qpos[:, 1:], qvel]
        if self._observes_torso:
            torso = np.zeros((len(qpos), 3))
            torso[:, 0], torso[:, 2] = qpos[:, 0], qpos[:, 1] + self._torso_height
            parts.append(torso)
        return np.concatenate(parts, axis=1)

    def _to_tensor(self, rows: Array) -> Tensor:
        """[N·E, …] float64 ↦ [N, E, …] float32 on the caller's device."""
        values = torch.from_numpy(rows).to(self._device, torch.float32)
        return values.view(self.num_tasks, self.num_envs, *rows.shape[1:])
