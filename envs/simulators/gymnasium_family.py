"""Families on any registered Gymnasium environment, stepped by worker processes.

A family names the environment and sets a task in it; spaces and horizon are the environment's.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
from abc import abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any, ClassVar, Self

import gymnasium
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray
from torch import Tensor

from metarl.tasks.actions import ActionLayout
from metarl.tasks.family import TaskFamily
from metarl.tasks.observations import find_images, flat_box, selected_space
from metarl.tasks.spaces import Tasks, space_bounds
from metarl.validation import unknown_name

from .worker_batch import WorkerBatch

__all__ = ["GymnasiumFamily"]

_REQUIRED = (
    "name", "variants", "task_space", "task_description", "observation_description", "source",
)  # fmt: skip


class GymnasiumFamily(TaskFamily):
    """A task family that sets the parameters of a Gymnasium environment.

    A complete family, in a separate module:

        class PendulumMasses(GymnasiumFamily):
            \"""Swing up a pendulum of unknown mass.\"""

            name = "PendulumMasses"
            variants = ("wide",)
            env_id = "Pendulum-v1"
            task_space = spaces.Box(0.2, 5.0, (1,), np.float64)
            task_description = "mass U(.2, 5) kg"
            observation_description = "cosine and sine of the angle, velocity"
            source = "this lab"

            def apply_task(self, env, task):
                env.unwrapped.m = float(task[0])

        register_family(
            "PendulumMasses",
            PendulumMasses,
            description="Pendulum with a hidden mass",
            variants=PendulumMasses.variants,
        )

    The family is pickled to its worker processes, so its class must be defined at the top level of
    a module. If variants differ, set the attributes in `__init__` before calling
    `super().__init__`. If tasks need environments of different classes, override `make_env` and
    `env_key`; if tasks are not uniform over `task_space`, override `_sample_tasks`.

    Gymnasium's wrappers TimeLimit, OrderEnforcing and PassiveEnvChecker are omitted: the batch
    counts steps itself, and the other two are for development. Other wrappers of an environment's
    registration are kept.
    """

    variants: ClassVar[tuple[str, ...]]
    env_id: str
    """An id for `gymnasium.make`, optionally with "module:" in front."""
    env_kwargs: Mapping[str, Any] = {}
    """Keyword arguments of the environment's constructor."""
    observation_keys: tuple[str, ...] | None = None
    """Keys of Dict observations to use, such as ("direction", "image"); None: all of them."""
    has_success: bool = False
    """Whether `info["success"]` states at each step if the task is solved."""
    num_workers: int | None = None
    """Number of worker processes of a batch, see `WorkerBatch`."""
    timeout_seconds: float = 60.0
    """Time limit of a call to one environment, see `WorkerBatch`."""

    def __init__(self, variant: str) -> None:
        """Read the spaces and, unless `horizon` is set, the horizon from the environment.

        Raises:
            ValueError: if the variant is unknown, the environment's spaces are not supported, or
                it has no horizon.
            TypeError: if the class does not set a required attribute.
        """
        name = type(self).__name__
        missing = [attribute for attribute in _REQUIRED if not hasattr(self, attribute)]
        if missing:
            raise TypeError(f"{name} must set {', '.join(missing)}")
        if not hasattr(self, "env_id"):
            if type(self).make_env is GymnasiumFamily.make_env:
                raise TypeError(f"{name} must set env_id or override make_env")
            if not hasattr(self, "horizon"):
                raise TypeError(f"{name} must set horizon because it has no env_id to read it from")
        if variant not in self.variants:
            raise ValueError(unknown_name(f"variant of {self.name}", variant, self.variants))
        self.variant = variant
        if hasattr(self, "env_id"):
            self._spec = _bare_spec(self.env_id, self.env_kwargs)
        env = self.make_env(space_bounds(self.task_space)[0])
        observed = selected_space(env.observation_space, self.observation_keys)
        self.observation_space, self.observation_images = flat_box(observed), find_images(observed)
        self.action_space = _action_space(env.action_space)
        self._can_render = getattr(env, "render_mode", None) == "rgb_array"
        env.close()
        if not hasattr(self, "horizon"):
            self.horizon = _time_limit(self.env_id)

    @property
    def can_render(self) -> bool:
        """Whether `make_env` creates environments with render mode "rgb_array"."""
        return self._can_render

    @abstractmethod
    def apply_task(self, env: gymnasium.Env[Any, Any], task: NDArray[np.float64]) -> None:
        """Set a task, shape [D]; called in the worker before the first reset with this task."""

    def make_env(self, task: NDArray[np.float64]) -> gymnasium.Env[Any, Any]:  # noqa: ARG002
        """Create an environment for tasks with the `env_key` of this task; `apply_task` follows.

        By default this is `env_id` with `env_kwargs`, with render mode "rgb_array" if supported.
        """
        return gymnasium.make(self._spec)

    def env_key(self, task: NDArray[np.float64]) -> Hashable:  # noqa: ARG002
        """Key of the environment that a task needs; tasks with equal keys can share one."""
        return None

    def best_actions(self, observations: Tensor, tasks: Tensor) -> Tensor | None:  # noqa: ARG002
        """Best known actions [N, E, …] of an oracle that knows the tasks; None without an oracle.

        Args:
            observations: [N, E, O].
            tasks: [N, 1, D], on the same device.
        """
        return None

    def without_workers(self) -> Self:
        changed = copy.copy(self)
        changed.num_workers = 0
        return changed

    def make_batch(
        self, tasks: Tasks, *, num_envs: int, device: torch.device | str = "cpu"
    ) -> WorkerBatch:
        return WorkerBatch(
            self,
            tasks,
            num_envs,
            torch.device(device),
            num_workers=self.num_workers,
            timeout_seconds=self.timeout_seconds,
        )


def _registered(env_id: str) -> EnvSpec:
    """The specification of an id; a module in front of a colon is imported first.

    Raises:
        ValueError: if Gymnasium does not know the id.
        ImportError: if the module cannot be imported.
    """
    module, _, name = env_id.rpartition(":")
    if module:
        importlib.import_module(module)
    try:
        return gymnasium.spec(name)
    except gymnasium.error.Error as error:
        raise ValueError(
            f"env_id must be an id of Gymnasium, got {env_id!r}: {error}; put the module that "
            "registers it before a colon"
        ) from error


def _bare_spec(env_id: str, env_kwargs: Mapping[str, Any]) -> EnvSpec:
    """Specification without Gymnasium's default wrappers and with image rendering if supported.

    Unlike an id, it can be used in a process in which the environment is not registered.
    """
    spec = _registered(env_id)
    bare = dataclasses.replace(
        spec,
        max_episode_steps=None,
        order_enforce=False,
        disable_env_checker=True,
        kwargs={**spec.kwargs, **env_kwargs},
    )
    env = gymnasium.make(bare)
    modes = env.metadata.get("render_modes") or ()
    env.close()
    if "rgb_array" not in modes or "render_mode" in bare.kwargs:
        return bare
    rendering = dataclasses.replace(bare, kwargs={**bare.kwargs, "render_mode": "rgb_array"})
    try:
        gymnasium.make(rendering).close()
    except Exception:  # its constructor does not take it, or there is no display, for instance
        return bare
    return rendering


def _time_limit(env_id: str) -> int:
    limit = _registered(env_id).max_episode_steps
    if limit is None:
        raise ValueError(f"horizon must be set: {env_id} is registered without max_episode_steps")
    return limit


def _action_space(space: gymnasium.Space[Any]) -> gymnasium.Space[Any]:
    """Return the space after checking that its actions can be encoded as rows of numbers."""
    try:
        ActionLayout(space)
    except TypeError as error:
        raise ValueError(str(error).replace("action_space", "actions", 1)) from error
    return space
