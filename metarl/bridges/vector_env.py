"""Environments of a task family as a `gymnasium.vector.VectorEnv`, all stepped in one call."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from metarl.bridges.gymnasium_env import (
    check_options,
    check_render_mode,
    render_metadata,
    sample_seed,
    with_time_limit,
)
from metarl.seeding import torch_generator
from metarl.tasks.actions import ActionLayout
from metarl.tasks.family import BatchEnv, RendersBatch, TaskFamily
from metarl.tasks.spaces import Tasks, task_to_row
from metarl.validation import require_at_least, unknown_name

__all__ = ["TaskVectorEnv"]

Array: TypeAlias = NDArray[Any]
Mask: TypeAlias = NDArray[np.bool_]


class TaskVectorEnv(VectorEnv[Array, Array, Array]):
    """Environments of one family, each with a separate task, with NumPy arrays.

    Tasks are resampled when episodes start, or fixed. `infos["task"]` and, if the family defines
    success, `infos["success"]` have Gymnasium's format: a value for each environment, and a mask of
    the valid values under "_task" and "_success".

    Autoreset modes are the same as in `SyncVectorEnv`. Differs: all environments share one random
    stream, so a seed is one integer; and a reset does not change its options.
    """

    def __init__(
        self,
        family: TaskFamily,
        num_envs: int,
        *,
        tasks: object = None,
        split: str = "train",
        device: torch.device | str = "cpu",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        """Create the environments; nothing is random before the first reset.

        Args:
            family: the task family.
            num_envs: number of environments n.
            tasks: fixed tasks, n points of the family's `task_space`; None samples a task for each
                episode.
            split: one of the family's splits, which tasks are sampled from.
            device: device of the simulator, if it is tensor code.
            autoreset_mode: a mode of Gymnasium, or its value: "NextStep", "SameStep", "Disabled".
            render_mode: "rgb_array" if the family can be rendered, or None.

        Raises:
            ValueError: if a name is unknown, or the tasks are not n points of the task space.
            TypeError: if there is a render mode but the family cannot be rendered.
        """
        require_at_least("num_envs", num_envs, 1)
        self.family, self.num_envs, self.split = family, num_envs, split
        self._mode = _autoreset_mode(autoreset_mode)
        self._device = torch.device(device)
        self._rows = family.sample_tasks(num_envs, split=split, seed=0)  # until the first reset
        self._fixed_rows, self._is_fixed = self._rows.copy(), np.zeros(num_envs, np.bool_)
        self.set_tasks(tasks)
        self._spec: EnvSpec | None = None
        self._batch: BatchEnv = family.make_batch(self._rows, num_envs=1, device=self._device)
        self.single_observation_space = family.observation_space
        self.single_action_space = family.action_space
        self._actions = ActionLayout(family.action_space)
        self.observation_space = batch_space(family.observation_space, num_envs)
        self.action_space = batch_space(family.action_space, num_envs)
        self.metadata = render_metadata(family, self._batch) | {"autoreset_mode": self._mode}
        self.render_mode = check_render_mode(render_mode, self.metadata, family)
        self._ended: Mask | None = None  # which episodes the last step ended; None before reset

    @property
    def spec(self) -> EnvSpec | None:
        """Gymnasium's specification, set by `gymnasium.make_vec`, with the family's horizon."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = with_time_limit(spec, self.family.horizon)

    @property
    def task(self) -> Array:
        """The tasks of the running episodes: n points of the family's `task_space`."""
        if isinstance(self.family.task_space, spaces.Discrete):
            return self._rows[:, 0].astype(np.int64)
        return self._rows.astype(self.family.task_space.dtype)

    def set_tasks(self, tasks: object, env_mask: Mask | None = None) -> None:
        """Fix the tasks from the next episode on.

        Args:
            tasks: n points of the family's `task_space`; None samples one for each episode.
            env_mask: bool [n], true for the environments to change; None: all.

        Raises:
            ValueError: if the tasks are not n points of the task space.
        """
        chosen = np.ones(self.num_envs, np.bool_) if env_mask is None else env_mask
        if tasks is not None:
            self._fixed_rows[chosen] = self._rows_of(tasks)[chosen]
        self._is_fixed[chosen] = tasks is not None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start episodes.

        Args:
            seed: seeds the random stream of tasks and episodes; None continues it.
            options: "reset_mask", bool [n]: the environments to reset, by default all; "task", a
                point, or "tasks", n points: the tasks of the episodes that start.

        Raises:
            ValueError: if an option is unknown or does not fit, or `seed` is not an integer.
            ResetNeeded: if the first reset does not include all environments.
        """
        given = check_options(options, ("reset_mask", "task", "tasks"))
        env_mask = np.ones(self.num_envs, np.bool_)
        if "reset_mask" in given:
            env_mask = _check_mask(given["reset_mask"], self.num_envs)
        rows = self._given_rows(given)
        if self._ended is None and not env_mask.all():
            raise ResetNeeded("the first reset must include all environments")
        if seed is not None and not isinstance(seed, int):
            raise ValueError(f"seed must be one Python integer, for all environments, got {seed!r}")
        super().reset(seed=seed)
        observations = self._begin(env_mask, rows)
        self._ended = np.zeros_like(env_mask) if self._ended is None else self._ended & ~env_mask
        return observations, _masked("task", self.task, env_mask)

    def step(self, actions: object) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """One step of all environments.

        Raises:
            ValueError: if the actions do not have the action space's shape and kind of number.
            ResetNeeded: before the first reset, or if autoreset is disabled and an episode ended.
        """
        ended = self._check_order()
        wanted = self._actions.to_rows(actions, self.num_envs)
        step = self._batch.step(wanted.to(self._device).unsqueeze(1))
        observations, rewards = _array(step.observations), _array(step.rewards).astype(np.float64)
        terminated, truncated = _array(step.terminated), _array(step.truncated)
        success = None if step.success is None else _array(step.success)
        infos: dict[str, Any] = {}
        if self._mode is AutoresetMode.NEXT_STEP and ended.any():
            began = ended
            observations[began] = self._begin(began)[began]
            rewards[began] = 0
            terminated[began] = truncated[began] = False
        elif self._mode is AutoresetMode.SAME_STEP and (terminated | truncated).any():
            began = terminated | truncated
            infos |= _final(observations, self._infos(success, began), began)
            observations[began] = self._begin(began)[began]
        else:
            began = np.zeros(self.num_envs, np.bool_)
        self._ended = terminated | truncated
        everywhere = np.ones(self.num_envs, np.bool_)
        infos |= _masked("task", self.task, everywhere)
        infos |= {} if success is None else _masked("success", success, ~began)
        return observations, rewards, terminated, truncated, infos

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """An image of each environment, shape [height, width, 3]; None without a render mode."""
        if self.render_mode is None:
            return None
        assert isinstance(self._batch, RendersBatch)
        return tuple(self._batch.render(index, 0) for index in range(self.num_envs))

    def close_extras(self) -> None:
        """Close the simulator; `close` calls this once."""
        self._batch.close()

    def _begin(self, env_mask: Mask, given: Tasks | None = None) -> Array:
        """Start episodes in some environments; returns the observations of all, [n, O]."""
        seed = sample_seed(self.np_random)
        rows, resampled = self._rows.copy(), env_mask & ~self._is_fixed
        rows[env_mask] = (self._fixed_rows if given is None else given)[env_mask]
        if given is None and resampled.any():
            rows[resampled] = self.family.sample_tasks(
                int(resampled.sum()), split=self.split, seed=seed
            )
        if not np.array_equal(rows, self._rows):
            self._batch.set_tasks(rows)
            self._rows = rows
        mask = None if env_mask.all() else torch.tensor(env_mask, device=self._device).unsqueeze(1)
        return _array(self._batch.reset(torch_generator(seed, "episodes"), mask))

    def _infos(self, success: Array | None, env_mask: Mask) -> dict[str, Any]:
        """The infos of a step for some environments."""
        infos = _masked("task", self.task, env_mask)
        return infos if success is None else infos | _masked("success", success, env_mask)

    def _check_order(self) -> Mask:
        """The mask of episodes that the last step ended, if the next step is allowed."""
        if self._ended is None:
            raise ResetNeeded("reset must be called before step")
        if self._mode is AutoresetMode.DISABLED and self._ended.any():
            names = ", ".join(str(index) for index in np.flatnonzero(self._ended))
            raise ResetNeeded(
                f"episodes of environments {names} have ended: reset them, "
                "options={'reset_mask': terminated | truncated}, before the next step"
            )
        return self._ended

    def _given_rows(self, options: Any) -> Tasks | None:
        if "task" in options and "tasks" in options:
            raise ValueError("reset options must hold 'task' or 'tasks', got both")
        if "task" in options:
            row = task_to_row(self.family.task_space, options["task"])
            return np.tile(row, (self.num_envs, 1))
        return self._rows_of(options["tasks"]) if "tasks" in options else None

    def _rows_of(self, tasks: object) -> Tasks:
        rows = np.asarray(tasks, dtype=np.float64)
        if rows.ndim == 1 and isinstance(self.family.task_space, spaces.Discrete):
            rows = rows[:, None]
        rows = self.family.check_tasks(rows)
        if len(rows) != self.num_envs:
            raise ValueError(
                f"tasks must be {self.num_envs}, one for each environment, got {len(rows)}"
            )
        return rows


def _array(batch: Tensor) -> Array:
    """A copy of a batch [n, 1, …] as an array [n, …]."""
    copied: Array = batch.squeeze(1).numpy(force=True).copy()
    return copied


def _masked(key: str, values: Array, env_mask: Mask) -> dict[str, Any]:
    """Infos in Gymnasium's format: values where the mask is true, 0 elsewhere, and the mask.

    >>> _masked("task", np.array([3, 4]), np.array([False, True]))
    {'task': array([0, 4]), '_task': array([False,  True])}
    """
    if not env_mask.any():
        return {}
    kept = np.zeros_like(values)
    kept[env_mask] = values[env_mask]
    return {key: kept, f"_{key}": env_mask.copy()}


def _final(observations: Array, infos: dict[str, Any], env_mask: Mask) -> dict[str, Any]:
    """Gymnasium's infos about the final step of episodes, if the same step resets them."""
    final_obs = np.full(len(env_mask), None, dtype=object)
    for index in np.flatnonzero(env_mask):
        final_obs[index] = observations[index].copy()
    return {
        "final_obs": final_obs,
        "_final_obs": env_mask.copy(),
        "final_info": infos,
        "_final_info": env_mask.copy(),
    }


def _autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    if isinstance(mode, AutoresetMode):
        return mode
    by_value = {choice.value: choice for choice in AutoresetMode}
    if mode not in by_value:
        raise ValueError(unknown_name("autoreset_mode", mode, by_value))
    return by_value[mode]


def _check_mask(mask: object, num_envs: int) -> Mask:
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (num_envs,):
        shape = getattr(mask, "shape", None)
        kind = getattr(mask, "dtype", type(mask).__name__)
        raise ValueError(
            f"reset_mask must be a bool array of shape ({num_envs},), got {kind} of shape {shape}"
        )
    if not mask.any():
        raise ValueError("reset_mask must be true for at least one environment, got none")
    return mask
