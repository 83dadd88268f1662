"""One environment of a task family as a plain `gymnasium.Env`.

Checks of options and render modes that the vector environment shares are here too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray
from torch import Tensor

from metarl.seeding import torch_generator
from metarl.tasks.actions import ActionLayout
from metarl.tasks.family import BatchEnv, RendersBatch, TaskFamily
from metarl.tasks.spaces import point_of_row, row_of_point
from metarl.validation import unknown_name

__all__ = [
    "TaskEnv",
    "check_options",
    "check_render_mode",
    "draw_seed",
    "render_metadata",
]

Observation: TypeAlias = NDArray[np.float32]

_FRAMES_PER_SECOND = 20  # of a recording; a step of HalfCheetah takes 0.05 s


class TaskEnv(gymnasium.Env[Any, Any]):
    """One environment whose task is drawn anew at each reset, or given.

    `info["task"]` tells the episode's task, a point of the family's `task_space`, at reset and at
    every step; `info["success"]` whether a step succeeded, where the family defines it. Episodes
    are truncated at the family's own horizon.

    `reset(seed=s)` restarts the stream that tasks and episodes come from; later resets without a
    seed go on with it. `reset(options={"task": point})` poses a task for that one episode.
    """

    def __init__(
        self,
        family: TaskFamily,
        *,
        split: str = "train",
        task: object = None,
        render_mode: str | None = None,
    ) -> None:
        """Make the environment; nothing is random before the first reset.

        Args:
            family: what tasks there are.
            split: one of the family's splits, which tasks are drawn from.
            task: a point of the family's `task_space` to keep; None draws one at each reset.
            render_mode: "rgb_array" where the family has a picture, or None.

        Raises:
            ValueError: if the split is unknown, the task lies outside the task space, or the
                family has no such render mode.
        """
        self.family, self.split = family, split
        self._row = family.sample_tasks(1, split=split, seed=0)[0]  # until the first reset
        self.set_task(task)
        self._batch: BatchEnv = family.make_batch(self._row[None], num_envs=1)
        self.observation_space = copy.deepcopy(family.observation_space)
        self.action_space = copy.deepcopy(family.action_space)  # each has a seed of its own
        self._actions = ActionLayout(family.action_space)
        self.metadata = render_metadata(family, self._batch)
        self.render_mode = check_render_mode(render_mode, self.metadata, family)
        self._was_reset = self._is_closed = False

    def set_task(self, task: object) -> None:
        """Keep a task from the next reset on; None draws one at each reset.

        Raises:
            ValueError: if the task lies outside the family's `task_space`.
        """
        self._kept_row = None if task is None else self._row_of(task)

    def _row_of(self, task: object) -> NDArray[np.float64]:
        row: NDArray[np.float64] = row_of_point(self.family.task_space, task)
        return self.family.check_tasks(row[None]).reshape(-1)

    @property
    def task(self) -> object:
        """The episode's task, a point of the family's `task_space`."""
        return point_of_row(self.family.task_space, self._row.copy())

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: restarts the stream of tasks and episodes; None goes on with it.
            options: {"task": point} poses this task for this episode.

        Raises:
            ValueError: if there is another option, or the task lies outside the task space.
        """
        given = check_options(options, ("task",))
        row = self._row_of(given["task"]) if given else self._kept_row
        super().reset(seed=seed)
        episode_seed = draw_seed(self.np_random)
        if row is None:
            row = self.family.sample_tasks(1, split=self.split, seed=episode_seed)[0]
        if not np.array_equal(row, self._row):
            self._batch.set_tasks(row[None])
            self._row = row  # after the batch has taken it
        observations = self._batch.reset(torch_generator(episode_seed, "episode"))
        self._was_reset = True
        return _first(observations), {"task": self.task}

    def step(self, action: object) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One control step; actions beyond the bounds of the action space are clipped to them.

        Raises:
            ValueError: if the action does not have the action space's shape and kind of number.
            ResetNeeded: before the first reset.
        """
        if not self._was_reset:
            raise ResetNeeded("reset must be called before step")
        actions = self._actions.to_rows(action).unsqueeze(0).unsqueeze(0)
        step = self._batch.step(actions)
        info = {"task": self.task}
        if step.success is not None:
            info["success"] = bool(step.success)
        reward, terminated, truncated = step.rewards, step.terminated, step.truncated
        return _first(step.observations), float(reward), bool(terminated), bool(truncated), info

    def render(self) -> NDArray[np.uint8] | None:
        """A picture, shape [height, width, 3]; None without a render mode."""
        if self.render_mode is None:
            return None
        assert isinstance(self._batch, RendersBatch)
        return self._batch.render(0, 0)

    def close(self) -> None:
        """Free what the simulator holds; a second call does nothing."""
        if not self._is_closed:
            self._batch.close()
        self._is_closed = True


def _first(observations: Tensor) -> Observation:
    """The one observation [O] of a batch [1, 1, O], as an array of its own."""
    copied: Observation = observations[0, 0].numpy(force=True).copy()
    return copied


def draw_seed(rng: np.random.Generator) -> int:
    """A seed for the episodes that begin now: one number of the stream, whatever they need."""
    return int(rng.integers(2**63 - 1))


def check_options(options: Mapping[str, Any] | None, choices: Iterable[str]) -> Mapping[str, Any]:
    """The options of a reset, if all are known.

    Raises:
        ValueError: for an unknown one, with the nearest.
    """
    for key in options or {}:
        if key not in choices:
            raise ValueError(unknown_name("a reset option", str(key), choices))
    return options or {}


def render_metadata(family: TaskFamily, batch: BatchEnv) -> dict[str, Any]:
    """Gymnasium's metadata on rendering: "rgb_array" if the batch can draw."""
    can_draw = family.can_render and isinstance(batch, RendersBatch)
    return {
        "render_modes": ["rgb_array"] if can_draw else [],
        "render_fps": _FRAMES_PER_SECOND,
    }


def check_render_mode(
    render_mode: str | None, metadata: Mapping[str, Any], family: TaskFamily
) -> str | None:
    """The render mode, if the family has it.

    Raises:
        ValueError: otherwise.
    """
    modes = metadata["render_modes"]
    if render_mode is None or render_mode in modes:
        return render_mode
    if not modes:
        raise ValueError(f"render_mode must be None, {family.id} cannot render images")
    raise ValueError(unknown_name("render_mode", render_mode, modes))
