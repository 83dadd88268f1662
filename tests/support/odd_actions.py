"""A Gymnasium family with any action space; actions near a goal have a higher reward."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from metarl.envs.simulators.gymnasium_family import GymnasiumFamily

SPACES: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(3),
    "discrete from 1": spaces.Discrete(3, start=1),
    "discrete from −1": spaces.Discrete(3, start=-1),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
    "multi-discrete from": spaces.MultiDiscrete([2, 3], start=[5, -1]),
    "2-D multi-discrete": spaces.MultiDiscrete(np.array([[2, 3], [3, 2]])),
    "multi-binary": spaces.MultiBinary(3),
    "2-D multi-binary": spaces.MultiBinary([2, 2]),
    "box": spaces.Box(-1.0, 1.0, (2,), np.float32),
    "off-center box": spaces.Box(500.0, 2000.0, (1,), np.float32),
    "2-D box": spaces.Box(-1.0, 3.0, (2, 2), np.float32),
    "0-D box": spaces.Box(0.0, 1.0, (), np.float32),
    "float64 box": spaces.Box(0.0, 10.0, (2,), np.float64),
    "integer box": spaces.Box(0, 10, (2,), np.int64),
    "byte box": spaces.Box(0, 255, (2, 2), np.uint8),
    "unbounded box": spaces.Box(-np.inf, np.inf, (2,), np.float32),
    "half-bounded box": spaces.Box(np.float32([3, -np.inf]), np.float32([np.inf, -3])),
    "dict": spaces.Dict(
        grip=spaces.Discrete(2), arm=spaces.Box(-2.0, 0.0, (2, 1)), keys=spaces.MultiBinary(2)
    ),
    "tuple": spaces.Tuple(
        (spaces.Box(0, 4, (1,), np.int32), spaces.Tuple((spaces.Discrete(4, start=2),)))
    ),
    "tuple of choices": spaces.Tuple((spaces.Discrete(2), spaces.MultiDiscrete([3, 2]))),
}


class Aim(gymnasium.Env[Any, Any]):
    """The reward is 1 minus the mean distance of the flattened action's sines to the goal."""

    metadata = {"render_modes": []}  # noqa: RUF012
    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, action_space: spaces.Space[Any]) -> None:
        self.action_space = action_space
        self.goal = 0.0
        self.actions: list[Any] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), (self.action_space, action)
        self.actions.append(action)
        flat = spaces.flatten(self.action_space, action).astype(np.float64)
        distance = float(np.abs(np.sin(flat) - self.goal).mean())
        return np.float32([self.goal]), 1 - distance, False, False, {}


class OddActions(GymnasiumFamily):
    """Aims with the actions of one of `SPACES`, its variant."""

    name = "OddActions"
    variants = tuple(SPACES)
    horizon = 4
    num_workers = 0
    task_space = spaces.Box(-1.0, 1.0, (1,), np.float64)
    task_description, observation_description, source = "goal U(−1, 1)", "the goal", "these tests"

    def make_env(self, task: Any) -> gymnasium.Env[Any, Any]:
        del task
        return Aim(SPACES[self.variant])

    def apply_task(self, env: Any, task: Any) -> None:
        env.goal = float(task[0])
