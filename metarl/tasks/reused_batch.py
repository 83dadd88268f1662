"""The environments of training, reused in every iteration."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from metarl.tasks.batch_memory import require_batch_memory
from metarl.tasks.family import BatchEnv, TaskFamily
from metarl.tasks.spaces import Tasks

__all__ = ["TrainingBatch"]


class TrainingBatch:
    """Owns one batch, which is created on first use, after an error and if its size changes."""

    def __init__(self, family: TaskFamily, *, device: torch.device) -> None:
        self._family, self._device = family, device
        self._env: BatchEnv | None = None
        self.seconds = 0.0
        """Time spent in `with_tasks`; the caller may reset it."""

    @contextmanager
    def with_tasks(self, tasks: Tasks, *, num_envs: int) -> Iterator[BatchEnv]:
        """A context with the environments after setting tasks; reset them before the first step.

        Args:
            tasks: [N, D].
            num_envs: E, environments of each task.
        """
        started = time.perf_counter()
        try:
            yield self._batch(tasks, num_envs)
        except BaseException:
            self.close()
            raise
        finally:
            self.seconds += time.perf_counter() - started

    def close(self) -> None:
        """Free the environments; the next use creates them again."""
        if self._env is not None:
            self._env.close()
            self._env = None

    def _batch(self, tasks: Tasks, num_envs: int) -> BatchEnv:
        env = self._env
        if env is not None and (env.num_tasks, env.num_envs) == (len(tasks), num_envs):
            env.set_tasks(tasks)
            return env
        self.close()
        require_batch_memory(self._family, len(tasks), num_envs)
        self._env = self._family.make_batch(tasks, num_envs=num_envs, device=self._device)
        return self._env
