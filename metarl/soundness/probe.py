"""What a promise of a task family is tried on: some tasks, and short runs with given chance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.rollouts.actors import random_actor
from metarl.seeding import torch_generator
from metarl.tasks.family import BatchEnv, Step, TaskFamily
from metarl.tasks.spaces import Tasks

__all__ = [
    "BrokenPromiseError",
    "NotApplicableError",
    "Trial",
    "kept_step",
    "require",
    "start_step",
]


class BrokenPromiseError(Exception):
    """A counterexample."""


class NotApplicableError(Exception):
    """Why a promise does not apply."""


def require(condition: bool, counterexample: str) -> None:
    """Raise `BrokenPromiseError` unless the condition holds."""
    if not condition:
        raise BrokenPromiseError(counterexample)


@dataclass(frozen=True)
class Trial:
    """What a promise is tried on."""

    family: TaskFamily
    num_envs: int  # of each task
    seed: int
    tasks: Tasks  # [N, D]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.tasks), self.num_envs

    @property
    def size(self) -> str:
        """How many environments, in words."""
        return f"{len(self.tasks)} tasks × {self.num_envs}"

    @property
    def num_steps(self) -> int:
        """Steps of a short run: enough to see physics and noise."""
        return min(self.family.horizon, 12)

    @contextmanager
    def batch(self, tasks: Tasks | None = None, num_envs: int | None = None) -> Iterator[BatchEnv]:
        rows = self.tasks if tasks is None else tasks
        with closing(self.family.make_batch(rows, num_envs=num_envs or self.num_envs)) as env:
            yield env

    def chance(self, *key: str | int) -> torch.Generator:
        return torch_generator(self.seed, "check", *key)

    def actions(self, env: BatchEnv, num_steps: int) -> list[Tensor]:
        """Random actions for every step."""
        actor = random_actor(env, self.chance("actions"))
        like = torch.zeros(env.num_tasks, env.num_envs, 1)
        return [actor(like) for _ in range(num_steps)]

    def run(self, tasks: Tasks, actions: list[Tensor] | None = None) -> list[Step]:
        """A short run on a new batch, as `steps` gives it; random actions if none are given."""
        with self.batch(tasks) as env:
            return self.steps(env, actions or self.actions(env, self.num_steps))

    def steps(self, env: BatchEnv, actions: list[Tensor]) -> list[Step]:
        """A run from a reset on; the first entry holds the reset's observations and no reward."""
        start = start_step(env.reset(self.chance("run")))
        return [start, *(kept_step(env.step(action)) for action in actions)]


def start_step(observations: Tensor) -> Step:
    """A reset's observations as the first entry of a run."""
    nothing = torch.zeros(observations.shape[:2])
    return Step(observations.clone(), nothing, nothing.bool(), nothing.bool())


def kept_step(step: Step) -> Step:
    """A copy that the batch cannot overwrite."""
    return Step(
        step.observations.clone(),
        step.rewards.clone(),
        step.terminated.clone(),
        step.truncated.clone(),
        None if step.success is None else step.success.clone(),
        None if step.expected_rewards is None else step.expected_rewards.clone(),
    )
