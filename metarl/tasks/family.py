"""What a task family is: a distribution over tasks and the environments that pose them.

An agent knows this interface and no concrete family; a family knows no agent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from torch import Tensor

from metarl.seeding import numpy_generator
from metarl.tasks.spaces import Tasks, TaskSpace, check_rows, space_bounds
from metarl.tasks.structure import Structure
from metarl.validation import require_at_least, unknown_name

__all__ = [
    "BatchEnv",
    "Behaviour",
    "RendersBatch",
    "Step",
    "TaskFamily",
    "TaskSpace",
    "Tasks",
    "listed_tasks",
    "uniform_tasks",
]


Behaviour: TypeAlias = Literal["path", "choices", "video"]
"""What is worth a look in an episode: where the agent went, the first two numbers observed being a
place in the plane; which of a few actions it chose; or how it looked, if it can be drawn."""


class Step(NamedTuple):
    """What one step of a batch gives; leading axes [tasks, envs]."""

    observations: Tensor  # [N, E, O]
    rewards: Tensor  # [N, E]
    terminated: Tensor  # [N, E] bool
    truncated: Tensor  # [N, E] bool
    success: Tensor | None = None  # [N, E] bool, where the family defines success
    expected_rewards: Tensor | None = None  # [N, E], given task, state and action; None: not told


class BatchEnv(Protocol):
    """All environments of all tasks, stepping together.

    The meaning is Gymnasium's `VectorEnv` with autoreset disabled: an environment whose episode
    has ended may be stepped on, must stay finite, and what it gives then does not count, until
    `reset` begins its next episode.
    """

    autoreset_mode: ClassVar[AutoresetMode]
    num_tasks: int
    num_envs: int
    """Environments of each task."""
    horizon: int
    """Steps after which every episode is truncated."""
    observation_space: spaces.Box
    action_space: gymnasium.Space[Any]

    def reset(self, generator: torch.Generator, env_mask: Tensor | None = None) -> Tensor:
        """Begin an episode everywhere, or in some environments only.

        Args:
            generator: on the CPU; the source of chance for this reset and for the steps after it.
            env_mask: bool [N, E], true where an episode begins; None begins one everywhere. The
                first reset must be of all.

        Returns:
            Observations of all environments, shape [N, E, O].
        """

    def step(self, actions: Tensor) -> Step:
        """Advance every environment by one control step.

        Args:
            actions: rows as in `metarl.tasks.actions`, in the environment's units, clipped to its
                action space. Shape [N, E, A], or [N, E] int64 for a Discrete space.
        """

    def set_tasks(self, tasks: Tasks) -> None:
        """Pose other tasks, as many as before, shape [N, D]; where a row changed, reset is due.

        Raises:
            ValueError: if a task lies outside the task space, or the number of tasks changes.
        """

    def oracle_actions(self) -> Tensor | None:
        """Best known actions in the present states, by an actor that knows task and state.

        Shaped as the actions of `step`; None if the family has no oracle.
        """

    def close(self) -> None:
        """Free threads, processes and memory; the batch is not used again."""


@runtime_checkable
class RendersBatch(Protocol):
    """A batch that can draw its environments."""

    def render(self, task: int, env: int) -> NDArray[np.uint8]:
        """A picture of one environment, shape [height, width, 3]."""


class TaskFamily(ABC):
    """A distribution over tasks; its variant fixes every number that a paper left open."""

    name: ClassVar[str]
    variant: str
    splits: tuple[str, ...] = ("train", "test")
    ood_splits: tuple[str, ...] = ()
    """Splits whose tasks lie outside the distribution of the split "train"."""
    same_tasks_in_splits: bool = False
    """True where the source trains and tests on the same few tasks."""
    task_description: str
    """What a task is and its range, in a few words."""
    observation_description: str
    """What is observed, in a few words."""
    source: str
    warning: str = ""
    """What a reader must know before comparing numbers; empty for most."""
    task_space: TaskSpace
    observation_space: spaces.Box
    """Flat, float32; what is discrete is one-hot."""
    action_space: gymnasium.Space[Any]
    horizon: int
    behaviour: Behaviour = "video"
    structure: Structure | None = None
    """What known algorithms may rely on, see `metarl.tasks.structure`; None: the spaces only."""
    action_scale: float | None = None
    """Divisor of a policy's outputs that gives actions in the environment's units, as the variant's
    source has it; None: policies act around the center of the box in units of its half-width."""

    @property
    def id(self) -> str:
        """The name that `make_family` takes: family and variant."""
        return f"{self.name}:{self.variant}"

    @property
    def description(self) -> str:
        """One line: tasks, horizon, observation, source."""
        size = self.observation_space.shape[0]
        numbers = f"{size} number{'s' if size > 1 else ''}"
        observation = f"observes {self.observation_description} ({numbers})"
        divisor = self.action_scale
        scale = "" if divisor in (None, 1) else f"; policy actions ÷ {divisor:g}"
        if isinstance(self.action_space, spaces.Box) and not self.action_space.is_bounded():
            scale += "; actions without bounds, random ones are N(0, 1)"
        text = f"{self.task_description}; {self.horizon} steps; {observation}{scale}; {self.source}"
        return f"{text}. Warning: {self.warning}" if self.warning else text

    @property
    def can_render(self) -> bool:
        """False where batches have a method `render` that draws nothing."""
        return True

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
        return self._sample_tasks(num_tasks, split, numpy_generator(seed, "tasks", split))

    def check_tasks(self, tasks: object) -> Tasks:
        """The tasks as float64 [N, D], copied, if they all lie in the task space.

        Raises:
            ValueError: otherwise.
        """
        return check_rows(self.task_space, tasks)

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

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        """Tasks of a split, shape [N, D]; by default uniform over `task_space` for every split."""
        del split
        return uniform_tasks(self.task_space, num_tasks, rng)


def uniform_tasks(space: TaskSpace, num_tasks: int, rng: np.random.Generator) -> Tasks:
    """Tasks uniform over a whole task space. Shape [N, D]."""
    low, high = space_bounds(space)
    shape = (num_tasks, len(low))
    if isinstance(space, spaces.Box):
        return rng.uniform(low, high, shape)
    drawn = rng.integers(low.astype(np.int64), high.astype(np.int64), shape, endpoint=True)
    return drawn.astype(np.float64)


def listed_tasks(points: Tasks, num_tasks: int, rng: np.random.Generator) -> Tasks:
    """Tasks from a list [M, D] in random order: all of them before one comes again."""
    rounds = -(-num_tasks // len(points))
    order = np.concatenate([rng.permutation(len(points)) for _ in range(rounds)])
    drawn: Tasks = points[order[:num_tasks]]
    return drawn
