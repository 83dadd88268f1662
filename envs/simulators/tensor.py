"""Families whose environments are tensor code, on any device.

A family defines initial states, transitions and observations as pure functions of tensors; the
batch here steps all tasks and environments at once.
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
    """Result of one step; leading axes [N, E]."""

    states: Tensor  # [N, E, S]
    rewards: Tensor  # [N, E]
    terminated: Tensor | None = None  # [N, E] bool; None: never
    expected_rewards: Tensor | None = None  # [N, E], if rewards are random


class TensorFamily(TaskFamily):
    """A task family written as tensor code.

    The methods below receive E environments of each of N tasks at once: states [N, E, S] of any
    dtype, and parameters, which are the result of `prepare`. By default these are the tasks as
    [N, 1, D], so that they broadcast against [N, E, …]. Random numbers come from the given
    generator, which is on the batch's device. The methods must not modify their arguments.
    """

    def prepare(self, tasks: Tensor) -> Any:
        """Convert tasks [N, D] float32 to the `parameters` of the other methods, once per batch."""
        return tasks.unsqueeze(1)

    @abstractmethod
    def initial_states(
        self, parameters: Any, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        """Sample states at the start of an episode, shape [N, E, S], on the generator's device."""

    @abstractmethod
    def transition(
        self, states: Tensor, actions: Tensor, parameters: Any, generator: torch.Generator
    ) -> Transition:
        """Step all environments; the actions are not clipped yet."""

    def observe(self, states: Tensor) -> Tensor:
        """Observations [N, E, O] float32; by default the states."""
        return states

    def best_actions(self, states: Tensor, parameters: Any, time: Tensor) -> Tensor | None:  # noqa: ARG002
        """Actions of an oracle that knows the tasks; None (default) if there is no oracle.

        Args:
            states: [N, E, S].
            parameters: result of `prepare`.
            time: steps since the start of the episode, int64. Shape [N, E].
        """
        return None

    def render_state(
        self, state: NDArray[np.float64], task: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        """Render a state [S] with its task [D]. Shape [height, width, 3].

        Raises:
            NotImplementedError: if the family cannot render images.
        """
        raise NotImplementedError(f"{self.id} cannot render images")

    @property
    def can_render(self) -> bool:
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
            self._states = torch.where(env_mask.unsqueeze(-1), states, self._current_states())
            self._time = self._time.masked_fill(env_mask, 0)
        return self._observations()

    def step(self, actions: Tensor) -> Step:
        self._states, rewards, terminated, expected = self._family.transition(
            self._current_states(), actions, self._parameters, self._generator
        )
        self._time = self._time + 1
        return Step(
            self._observations(),
            rewards,
            self._never.clone() if terminated is None else terminated,
            self._time >= self.horizon,
            expected_rewards=expected,
        )

    def set_tasks(self, tasks: Tasks) -> None:
        rows = self._family.check_tasks(tasks)
        if len(rows) != self.num_tasks:
            raise ValueError(f"tasks must have {self.num_tasks} rows as before, got {len(rows)}")
        self._tasks = rows
        self._parameters = self._prepare()

    def oracle_actions(self) -> Tensor | None:
        return self._family.best_actions(self._current_states(), self._parameters, self._time)

    def render(self, task: int, env: int) -> NDArray[np.uint8]:
        """Render one environment. Shape [height, width, 3]."""
        state = self._current_states()[task, env].double().cpu().numpy()
        return self._family.render_state(state, self._tasks[task])

    def close(self) -> None:
        """Do nothing: there is nothing to free."""

    def _prepare(self) -> Any:
        return self._family.prepare(torch.from_numpy(self._tasks).to(self._device, torch.float32))

    def _observations(self) -> Tensor:
        """Observations as a new tensor that the caller may modify."""
        states = self._current_states()
        observations = self._family.observe(states)
        is_view = observations.untyped_storage().data_ptr() == states.untyped_storage().data_ptr()
        return observations.clone() if is_view else observations

    def _current_states(self) -> Tensor:
        if self._states is None:
            raise RuntimeError("the batch must be reset before its first step")
        return self._states

    def _on_device(self, generator: torch.Generator) -> torch.Generator:
        """The caller's generator, or one on the batch's device with a seed from it."""
        if generator.device.type == self._device.type:
            return generator
        seed = int(torch.randint(2**62, (), generator=generator))
        return torch.Generator(self._device).manual_seed(seed)
