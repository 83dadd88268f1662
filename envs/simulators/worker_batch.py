"""Batches of any Gymnasium environments, stepped by a few processes over shared memory.

This module handles episodes and tensors; `worker_pool` handles the processes, and `worker_process`
contains the code that they run.
"""

from __future__ import annotations

import contextlib
import copy
import math
import multiprocessing
import pickle
import sys
from collections.abc import Iterator
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from torch import Tensor

from metarl.devices import usable_cores
from metarl.tasks.actions import ActionLayout
from metarl.tasks.family import Step
from metarl.tasks.spaces import Tasks
from metarl.validation import require_at_least, require_between

from .worker_pool import InProcessPool, WorkerError, WorkerPool, shared_memory
from .worker_process import Layout, WorkerFamily

__all__ = ["WorkerBatch", "WorkerError"]

_MIN_ENVS_FOR_WORKERS = 8  # with fewer, starting processes costs more time than it saves
_MAX_SEED = 2**31


class WorkerBatch:
    """All environments of all tasks, each a separate Gymnasium environment.

    Seeds are sampled here, one for each environment at each reset, so results are bitwise identical
    for any number of workers. An environment whose episode has ended is not stepped: it returns its
    last observation and reward 0 until it is reset. An environment that uses a global generator
    instead of its `np_random` is not reproducible.

    If an environment raises, or a worker dies or hangs, `WorkerError` names the task and the
    environment, and the batch is closed.
    """

    autoreset_mode: ClassVar[AutoresetMode] = AutoresetMode.DISABLED

    def __init__(
        self,
        family: WorkerFamily,
        tasks: Tasks,
        num_envs: int,
        device: torch.device,
        *,
        num_workers: int | None = None,
        timeout_seconds: float = 60.0,
    ) -> None:
        """Create the environments.

        Args:
            family: creates the environments and sets tasks in them.
            tasks: shape [N, D].
            num_envs: environments of each task.
            device: device of observations and rewards.
            num_workers: processes, at most one per environment; 0 steps in this process. None
                uses one per core available to this process. It uses 0 if there are fewer than 8
                environments or only one core, in a daemon process, and for families that are
                defined in a notebook or by `python -c`.
            timeout_seconds: time limit of a call to one environment; a worker that hangs is
                detected within twice this limit.

        Raises:
            ValueError: if a task lies outside the task space, or a number is out of range.
            TypeError: if the family cannot be pickled to its workers.
            WorkerError: if an environment cannot be created.
        """
        require_at_least("num_envs", num_envs, 1)
        if num_workers is not None:
            require_at_least("num_workers", num_workers, 0)
        require_between("timeout_seconds", timeout_seconds, 0, math.inf, open_low=True)
        rows = family.check_tasks(tasks)
        self._family, self._device = family, device
        self.num_tasks, self.num_envs, self.horizon = len(rows), num_envs, family.horizon
        self.observation_space = family.observation_space
        self.action_space: gymnasium.Space[Any] = family.action_space
        self._actions = ActionLayout(family.action_space)
        self.num_workers = _num_workers(num_workers, self.num_tasks * num_envs, family)
        layout = _layout(family, rows, num_envs, max(1, self.num_workers))
        memory = shared_memory(layout) if self.num_workers else bytearray(layout.num_bytes)
        self._arrays = layout.arrays(memory)
        self._arrays.tasks[:], self._arrays.is_new_task[:] = rows, True
        self._elapsed = np.zeros(layout.batch_size, np.int64)
        self._observations: Tensor | None = None
        self._pool = (
            WorkerPool(family, layout, memory, timeout_seconds=timeout_seconds)
            if self.num_workers
            else InProcessPool(family, layout, self._arrays)
        )

    def reset(self, generator: torch.Generator, env_mask: Tensor | None = None) -> Tensor:
        self._require_open()
        arrays = self._arrays
        seeds = torch.randint(_MAX_SEED, arrays.seeds.shape, generator=generator)
        arrays.seeds[:] = seeds.numpy()
        if env_mask is None:
            arrays.chosen[:] = True
        else:
            self._last_observations()  # raises unless all environments were reset before
            arrays.chosen[:] = env_mask.reshape(-1).cpu().numpy()
        self._pool.reset()
        for ends in (arrays.terminated, arrays.truncated, arrays.success):
            ends[arrays.chosen] = False
        self._elapsed[arrays.chosen] = 0
        self._observations = self._tensor(arrays.observations)
        return self._observations

    def step(self, actions: Tensor) -> Step:
        self._require_open()
        self._last_observations()
        arrays = self._arrays
        self._write_actions(actions)
        np.logical_or(arrays.terminated, arrays.truncated, out=arrays.chosen)
        np.logical_not(arrays.chosen, out=arrays.chosen)
        arrays.rewards[:] = 0
        self._pool.step()
        self._elapsed += arrays.chosen
        arrays.truncated[self._elapsed >= self.horizon] = True
        self._observations = self._tensor(arrays.observations)
        return Step(
            self._observations,
            self._tensor(arrays.rewards),
            self._tensor(arrays.terminated),
            self._tensor(arrays.truncated),
            self._tensor(arrays.success) if self._family.has_success else None,
        )

    def set_tasks(self, tasks: Tasks) -> None:
        self._require_open()
        rows = self._family.check_tasks(tasks)
        if len(rows) != self.num_tasks:
            raise ValueError(f"tasks must have {self.num_tasks} rows as before, got {len(rows)}")
        changed = (rows != self._arrays.tasks).any(axis=1)
        self._arrays.is_new_task[np.repeat(changed, self.num_envs)] = True
        self._arrays.tasks[:] = rows

    def oracle_actions(self) -> Tensor | None:
        tasks = torch.tensor(self._arrays.tasks, dtype=torch.float32, device=self._device)
        best: Tensor | None = self._family.best_actions(
            self._last_observations(), tasks.unsqueeze(1)
        )
        return best

    def render(self, task: int, env: int) -> NDArray[np.uint8]:
        """Render one environment. Shape [height, width, 3].

        Raises:
            NotImplementedError: if the environment cannot render, or a package for it is missing.
        """
        self._require_open()
        self._last_observations()
        image = self._pool.render(task * self.num_envs + env)
        if isinstance(image, str):
            raise NotImplementedError(f"{self._family.id} cannot render images: {image}")
        return image

    def close(self) -> None:
        self._pool.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> WorkerBatch:
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        with self._copying():
            vars(copied).update(copy.deepcopy(vars(self), memo))
        return copied

    def __getstate__(self) -> dict[str, bytes]:
        with self._copying():
            return {"pickled": pickle.dumps(vars(self))}

    def __setstate__(self, state: dict[str, bytes]) -> None:
        vars(self).update(pickle.loads(state["pickled"]))

    @contextlib.contextmanager
    def _copying(self) -> Iterator[None]:
        """Raise TypeError, in one sentence, if the environments cannot be copied."""
        if self.num_workers:
            raise TypeError(
                f"environments of {self._family.id} in worker processes cannot be copied or "
                "pickled; create others from the family, or set num_workers to 0"
            )
        try:
            yield
        except Exception as error:  # an environment may fail in any way
            raise TypeError(
                f"environments of {self._family.id} cannot be copied or pickled "
                f"({type(error).__name__}: {error}); create others from the family"
            ) from error

    def _require_open(self) -> None:
        if self._pool.is_closed:
            raise RuntimeError("the batch is closed; create another one")

    def _last_observations(self) -> Tensor:
        if self._observations is None:
            raise RuntimeError("the batch must be reset before its first step")
        return self._observations

    def _write_actions(self, actions: Tensor) -> None:
        """Write actions to the shared array, with boxes clipped and integers rounded."""
        rows = actions.detach().cpu().numpy().reshape(self._arrays.actions.shape)
        self._arrays.actions[:] = self._actions.clip(rows)

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        """A copy [N, E, …] of shared values [B, …] on the caller's device."""
        copied = torch.from_numpy(values.copy()).to(self._device)
        return copied.view(self.num_tasks, self.num_envs, *values.shape[1:])


def _num_workers(requested: int | None, batch_size: int, family: WorkerFamily) -> int:
    is_interactive = _is_defined_interactively(family)
    if requested is not None:
        if requested and is_interactive:
            raise ValueError(
                f"num_workers must be 0 for {type(family).__name__}, which is defined in a "
                f"notebook or on the command line, got {requested}: worker processes can "
                "import classes only from modules, so move it to a module"
            )
        return min(requested, batch_size)
    cores = usable_cores()
    is_daemon = multiprocessing.current_process().daemon  # cannot start processes
    if is_daemon or is_interactive or cores == 1 or batch_size < _MIN_ENVS_FOR_WORKERS:
        return 0
    return min(cores, batch_size)


def _is_defined_interactively(family: WorkerFamily) -> bool:
    """Whether the family, or a part of it, is defined in a `__main__` that workers cannot import.

    A part may be the class of the environments, in the specification of their id.
    """
    if hasattr(sys.modules["__main__"], "__file__"):
        return False
    try:
        return b"__main__" in pickle.dumps(family)
    except (pickle.PicklingError, AttributeError, TypeError):  # reported when workers start
        return any(base.__module__ == "__main__" for base in type(family).__mro__)


def _layout(family: WorkerFamily, tasks: Tasks, num_envs: int, num_shards: int) -> Layout:
    actions = ActionLayout(family.action_space)
    return Layout(
        num_tasks=len(tasks),
        num_envs=num_envs,
        num_shards=num_shards,
        task_size=tasks.shape[1],
        observation_size=family.observation_space.shape[0],
        observation_dtype=str(family.observation_space.dtype),
        action_shape=actions.row_shape,
        action_dtype=str(actions.dtype),
    )
