"""Environments of a task family for the agents of Stable-Baselines3.

Stable-Baselines3 is an optional dependency, so no other module imports this one at its top.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from metarl.bridges.gymnasium_env import check_options
from metarl.bridges.vector_env import TaskVectorEnv
from metarl.tasks.family import TaskFamily

try:
    from stable_baselines3.common.vec_env import VecEnv
except ImportError as missing:
    raise ImportError(
        "metarl.bridges.sb3_env needs Stable-Baselines3: pip install stable-baselines3"
    ) from missing

__all__ = ["TaskVecEnv", "as_sb3_vec_env"]

Array: TypeAlias = NDArray[Any]


def as_sb3_vec_env(
    family: TaskFamily,
    num_envs: int,
    *,
    tasks: object = None,
    split: str = "train",
    seed: int = 0,
    device: torch.device | str = "cpu",
    render_mode: str | None = None,
) -> TaskVecEnv:
    """Environments of a family, stepped in one call, for the agents of Stable-Baselines3.

    Args:
        family: the task family.
        num_envs: number of environments n.
        tasks: fixed tasks, n points of the family's `task_space`; None samples a task for each
            episode.
        split: one of the family's splits, which tasks are sampled from.
        seed: seed of tasks and episodes, 0 or more.
        device: device of the simulator, if it is tensor code.
        render_mode: "rgb_array" if the family can be rendered, or None.

    Raises:
        ValueError: if a name is unknown, or the tasks are not n points of the task space.
    """
    envs = TaskVectorEnv(
        family,
        num_envs,
        tasks=tasks,
        split=split,
        device=device,
        autoreset_mode=AutoresetMode.SAME_STEP,
        render_mode=render_mode,
    )
    return TaskVecEnv(envs, seed=seed)


class TaskVecEnv(VecEnv):
    """A `TaskVectorEnv` with the interface of Stable-Baselines3.

    Environments are reset in the step that ends an episode. The info then holds
    "terminal_observation", "TimeLimit.truncated", the "task" of the episode that ended and, if the
    family defines success, "is_success" of its last step; other infos are empty. The tasks of the
    running episodes are in `reset_infos` and `get_attr("task")`.

    There are no single environments inside. `get_attr` supports "task" and the attributes of
    `TaskVectorEnv`; `set_attr` supports "task", and `env_method` supports "set_task": both fix the
    task from the next episode on, or with None sample one for each episode.
    """

    def __init__(self, envs: TaskVectorEnv, *, seed: int) -> None:
        mode = envs.metadata["autoreset_mode"]
        if mode is not AutoresetMode.SAME_STEP:
            raise ValueError(f"envs must reset in the same step, got {mode.value}")
        self._envs = envs
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)
        self.seed(seed)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed the next reset.

        All environments share one stream, seeded by the first of the returned numbers; None samples
        a seed from the stream.
        """
        drawn = int(self._envs.np_random.integers(2**31)) if seed is None else seed
        return super().seed(drawn)

    def reset(self) -> Array:
        """Start an episode in every environment, with the seed and the options that were set.

        Raises:
            ValueError: if an option is unknown, or a task is given to some environments only.
        """
        given = [check_options(options, ("task",)) for options in self._options]
        if any(given) and not all(given):
            raise ValueError("options must give a task to every environment, or to none")
        options = {"tasks": [one["task"] for one in given]} if all(given) else None
        observations, infos = self._envs.reset(seed=self._seeds[0], options=options)
        self.reset_infos = [{"task": _copied(task)} for task in infos["task"]]
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: Array) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[Array, Array, Array, list[dict[str, Any]]]:
        """One step: new observations [n, O], rewards [n], dones [n] and infos."""
        observations, rewards, terminated, truncated, infos = self._envs.step(self._actions)
        dones = terminated | truncated
        info_list: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for index in np.flatnonzero(dones).tolist():
            timed_out = bool(truncated[index] and not terminated[index])
            info_list[index] = _last_info(infos, index) | {"TimeLimit.truncated": timed_out}
            self.reset_infos[index] = {"task": _copied(infos["task"][index])}
        return observations, rewards.astype(np.float32), dones, info_list

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the chosen environments.

        Raises:
            AttributeError: if there is none of this name.
        """
        chosen = self._chosen(indices)
        if attr_name == "task":
            return [_copied(task) for task in self._envs.task[chosen]]
        return [getattr(self._envs, attr_name)] * len(chosen)

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set the task, or None, of the chosen environments from their next episode on.

        Raises:
            AttributeError: if `attr_name` is not "task".
            ValueError: if the task lies outside the family's `task_space`.
        """
        if attr_name != "task":
            raise AttributeError(f"only 'task' can be set in an environment, got {attr_name!r}")
        self._set_task(self._chosen(indices), value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call `set_task(task)` in the chosen environments.

        Raises:
            AttributeError: for another method.
        """
        if method_name != "set_task":
            raise AttributeError(f"environments have the method 'set_task', got {method_name!r}")
        chosen = self._chosen(indices)
        self._set_task(chosen, *method_args, **method_kwargs)
        return [None] * len(chosen)

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """False for each of the chosen environments, since none of them can be wrapped."""
        del wrapper_class
        return [False] * len(self._chosen(indices))

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """An image of each environment; None without a render mode."""
        return self._envs.render() or [None] * self.num_envs

    def close(self) -> None:
        """Close the simulator."""
        self._envs.close()

    def _set_task(self, chosen: NDArray[np.int64], task: object) -> None:
        env_mask = np.zeros(self.num_envs, np.bool_)
        env_mask[chosen] = True
        self._envs.set_tasks(None if task is None else [task] * self.num_envs, env_mask)

    def _chosen(self, indices: Any) -> NDArray[np.int64]:
        return np.arange(self.num_envs)[list(self._get_indices(indices))]


def _last_info(infos: dict[str, Any], index: int) -> dict[str, Any]:
    """The info of an environment whose episode ended."""
    final = infos["final_info"]
    info = {
        "terminal_observation": infos["final_obs"][index],
        "task": _copied(final["task"][index]),
    }
    if "success" in final:
        info["is_success"] = bool(final["success"][index])
    return info


def _copied(task: Any) -> Any:
    """A copy of one task of a batch."""
    return task.copy()
