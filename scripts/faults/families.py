"""Task families for the fault campaign that work at first and then fail in one way each."""

from __future__ import annotations

import os
import time
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from metarl.envs import register_family
from metarl.envs.simulators.gymnasium_family import GymnasiumFamily
from metarl.envs.simulators.tensor import TensorFamily, Transition
from metarl.tasks.family import uniform_tasks
from metarl.tasks.spaces import Tasks

__all__ = ["FAILS_IN_ITERATION", "FaultyLine", "FaultyWorker", "register_faulty_families"]

FAILS_IN_ITERATION = 4
_GOOD_RESETS = 2 * (FAILS_IN_ITERATION - 1)  # support and query of each earlier iteration
_BAD_TASK = 1


class FaultyLine(TensorFamily):
    """A point on a line is rewarded for being near a hidden goal, until a fault occurs."""

    name: ClassVar[str] = "FaultyLine"
    variants: ClassVar[tuple[str, ...]] = (
        *("nan-reward", "inf-reward", "nan-observation", "raises"),
        *("reward-of-another-shape", "observation-of-another-shape"),
    )
    task_description, observation_description = "goal U(−1, 1)", "the position"
    source = "this campaign"
    horizon = 5
    task_space = spaces.Box(-1.0, 1.0, (1,), np.float64)
    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, variant: str) -> None:
        self.variant = variant
        self._num_resets = 0

    def initial_states(
        self, parameters: Tensor, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        self._num_resets += 1
        return torch.rand(*shape, 1, generator=generator, device=parameters.device)

    def transition(
        self, states: Tensor, actions: Tensor, parameters: Tensor, generator: torch.Generator
    ) -> Transition:
        del generator
        moved = states + 0.1 * actions.clamp(-1, 1)
        rewards = -(moved - parameters).abs().squeeze(-1)
        if not self._fails:
            return Transition(moved, rewards)
        if self.variant == "raises":
            raise RuntimeError("the simulator lost its license")
        if self.variant in ("nan-reward", "inf-reward"):
            rewards[_BAD_TASK, 0] = float(self.variant[:3])
        elif self.variant == "nan-observation":
            moved[_BAD_TASK, 0] = float("nan")
        elif self.variant == "reward-of-another-shape":
            rewards = rewards[:, :1]
        return Transition(moved, rewards)

    def observe(self, states: Tensor) -> Tensor:
        wide = self._fails and self.variant == "observation-of-another-shape"
        return states.expand(*states.shape[:-1], 2) if wide else states

    @property
    def _fails(self) -> bool:
        return self._num_resets > _GOOD_RESETS

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        del split
        return uniform_tasks(self.task_space, num_tasks, rng)


class _FaultyEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, fault: str) -> None:
        self._fault, self._num_resets, self.goal = fault, 0, 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._num_resets += 1
        return np.zeros(1, np.float32), {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        if self._num_resets > _GOOD_RESETS:
            self._fail()
        observation = np.zeros(3 if self._is_wide else 1, np.float32)
        return observation, -abs(self.goal - float(action[0])), False, False, {}

    @property
    def _is_wide(self) -> bool:
        return self._fault == "observation-of-another-shape" and self._num_resets > _GOOD_RESETS

    def _fail(self) -> None:
        if self._fault == "raises":
            raise RuntimeError("the simulator lost its license")
        if self._fault == "hangs":
            time.sleep(600)
        if self._fault == "dies":
            os._exit(7)


class FaultyWorker(GymnasiumFamily):
    """The same faults in a Gymnasium environment, which a worker process steps."""

    name = "FaultyWorker"
    variants = ("raises", "hangs", "dies", "observation-of-another-shape")
    task_space = spaces.Box(-1.0, 1.0, (1,), np.float64)
    task_description, observation_description = "goal U(−1, 1)", "nothing"
    source = "this campaign"
    horizon = 5
    num_workers = 1
    timeout_seconds = 1.0

    def make_env(self, task: NDArray[np.float64]) -> gymnasium.Env[Any, Any]:
        del task
        return _FaultyEnv(self.variant)

    def apply_task(self, env: gymnasium.Env[Any, Any], task: NDArray[np.float64]) -> None:
        assert isinstance(env, _FaultyEnv)
        env.goal = float(task[0])


def register_faulty_families() -> None:
    """Register the families in this process."""
    for family in (FaultyLine, FaultyWorker):
        register_family(
            family.name, family, description="fails on purpose", variants=family.variants
        )
