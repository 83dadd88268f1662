"""Copies of environments continue identically; if they cannot be made, one sentence says why."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from cart_poles import CartPoles

from metarl.bridges.gymnasium_env import TaskEnv
from metarl.bridges.vector_env import TaskVectorEnv
from metarl.envs import make_family
from metarl.tasks.family import BatchEnv, TaskFamily

COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda env: pickle.loads(pickle.dumps(env)),
}
FAMILIES = ("PointRobot:pearl", "HalfCheetahVel:maml17", "AntGoal:pearl", "HopperRandParams:pearl")


class WithLock(CartPoles):
    """The environments hold an object that cannot be copied."""

    name = "WithLock"

    def make_env(self, task: Any) -> gymnasium.Env[Any, Any]:
        env = super().make_env(task)
        env.unwrapped.lock = threading.Lock()  # type: ignore[attr-defined]
        return env


def batch_of(family: TaskFamily) -> BatchEnv:
    return family.make_batch(family.sample_tasks(2, split="train", seed=0), num_envs=3)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize(
    "family", [*map(make_family, FAMILIES), CartPoles("one")], ids=lambda one: one.id
)
def test_a_copied_batch_continues_identically_and_apart(family, how):
    batch = batch_of(family)
    batch.reset(generator())
    family.action_space.seed(0)
    actions = [
        torch.as_tensor(np.stack([[family.action_space.sample() for _ in "abc"] for _ in "ab"]))
        for _ in range(3)
    ]
    batch.step(actions[0])
    copied = COPIES[how](batch)
    ahead = [copied.step(one) for one in actions[1:]]  # must not step the original
    for step, same in zip(ahead, [batch.step(one) for one in actions[1:]], strict=True):
        assert torch.equal(step.observations, same.observations)
        assert torch.equal(step.rewards, same.rewards)
    batch.close()
    copied.reset(generator())  # the copy does not end with the original
    copied.close()


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", FAMILIES)
def test_copied_gymnasium_environments_continue_identically(name, how):
    family = make_family(name)
    single, several = TaskEnv(family), TaskVectorEnv(family, 2)
    for env, space in ((single, single.action_space), (several, several.action_space)):
        env.reset(seed=1)
        space.seed(0)
        copied, action = COPIES[how](env), space.sample()
        for one, same in zip(copied.step(action)[:2], env.step(action)[:2], strict=True):
            np.testing.assert_array_equal(one, same)
        np.testing.assert_array_equal(copied.reset()[0], env.reset()[0])
        copied.close()
        env.close()


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_closed_environments_is_closed(how):
    batch = batch_of(CartPoles("one"))
    batch.close()
    with pytest.raises(RuntimeError, match="the batch is closed"):
        COPIES[how](batch).reset(generator())


@pytest.mark.parametrize("how", COPIES)
def test_environments_in_workers_are_not_copied(how):
    batch = batch_of(CartPoles("workers"))
    with pytest.raises(TypeError, match="CartPoles:workers in worker processes cannot be copied"):
        COPIES[how](batch)
    batch.reset(generator())  # the original still works
    batch.close()


@pytest.mark.parametrize("how", COPIES)
def test_environments_that_cannot_be_copied_are_named(how):
    batch = batch_of(WithLock("one"))
    with pytest.raises(TypeError, match=r"WithLock:one cannot be copied or pickled \(.*lock"):
        COPIES[how](batch)
    batch.close()
