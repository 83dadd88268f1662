"""Short, reproducible runs of a task family, on which its promises are tested."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from metarl.rollouts.actors import random_actor
from metarl.seeding import torch_generator
from metarl.tasks.family import BatchEnv, Step, TaskFamily
from metarl.tasks.spaces import Tasks

__all__ = [
    "BrokenPromiseError",
    "NotApplicableError",
    "Probe",
    "copy_step",
    "require",
    "start_step",
]


class BrokenPromiseError(Exception):
    """A promise does not hold; the message is a counterexample."""


class NotApplicableError(Exception):
    """A promise does not apply to the family; the message is the reason."""


def require(condition: bool, counterexample: str) -> None:
    """Raise `BrokenPromiseError` unless the condition holds."""
    if not condition:
        raise BrokenPromiseError(counterexample)


@dataclass(frozen=True)
class Probe:
    """A family with tasks, and methods that run it with fixed seeds."""

    original: TaskFamily
    num_envs: int  # per task
    seed: int
    tasks: Tasks  # [N, D]

    @cached_property
    def family(self) -> TaskFamily:
        """The family without worker processes, which take longer to start than a probe runs."""
        return self.original.without_workers()

    @property
    def shape(self) -> tuple[int, int]:
        """Leading axes of a batch, [tasks, envs]."""
        return len(self.tasks), self.num_envs

    @property
    def size(self) -> str:
        """Number of tasks and environments, for messages."""
        return f"{len(self.tasks)} tasks × {self.num_envs}"

    @property
    def num_steps(self) -> int:
        """Steps of a short run, enough for physics and noise to appear."""
        return min(self.family.horizon, 12)

    @contextmanager
    def batch(self, tasks: Tasks | None = None, num_envs: int | None = None) -> Iterator[BatchEnv]:
        """A new batch, by default with all tasks, which is closed at the end."""
        rows = self.tasks if tasks is None else tasks
        with closing(self.family.make_batch(rows, num_envs=num_envs or self.num_envs)) as env:
            yield env

    def generator(self, *key: str | int) -> torch.Generator:
        """A generator seeded by the seed and a key."""
        return torch_generator(self.seed, "check", *key)

    def actions(self, env: BatchEnv, num_steps: int) -> list[Tensor]:
        """Random actions for every step."""
        actor = random_actor(env, self.generator("actions"))
        like = torch.zeros(env.num_tasks, env.num_envs, 1, dtype=torch.float32)
        return [actor(like) for _ in range(num_steps)]

    def run(self, tasks: Tasks, actions: list[Tensor] | None = None) -> list[Step]:
        """A run as in `steps` on a new batch; without `actions`, a short run of random ones."""
        with self.batch(tasks) as env:
            return self.steps(env, actions or self.actions(env, self.num_steps))

    def steps(self, env: BatchEnv, actions: list[Tensor]) -> list[Step]:
        """Reset and run; the first entry has the observations of the reset and no rewards."""
        start = start_step(env.reset(self.generator("run")))
        return [start, *(copy_step(env.step(action)) for action in actions)]


def start_step(observations: Tensor) -> Step:
    """The observations of a reset as the first entry of a run."""
    nothing = torch.zeros(observations.shape[:2], dtype=torch.float32)
    return Step(observations.clone(), nothing, nothing.bool(), nothing.bool())


def copy_step(step: Step) -> Step:
    """Copy a step, because a batch may reuse its tensors."""
    return Step(
        step.observations.clone(),
        step.rewards.clone(),
        step.terminated.clone(),
        step.truncated.clone(),
        None if step.success is None else step.success.clone(),
        None if step.expected_rewards is None else step.expected_rewards.clone(),
    )
