"""Tiny Gymnasium families with images and other observations that are not flat boxes."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.envs.simulators.gymnasium_family import GymnasiumFamily

SIDE = 32


class MarkedSide(gymnasium.Env[Any, Any]):
    """An image whose left or right half contains a bright square, in red or green.

    The reward is 1 for choosing the side of the square, or the other side if `goal` is 1.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    render_mode = "rgb_array"
    observation_space: spaces.Space[Any] = spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
    action_space: spaces.Space[Any] = spaces.Discrete(2)
    goal = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return self.observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = float((int(action) == self.marked) != bool(self.goal))
        return self.observe(), reward, False, False, {}

    def observe(self) -> NDArray[np.uint8]:
        """A new image; it sets the side of the square."""
        self.marked = int(self.np_random.integers(2))
        image = self.np_random.integers(0, 64, (SIDE, SIDE, 3)).astype(np.uint8)
        row, column = self.np_random.integers(0, 8, 2)
        column += 16 * self.marked
        image[row : row + 8, column : column + 8, self.np_random.integers(2)] = 255
        self.image = image
        return image

    def render(self) -> Any:
        return self.image


class MarkedSides(GymnasiumFamily):
    """Tasks are 0 and 1, the goals; in "one", the side of the square is always right."""

    name = "MarkedSides"
    variants = ("one", "two")
    horizon = 5
    num_workers = 0
    task_space = spaces.Discrete(2)
    shared_tasks = "all"
    task_description, observation_description = "which side is rewarded", "an image with a square"
    source = "these tests"

    def make_env(self, task: Any) -> gymnasium.Env[Any, Any]:
        del task
        return MarkedSide()

    def apply_task(self, env: Any, task: Any) -> None:
        env.goal = int(task[0]) if self.variant == "two" else 0


OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "image": spaces.Box(0, 255, (30, 28, 3), np.uint8),
    "channels first": spaces.Box(0, 255, (3, 30, 28), np.uint8),
    "gray image": spaces.Box(0, 255, (30, 28), np.uint8),
    "stack of frames": spaces.Box(0, 255, (2, 30, 28, 3), np.uint8),
    "float image": spaces.Box(0.0, 1.0, (28, 30, 3), np.float32),
    "image and numbers": spaces.Dict(
        speed=spaces.Box(-np.inf, np.inf, (2,)),
        camera=spaces.Box(0, 255, (28, 28, 1), np.uint8),
        gear=spaces.Discrete(3),
    ),
    "two images": spaces.Tuple(
        (spaces.Box(0, 255, (28, 28, 1), np.uint8), spaces.Box(0, 255, (1, 32, 28), np.uint8))
    ),
    "grid of symbols": spaces.Dict(
        direction=spaces.Discrete(4), image=spaces.Box(0, 255, (7, 7, 3), np.uint8)
    ),
    "discrete": spaces.Discrete(4, start=2),
    "multi-discrete": spaces.MultiDiscrete([2, 3], start=[1, -1]),
    "multi-binary": spaces.MultiBinary([2, 2]),
    "tuple": spaces.Tuple((spaces.Discrete(2), spaces.Box(-1.0, 1.0, (2, 2)))),
    "unbounded": spaces.Box(-np.inf, np.inf, (2,), np.float64),
    "half-bounded": spaces.Box(np.float32([3, -np.inf]), np.float32([np.inf, -3])),
    "off-center": spaces.Box(500.0, 2000.0, (2,)),
    "integers": spaces.Box(-3, 1000, (2,), np.int64),
    "all integers": spaces.Box(-(2**63), 2**63 - 1, (2,), np.int64),
    "bytes": spaces.Box(0, 255, (5,), np.uint8),
    "0-D": spaces.Box(0.0, 1.0, ()),
}


class Samples(gymnasium.Env[Any, Any]):
    """Observations are samples of the space; action `goal` is rewarded."""

    metadata = {"render_modes": []}  # noqa: RUF012
    action_space: spaces.Space[Any] = spaces.Discrete(2)
    goal = 0

    def __init__(self, observation_space: spaces.Space[Any]) -> None:
        self.observation_space = copy.deepcopy(observation_space)  # with its own generator

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), float(action == self.goal), False, False, {}


class OddObservations(GymnasiumFamily):
    """Observes samples of one of `OBSERVATIONS`, its variant."""

    name = "OddObservations"
    variants = tuple(OBSERVATIONS)
    horizon = 3
    num_workers = 0
    task_space = spaces.Discrete(2)
    shared_tasks = "all"
    task_description, observation_description, source = "an action", "noise", "these tests"

    def make_env(self, task: Any) -> gymnasium.Env[Any, Any]:
        del task
        return Samples(OBSERVATIONS[self.variant])

    def apply_task(self, env: Any, task: Any) -> None:
        env.goal = int(task[0])


class Mission(GymnasiumFamily):
    """Observes a direction, a grid of symbols and a text, as MiniGrid does."""

    name = "Mission"
    variants = ("all", "numbers", "grid")
    horizon = 3
    num_workers = 0
    task_space = spaces.Discrete(2)
    shared_tasks = "all"
    task_description, observation_description, source = "an action", "noise", "these tests"

    def __init__(self, variant: str) -> None:
        self.observation_keys = {"numbers": ("direction", "image"), "grid": ("image",)}.get(variant)
        super().__init__(variant)

    def make_env(self, task: Any) -> gymnasium.Env[Any, Any]:
        del task
        parts = dict(OBSERVATIONS["grid of symbols"].spaces)  # type: ignore[attr-defined]
        return Samples(spaces.Dict(**parts, mission=spaces.Text(8)))

    def apply_task(self, env: Any, task: Any) -> None:
        env.goal = int(task[0])
