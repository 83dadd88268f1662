"""Interface of a task family: a distribution over tasks, and environments for them.

Agents depend only on this interface, not on concrete families; families do not depend on agents.
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

from metarl.devices import require_memory
from metarl.seeding import numpy_generator
from metarl.tasks.observations import ImageColumns
from metarl.tasks.spaces import Tasks, TaskSpace, check_rows, space_bounds
from metarl.tasks.structure import Structure
from metarl.validation import require_at_least, unknown_name

__all__ = [
    "BatchEnv",
    "Behavior",
    "RendersBatch",
    "SharedTasks",
    "Step",
    "TaskFamily",
    "TaskSpace",
    "Tasks",
    "fixed_tasks",
    "listed_tasks",
    "uniform_tasks",
]


Behavior: TypeAlias = Literal["path", "choices", "video"]
"""How reports show an episode: the path of the agent, if the first two observed numbers are its
position in the plane; its choices, if actions are discrete; or a video."""


SharedTasks: TypeAlias = Literal["none", "some", "all"]

_SHARED = {
    "none": "",
    "some": "; some test tasks are training tasks",
    "all": "; test tasks are the training tasks",
}


class Step(NamedTuple):
    """Result of one step of a batch; leading axes [tasks, envs]."""

    observations: Tensor  # [N, E, O]
    rewards: Tensor  # [N, E]
    terminated: Tensor  # [N, E] bool
    truncated: Tensor  # [N, E] bool
    success: Tensor | None = None  # [N, E] bool; None: success is not defined
    expected_rewards: Tensor | None = None  # [N, E], given task, state and action; None: unknown


class BatchEnv(Protocol):
    """All environments of all tasks, stepping together.

    The semantics are Gymnasium's `VectorEnv` with autoreset disabled: an environment whose episode
    has ended may be stepped further; its results must be finite, but are ignored until `reset`
    begins its next episode.
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
        """Begin an episode in all environments, or in some.

        Args:
            generator: random generator for this reset and the steps after it, on the CPU.
            env_mask: bool [N, E], true for environments that begin an episode; None: all. The
                first reset must include all.

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
        """Replace the tasks by others, shape [N, D]; environments of changed tasks must be reset.

        Raises:
            ValueError: if a task lies outside the task space, or the number of tasks changes.
        """

    def oracle_actions(self) -> Tensor | None:
        """Best known actions in the present states, by an actor that knows task and state.

        Shaped as the actions of `step`; None if the family has no oracle.
        """

    def close(self) -> None:
        """Free threads, processes and memory; the batch must not be used afterwards."""


@runtime_checkable
class RendersBatch(Protocol):
    """A batch that can render images of its environments."""

    def render(self, task: int, env: int) -> NDArray[np.uint8]:
        """Render one environment. Shape [height, width, 3]."""


class TaskFamily(ABC):
    """A distribution over tasks; its variant fixes all parameters that papers leave open."""

    name: ClassVar[str]
    variant: str
    splits: tuple[str, ...] = ("train", "test")
    ood_splits: tuple[str, ...] = ()
    """Splits whose tasks lie outside the distribution of the split "train"."""
    shared_tasks: SharedTasks = "none"
    """How many tasks of the other splits are training tasks, or for splits out of distribution lie
    in the range of the training tasks: none, some or all. Results state it."""
    task_description: str
    """Short description of a task and its range."""
    observation_description: str
    """Short description of an observation."""
    source: str
    warning: str = ""
    """Caveat for comparisons with published results; empty for most variants."""
    task_space: TaskSpace
    observation_space: spaces.Box
    """Flat, with one-hot discrete parts; float32, or uint8 if it consists of images of bytes."""
    observation_images: tuple[ImageColumns, ...] = ()
    """The columns of observations that are images; convolutional networks restore their shape."""
    action_space: gymnasium.Space[Any]
    horizon: int
    behavior: Behavior = "video"
    structure: Structure | None = None
    """Structure that reference algorithms rely on, see `metarl.tasks.structure`; None: unknown."""
    action_divisor: float | None = None
    """Divisor of policy outputs, as in the variant's source; None: policies act around the center
    of the box in units of its half-width."""

    @property
    def id(self) -> str:
        """The argument of `make_family`: family and variant."""
        return f"{self.name}:{self.variant}"

    @property
    def description(self) -> str:
        """One line with tasks, horizon, observation and source."""
        size = self.observation_space.shape[0]
        numbers = f"{size} number{'s' if size > 1 else ''}"
        observation = f"observes {self.observation_description} ({numbers})"
        divisor = self.action_divisor
        unit = "" if divisor in (None, 1) else f"; policy actions ÷ {divisor:g}"
        if isinstance(self.action_space, spaces.Box) and not self.action_space.is_bounded():
            unit += "; actions are unbounded, random ones are N(0, 1)"
        text = f"{self.task_description}; {self.horizon} steps; {observation}{unit}; {self.source}"
        text += _SHARED[self.shared_tasks]
        return f"{text}. Warning: {self.warning}" if self.warning else text

    @property
    def can_render(self) -> bool:
        """False if the batches have a method `render` that cannot render."""
        return True

    def sample_tasks(self, num_tasks: int, *, split: str = "train", seed: int) -> Tasks:
        """Sample tasks with a separate generator; a seed gives the same tasks on every machine.

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
        require_memory(f"num_tasks {num_tasks}", 8.0 * num_tasks, remedy="use fewer tasks")
        return self._sample_tasks(num_tasks, split, numpy_generator(seed, "tasks", split))

    def check_tasks(self, tasks: object) -> Tasks:
        """Return the tasks as float64 [N, D], as a copy, after checking that they are valid.

        Raises:
            ValueError: if a task lies outside the task space.
        """
        return check_rows(self.task_space, tasks)

    @abstractmethod
    def make_batch(
        self, tasks: Tasks, *, num_envs: int, device: torch.device | str = "cpu"
    ) -> BatchEnv:
        """Create the environments for given tasks.

        Args:
            tasks: points of `task_space`, shape [N, D].
            num_envs: environments of each task.
            device: device of observations and rewards.

        Raises:
            ValueError: if a task lies outside the task space.
        """

    def without_workers(self) -> TaskFamily:
        """The same family with batches that start no processes; by default the family itself."""
        return self

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        """Tasks of a split, shape [N, D]; by default uniform over `task_space` for every split."""
        del split
        return uniform_tasks(self.task_space, num_tasks, rng)


def uniform_tasks(space: TaskSpace, num_tasks: int, rng: np.random.Generator) -> Tasks:
    """Sample tasks uniformly over a task space. Shape [N, D]."""
    low, high = space_bounds(space)
    shape = (num_tasks, len(low))
    if isinstance(space, spaces.Box):
        return rng.uniform(low, high, shape)
    rows = rng.integers(low.astype(np.int64), high.astype(np.int64), shape, endpoint=True)
    return rows.astype(np.float64)


def listed_tasks(points: Tasks, num_tasks: int, rng: np.random.Generator) -> Tasks:
    """Sample tasks from a list [M, D] in random order, each once before any is repeated."""
    rounds = -(-num_tasks // len(points))
    order = np.concatenate([rng.permutation(len(points)) for _ in range(rounds)])
    rows: Tasks = points[order[:num_tasks]]
    return rows


def fixed_tasks(
    points: Tasks,
    split_sizes: tuple[int, int],
    split: str,
    num_tasks: int,
    rng: np.random.Generator,
) -> Tasks:
    """Sample as `listed_tasks` from the first points for training, and from the rest for testing.

    Args:
        points: the fixed list of tasks, shape [M, D].
        split_sizes: numbers of training and test tasks, whose sum is M.
        split: "train" or "test".
        num_tasks: number of tasks to sample.
        rng: decides the order.
    """
    num_train, num_test = split_sizes
    assert len(points) == num_train + num_test
    return listed_tasks(
        points[:num_train] if split == "train" else points[num_train:], num_tasks, rng
    )
