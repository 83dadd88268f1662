"""Families whose environments are tensor code, on any device.

A family says in pure functions of tensors where an episode starts, where an action leads and what
is observed; the batch that steps all tasks and environments at once comes with it.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from torch import Tensor

from metarl.tasks.family import Step, TaskFamily
from metarl.tasks.spaces import Tasks
from metarl.validation import require_at_least

__all__ = ["TensorBatch", "TensorFamily", "Transition"]


class Transition(NamedTuple):
    """Where one step leads; leading axes [N, E]."""

    states: Tensor  # [N, E, S]
    rewards: Tensor  # [N, E]
    terminated: Tensor | None = None  # [N, E] bool; None: never
    expected_rewards: Tensor | None = None  # [N, E], where rewards are random


class TensorFamily(TaskFamily):
    """A task family written as tensor code.

    The methods below see all environments at once: states [N, E, S] (a tensor of the family's own
    choice of dtype) and parameters, what `prepare` made of the tasks, by default [N, 1, D], so
    that they broadcast against [N, E, …]. Chance comes from the generator handed in, which lives
    on the batch's device. Nothing may be changed in place.
    """

    def prepare(self, tasks: Tensor) -> Any:
        """What the other methods get as `parameters`, from tasks [N, D] float32, once a batch."""
        return tasks.unsqueeze(1)

    @abstractmethod
    def initial_states(
        self, parameters: Any, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        """States at the start of an episode, shape [N, E, S], on the generator's device."""

    @abstractmethod
    def transition(
        self, states: Tensor, actions: Tensor, parameters: Any, generator: torch.Generator
    ) -> Transition:
        """One step of all environments; actions as the agent gave them, not yet clipped."""

    def observe(self, states: Tensor) -> Tensor:
        """Observations [N, E, O] float32; by default the states."""
        return states

    def best_actions(self, states: Tensor, parameters: Any, time: Tensor) -> Tensor | None:  # noqa: ARG002
        """Best actions of one who knows the task, `time` [N, E] steps into the episode.

        None, the default, if the family has no oracle.
        """
        return None

    def render_state(
        self, state: NDArray[np.float64], task: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        """A picture of one state [S] under one task [D], shape [height, width, 3].

        Raises:
            NotImplementedError: if the family has no picture.
        """
        raise NotImplementedError(f"{self.id} has no picture")

    @property
    def has_picture(self) -> bool:
        return type(self).render_state is not TensorFamily.render_state

    def make_batch(
        self, tasks: Tasks, *, num_envs: int, device: torch.device | str = "cpu"
    ) -> TensorBatch:
        return TensorBatch(self, tasks, num_envs, torch.device(device))


class TensorBatch:
    """All environments of all tasks of a tensor family."""

    autoreset_mode: ClassVar[AutoresetMode] = AutoresetMode.DISABLED

    def __init__(
        self, family: TensorFamily, tasks: Tasks, num_envs: int, device: torch.device
    ) -> None:
        require_at_least("num_envs", num_envs, 1)
        self._family, self._device = family, device
        self.num_envs, self.horizon = num_envs, family.horizon
        self.observation_space, self.action_space = family.observation_space, family.action_space
        self._tasks = family.check_tasks(tasks)
        self.num_tasks = len(self._tasks)
        self._parameters = self._prepare()
        self._states: Tensor | None = None
        self._time = torch.zeros(self.num_tasks, num_envs, dtype=torch.int64, device=device)
        self._never = torch.zeros_like(self._time, dtype=torch.bool)

    def reset(self, generator: torch.Generator, env_mask: Tensor | None = None) -> Tensor:
        self._generator = self._on_device(generator)
        shape = (self.num_tasks, self.num_envs)
        states = self._family.initial_states(self._parameters, shape, self._generator)
        if env_mask is None:
            self._states, self._time = states, torch.zeros_like(self._time)
        else:
            self._states = torch.where(env_mask.unsqueeze(-1), states, self._current())
            self._time = self._time.masked_fill(env_mask, 0)
        return self._observed()

    def step(self, actions: Tensor) -> Step:
        self._states, rewards, terminated, expected = self._family.transition(
            self._current(), actions, self._parameters, self._generator
        )
        self._time = self._time + 1
        return Step(
            self._observed(),
            rewards,
            self._never.clone() if terminated is None else terminated,
            self._time >= self.horizon,
            expected_rewards=expected,
        )

    def set_tasks(self, tasks: Tasks) -> None:
        rows = self._family.check_tasks(tasks)
        if len(rows) != self.num_tasks:
            raise ValueError(f"tasks must be {self.num_tasks} as before, got {len(rows)}")
        self._tasks = rows
        self._parameters = self._prepare()

    def oracle_actions(self) -> Tensor | None:
        return self._family.best_actions(self._current(), self._parameters, self._time)

    def render(self, task: int, env: int) -> NDArray[np.uint8]:
        """A picture of one environment, shape [height, width, 3]."""
        state = self._current()[task, env].double().cpu().numpy()
        return self._family.render_state(state, self._tasks[task])

    def close(self) -> None:
        """Nothing to free."""

    def _prepare(self) -> Any:
        return self._family.prepare(torch.from_numpy(self._tasks).to(self._device, torch.float32))

    def _observed(self) -> Tensor:
        """What is seen, in a tensor of its own: who gets it may write to it."""
        states = self._current()
        seen = self._family.observe(states)
        is_view = seen.untyped_storage().data_ptr() == states.untyped_storage().data_ptr()
        return seen.clone() if is_view else seen

    def _current(self) -> Tensor:
        if self._states is None:
            raise RuntimeError("the batch must be reset before its first step")
        return self._states

    def _on_device(self, generator: torch.Generator) -> torch.Generator:
        """The caller's generator, or one on the batch's device that it seeds."""
        if generator.device.type == self._device.type:
            return generator
        seed = int(torch.randint(2**62, (), generator=generator))
        return torch.Generator(self._device).manual_seed(seed)
