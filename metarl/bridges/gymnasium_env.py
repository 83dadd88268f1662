"""One environment of a task family as a `gymnasium.Env`.

The module also checks options and render modes for the vector environment.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray
from torch import Tensor

from metarl.seeding import torch_generator
from metarl.tasks.actions import ActionLayout
from metarl.tasks.family import BatchEnv, RendersBatch, TaskFamily
from metarl.tasks.spaces import row_to_task, task_to_row
from metarl.validation import unknown_name

__all__ = [
    "TaskEnv",
    "check_options",
    "check_render_mode",
    "sample_seed",
    "render_metadata",
    "with_time_limit",
]

Observation: TypeAlias = NDArray[np.float32]

_FRAMES_PER_SECOND = 20  # real time for HalfCheetah, whose steps take 0.05 s


class TaskEnv(gymnasium.Env[Any, Any]):
    """One environment whose task is resampled at each reset, or fixed.

    At reset and at every step, `info["task"]` is the task of the episode, a point of the family's
    `task_space`. `info["success"]` is whether the step succeeded, if the family defines success.
    Episodes are truncated at the family's horizon.

    `reset(seed=s)` seeds the random stream of tasks and episodes; later resets without a seed
    continue it. `reset(options={"task": point})` sets the task of that one episode.
    """

    def __init__(
        self,
        family: TaskFamily,
        *,
        split: str = "train",
        task: object = None,
        render_mode: str | None = None,
    ) -> None:
        """Create the environment; nothing is random before the first reset.

        Args:
            family: the task family.
            split: one of the family's splits, which tasks are sampled from.
            task: fixed task, a point of the family's `task_space`; None samples one at each reset.
            render_mode: "rgb_array" if the family can be rendered, or None.

        Raises:
            ValueError: if the split or the render mode is unknown, or the task lies outside the
                task space.
            TypeError: if there is a render mode but the family cannot be rendered.
        """
        self.family, self.split = family, split
        self._row = family.sample_tasks(1, split=split, seed=0)[0]  # until the first reset
        self.set_task(task)
        self._spec: EnvSpec | None = None
        self._batch: BatchEnv = family.make_batch(self._row[None], num_envs=1)
        self.observation_space = copy.deepcopy(family.observation_space)
        self.action_space = copy.deepcopy(
            family.action_space
        )  # a separate copy has a separate seed
        self._actions = ActionLayout(family.action_space)
        self.metadata = render_metadata(family, self._batch)
        self.render_mode = check_render_mode(render_mode, self.metadata, family)
        self._was_reset = self._is_closed = False

    @property
    def spec(self) -> EnvSpec | None:
        """Gymnasium's specification, set by `gymnasium.make`, with the family's horizon."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = with_time_limit(spec, self.family.horizon)

    def set_task(self, task: object) -> None:
        """Fix the task from the next reset on; None samples one at each reset.

        Raises:
            ValueError: if the task lies outside the family's `task_space`.
        """
        self._fixed_row = None if task is None else self._row_of(task)

    def _row_of(self, task: object) -> NDArray[np.float64]:
        row: NDArray[np.float64] = task_to_row(self.family.task_space, task)
        return self.family.check_tasks(row[None]).reshape(-1)

    @property
    def task(self) -> object:
        """The task of the episode, a point of the family's `task_space`."""
        return row_to_task(self.family.task_space, self._row.copy())

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: seeds the random stream of tasks and episodes; None continues it.
            options: {"task": point} sets the task of this episode.

        Raises:
            ValueError: if there is another option, or the task lies outside the task space.
        """
        given = check_options(options, ("task",))
        row = self._row_of(given["task"]) if given else self._fixed_row
        super().reset(seed=seed)
        episode_seed = sample_seed(self.np_random)
        if row is None:
            row = self.family.sample_tasks(1, split=self.split, seed=episode_seed)[0]
        if not np.array_equal(row, self._row):
            self._batch.set_tasks(row[None])
            self._row = row  # after the batch has taken it
        observations = self._batch.reset(torch_generator(episode_seed, "episode"))
        self._was_reset = True
        return _first(observations), {"task": self.task}

    def step(self, action: object) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One control step; the simulator clips actions to the bounds of the action space.

        A few families compute the control cost from the action before clipping, as their source.

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
        """An image, shape [height, width, 3]; None without a render mode."""
        if self.render_mode is None:
            return None
        assert isinstance(self._batch, RendersBatch)
        return self._batch.render(0, 0)

    def close(self) -> None:
        """Close the simulator; a second call does nothing."""
        if not self._is_closed:
            self._batch.close()
        self._is_closed = True


def _first(observations: Tensor) -> Observation:
    """The observation [O] of a batch [1, 1, O], copied."""
    copied: Observation = observations[0, 0].numpy(force=True).copy()
    return copied


def sample_seed(rng: np.random.Generator) -> int:
    """Sample a seed for the episodes that start now; uses one number of the stream."""
    return int(rng.integers(2**63 - 1))


def check_options(options: Mapping[str, Any] | None, choices: Iterable[str]) -> Mapping[str, Any]:
    """The options of a reset, if all are known.

    Raises:
        ValueError: if an option is unknown; the message suggests the nearest name.
    """
    for key in options or {}:
        if key not in choices:
            raise ValueError(unknown_name("a reset option", str(key), choices))
    return options or {}


def render_metadata(family: TaskFamily, batch: BatchEnv) -> dict[str, Any]:
    """Gymnasium's metadata about rendering: "rgb_array" if the batch can be rendered."""
    can_render = family.can_render and isinstance(batch, RendersBatch)
    return {
        "render_modes": ["rgb_array"] if can_render else [],
        "render_fps": _FRAMES_PER_SECOND,
    }


def with_time_limit(spec: EnvSpec | None, horizon: int) -> EnvSpec | None:
    """Return a specification with a time limit, by default the horizon, for time-aware wrappers.

    An id is registered without one because the horizon depends on the variant.
    """
    if spec is None or spec.max_episode_steps is not None:
        return spec
    return dataclasses.replace(spec, max_episode_steps=horizon)


def check_render_mode(
    render_mode: str | None, metadata: Mapping[str, Any], family: TaskFamily
) -> str | None:
    """The render mode, if the family has it.

    Raises:
        ValueError: if it is unknown.
        TypeError: if the family has none. Stable-Baselines3 then omits the argument, as for an
            environment whose constructor does not accept it.
    """
    modes = metadata["render_modes"]
    if render_mode is None or render_mode in modes:
        return render_mode
    if not modes:
        raise TypeError(f"render_mode must be None, {family.id} cannot render images")
    raise ValueError(unknown_name("render_mode", render_mode, modes))
