"""Episodes and single steps of a family, for several test files."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from metarl.rollouts.episodes import Episodes, collect
from metarl.tasks.family import Step, TaskFamily
from metarl.tasks.spaces import Tasks


def run_oracle(family: TaskFamily, tasks: Tasks, num_envs: int = 1) -> Episodes:
    """One episode of each environment by the oracle."""
    env = family.make_batch(tasks, num_envs=num_envs)
    return collect(env, lambda _: env.oracle_actions(), torch.Generator().manual_seed(0))


def last_step_without_and_with_reset(
    family: TaskFamily, actions: Sequence[Tensor], where: Tensor
) -> tuple[Step, Step]:
    """The step of the last actions; without a reset before it, and with one of some environments.

    Args:
        family: whose first tasks of seed 0 are played.
        actions: of all environments, step by step.
        env_mask: bool [N, E], the environments to reset.
    """
    num_tasks, num_envs = where.shape
    tasks, steps = family.sample_tasks(num_tasks, seed=0), []
    for reset in (False, True):
        env = family.make_batch(tasks, num_envs=num_envs)
        env.reset(torch.Generator().manual_seed(0))
        for action in actions[:-1]:
            env.step(action)
        if reset:
            env.reset(torch.Generator().manual_seed(1), where)
        steps.append(env.step(actions[-1]))
    before, after = steps
    return before, after
