"""Sound families: one with all optional features, others with fewer or with hidden tasks."""
# ruff: noqa: ARG002 - families do not use all arguments

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from metarl.envs.simulators.tensor import TensorBatch, TensorFamily, Transition
from metarl.tasks.family import uniform_tasks
from metarl.tasks.spaces import Tasks

REACH = 0.5


class Walk(TensorFamily):
    """A point on a line starts near 0 and is rewarded for being near a hidden goal. It is sound.

    The state is the position and a count of steps, which is not observed.
    """

    name: ClassVar[str] = "Walk"
    variants: ClassVar[tuple[str, ...]] = ("plain",)
    task_description, observation_description = "goal U(−1, 1)", "the position"
    source = "these tests"
    horizon = 7
    task_space = spaces.Box(-1.0, 1.0, (1,), np.float64)
    observation_space = spaces.Box(-10.0, 10.0, (1,), np.float32)
    action_space = spaces.Box(-REACH, REACH, (1,), np.float32)
    start_width = 0.01
    stride = 1.0  # of an action
    variant = "plain"

    def __init__(self, variant: str = "plain") -> None:
        self.variant = variant

    def initial_states(
        self, parameters: Any, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        start = self.start_width * torch.rand(*shape, 1, generator=generator)
        return torch.cat([start, torch.zeros(*shape, 1)], -1)

    def transition(
        self, states: Tensor, actions: Tensor, parameters: Any, generator: torch.Generator
    ) -> Transition:
        position = states[..., :1] + self.stride * actions.clamp(-REACH, REACH)
        moved = torch.cat([position, states[..., 1:] + 1], -1)
        rewards = self.reward(moved, parameters)
        return Transition(moved, rewards, expected_rewards=rewards)

    def reward(self, states: Tensor, goals: Tensor) -> Tensor:
        return -(states[..., :1] - goals).abs().squeeze(-1)

    def observe(self, states: Tensor) -> Tensor:
        return states[..., :1]

    def best_actions(self, states: Tensor, parameters: Any, time: Tensor) -> Tensor | None:
        return (parameters - states[..., :1]).clamp(-REACH, REACH)

    def render_state(
        self, state: NDArray[np.float64], task: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        image = np.zeros((8, 200, 3), np.uint8)
        image[:, int(100 + 10 * state[0])] = 255
        return image

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        return uniform_tasks(self.task_space, num_tasks, rng)


class OwnBatch(Walk):
    """Sound except for its batch."""

    batch: ClassVar[type[TensorBatch]]

    def make_batch(self, tasks: Tasks, *, num_envs: int, device: Any = "cpu") -> TensorBatch:
        return self.batch(self, tasks, num_envs, torch.device(device))


class Plain(Walk):
    """No oracle, no image, and the same tasks in both splits."""

    name = "Plain"
    shared_tasks = "all"

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        return rng.choice(np.linspace(-1, 1, 21), (num_tasks, 1))

    best_actions = TensorFamily.best_actions
    render_state = TensorFamily.render_state

    def transition(
        self, states: Tensor, actions: Tensor, parameters: Any, generator: torch.Generator
    ) -> Transition:
        step = super().transition(states, actions, parameters, generator)
        return step._replace(expected_rewards=None)


class CannotRender(Walk):
    def render_state(
        self, state: NDArray[np.float64], task: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        raise RuntimeError("no screen here")


class Gate(Walk):
    """Tasks differ only far from the start, which random actions hardly reach."""

    horizon = 40

    def reward(self, states: Tensor, goals: Tensor) -> Tensor:
        far = states[..., 0].abs() > 6
        return torch.where(far, goals.squeeze(-1), torch.zeros_like(states[..., 0]))


class OracleGate(Gate):
    def best_actions(self, states: Tensor, parameters: Any, time: Tensor) -> Tensor | None:
        return REACH * parameters.sign().expand_as(states[..., :1])


class SwingGate(Gate):
    best_actions = TensorFamily.best_actions
