"""The environments that an agent trains in, kept from one iteration to the next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from metarl.tasks.family import BatchEnv, TaskFamily
from metarl.tasks.spaces import Tasks

__all__ = ["TrainingBatch"]


class TrainingBatch:
    """Owns one batch; it is made at first use and anew after an error."""

    def __init__(self, family: TaskFamily, *, num_envs: int, device: torch.device) -> None:
        self._family, self._num_envs, self._device = family, num_envs, device
        self._env: BatchEnv | None = None

    @contextmanager
    def posing(self, tasks: Tasks) -> Iterator[BatchEnv]:
        """The environments with these tasks, as many as ever; a reset is due."""
        try:
            if self._env is None:
                self._env = self._family.make_batch(
                    tasks, num_envs=self._num_envs, device=self._device
                )
            else:
                self._env.set_tasks(tasks)
            yield self._env
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Free the environments; the next use makes them anew."""
        if self._env is not None:
            self._env.close()
            self._env = None
