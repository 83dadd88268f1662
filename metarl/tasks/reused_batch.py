"""The environments that an agent trains in, kept from one iteration to the next."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from metarl.tasks.family import BatchEnv, TaskFamily
from metarl.tasks.spaces import Tasks

__all__ = ["TrainingBatch"]


class TrainingBatch:
    """Owns one batch, opened at first use, and again after an error or if its size changes."""

    def __init__(self, family: TaskFamily, *, device: torch.device) -> None:
        self._family, self._device = family, device
        self._env: BatchEnv | None = None
        self.seconds = 0.0
        """Time spent in `posing` so far; the caller may set it back."""

    @contextmanager
    def posing(self, tasks: Tasks, *, num_envs: int) -> Iterator[BatchEnv]:
        """The environments with these tasks; a reset is due.

        Args:
            tasks: [N, D].
            num_envs: E, environments of each task.
        """
        started = time.perf_counter()
        try:
            yield self._opened(tasks, num_envs)
        except BaseException:
            self.close()
            raise
        finally:
            self.seconds += time.perf_counter() - started

    def close(self) -> None:
        """Free the environments; the next use opens them again."""
        if self._env is not None:
            self._env.close()
            self._env = None

    def _opened(self, tasks: Tasks, num_envs: int) -> BatchEnv:
        env = self._env
        if env is not None and (env.num_tasks, env.num_envs) == (len(tasks), num_envs):
            env.set_tasks(tasks)
            return env
        self.close()
        self._env = self._family.make_batch(tasks, num_envs=num_envs, device=self._device)
        return self._env
