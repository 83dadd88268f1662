"""What a task family is: a distribution over tasks and the environments that pose them.

An agent knows this interface and no concrete family; a family knows no agent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple, Protocol

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from torch import Tensor

from metarl.ranges import require_at_least
from metarl.seeding import numpy_generator
from metarl.suggestions import unknown_name

__all__ = ["BatchEnv", "Step", "TaskFamily", "Tasks"]

Tasks = NDArray[np.float64]
"""Points of a family's task space, one row a task. Shape [N, D]."""


class Step(NamedTuple):
    """What one step of a batch gives; leading axes [tasks, envs]."""

    observations: Tensor  # [N, E, O]
    rewards: Tensor  # [N, E]
    terminated: Tensor  # [N, E] bool
    truncated: Tensor  # [N, E] bool


class BatchEnv(Protocol):
    """All environments of all tasks, stepping together.

    The meaning is Gymnasium's `VectorEnv` with autoreset disabled: an environment whose episode
    has ended may be stepped on, must stay finite, and what it gives then does not count.
    """

    autoreset_mode: ClassVar[AutoresetMode]
    num_tasks: int
    num_envs: int
    """Environments of each task."""
    horizon: int
    """Steps after which every episode is truncated."""
    observation_space: spaces.Box
    action_space: gymnasium.Space[object]

    def reset(self, generator: torch.Generator) -> Tensor:
        """Begin an episode everywhere.

        Args:
            generator: draws the initial states, on the CPU.

        Returns:
            Observations, shape [N, E, O].
        """

    def step(self, actions: Tensor) -> Step:
        """Advance every environment by one control step.

        Args:
            actions: in the environment's units, clipped to its action space. Shape [N, E, A].
        """

    def close(self) -> None:
        """Free threads and memory; the batch is not used again."""


class TaskFamily(ABC):
    """A distribution over tasks; its variant fixes every number that a paper left open."""

    name: ClassVar[str]
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    variant: str
    description: str
    """One line: range, horizon, observation, source."""
    task_space: spaces.Box
    observation_space: spaces.Box
    action_space: gymnasium.Space[object]
    horizon: int
    action_scale: float
    """What the variant's source divides a policy's actions by before they reach the actuators."""

    @property
    def id(self) -> str:
        """The name that `make_family` takes: family and variant."""
        return f"{self.name}:{self.variant}"

    def sample_tasks(self, num_tasks: int, *, split: str = "train", seed: int) -> Tasks:
        """Draw tasks with a generator of their own: the same seed, the same tasks, anywhere.

        Args:
            num_tasks: N, 1 or more.
            split: one of `splits`; splits never share a random stream.
            seed: 0 or more.

        Returns:
            Points of `task_space`, shape [N, D].

        Raises:
            ValueError: if the split is unknown or a number out of range.
        """
        if split not in self.splits:
            raise ValueError(unknown_name("split", split, self.splits))
        require_at_least("num_tasks", num_tasks, 1)
        return self._draw_tasks(num_tasks, split, numpy_generator(seed, "tasks", split))

    def check_tasks(self, tasks: Tasks) -> Tasks:
        """The tasks as float64 [N, D], if they all lie in the task space.

        Raises:
            ValueError: otherwise.
        """
        rows = np.asarray(tasks, dtype=np.float64)
        size = self.task_space.shape[0]
        if rows.ndim != 2 or rows.shape[1] != size or not len(rows):
            raise ValueError(f"tasks must have shape [tasks, {size}], got {rows.shape}")
        inside = (rows >= self.task_space.low) & (rows <= self.task_space.high)
        if not inside.all():
            bad = rows[~inside.all(axis=1)][0].tolist()
            raise ValueError(f"tasks must lie in {self.task_space}, got {bad}")
        return rows

    @abstractmethod
    def make_batch(
        self, tasks: Tasks, *, num_envs: int, device: torch.device | str = "cpu"
    ) -> BatchEnv:
        """Environments for given tasks.

        Args:
            tasks: points of `task_space`, shape [N, D].
            num_envs: environments of each task.
            device: where observations and rewards are handed out.

        Raises:
            ValueError: if a task lies outside the task space.
        """

    def oracle(
        self,
        tasks: Tasks,  # noqa: ARG002 - families with an oracle use both
        *,
        device: torch.device | str = "cpu",  # noqa: ARG002
    ) -> Callable[[Tensor], Tensor] | None:
        """A reference actor that knows the tasks, [N, E, O] ↦ [N, E, A]; None if there is none."""
        return None

    @abstractmethod
    def _draw_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks: ...
