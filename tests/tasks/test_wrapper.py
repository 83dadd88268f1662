"""Wrappers: a family that behaves like another, with changes by a user."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metarl.envs import make_family
from metarl.rollouts.trial_env import TrialFamily
from metarl.soundness.check import check_family
from metarl.tasks.family import RendersBatch
from metarl.tasks.observed_task import ObservedTaskFamily
from metarl.tasks.wrapper import BatchEnvWrapper, TaskFamilyWrapper


class HalvedBatch(BatchEnvWrapper):
    def step(self, actions):
        step = self.batch.step(actions)
        halves = None if step.expected_rewards is None else step.expected_rewards / 2
        return step._replace(rewards=step.rewards / 2, expected_rewards=halves)


class HalvedRewards(TaskFamilyWrapper):
    """The same tasks with half the reward."""

    @property
    def id(self):
        return f"{self.family.id}/2"

    def make_batch(self, tasks, *, num_envs, device="cpu"):
        return HalvedBatch(self.family.make_batch(tasks, num_envs=num_envs, device=device))


FAMILIES = ["Navigation2D:maml17", "Bandit:n10-k5", "HalfCheetahVel:ldm", "KeyToDoor:ad"]


@pytest.mark.parametrize("family_id", FAMILIES)
def test_a_wrapper_has_all_public_values_of_its_family_but_the_structure(family_id):
    family = make_family(family_id)
    wrapper = TaskFamilyWrapper(family)
    for attribute in dir(type(family).__mro__[-3]):  # TaskFamily itself
        if attribute.startswith("_") or attribute in ("name", "structure"):
            continue
        value = getattr(family, attribute)
        if not callable(value):
            assert getattr(wrapper, attribute) == value, attribute
    for attribute in ("variant", "task_space", "observation_space", "action_space", "horizon"):
        assert getattr(wrapper, attribute) == getattr(family, attribute)
    assert wrapper.structure is None
    for split in family.splits:
        sampled, own = (f.sample_tasks(5, split=split, seed=3) for f in (wrapper, family))
        assert np.array_equal(sampled, own)


def test_a_wrapped_family_of_a_user_is_sound_and_gives_half():
    family = make_family("Navigation2D:maml17")
    halved = HalvedRewards(family)
    assert [c for c in check_family(halved) if c.outcome == "failed"] == []
    tasks = family.sample_tasks(2, seed=0)
    rewards = []
    for one in (family, halved):
        env = one.make_batch(tasks, num_envs=3)
        env.reset(torch.Generator().manual_seed(0))
        rewards.append(env.step(torch.full((2, 3, 2), 0.05)).rewards)
        env.close()
    assert torch.equal(rewards[0] / 2, rewards[1])


@pytest.mark.parametrize("family_id", ["Navigation2D:maml17", "Bandit:n10-k5"])
def test_wrappers_of_wrappers_render_the_innermost_batch(family_id):
    family = make_family(family_id)
    outer = TrialFamily(ObservedTaskFamily(HalvedRewards(family)), 2)
    assert outer.id == f"{family_id}/2+task × 2 episodes"
    assert outer.can_render is family.can_render
    batch = outer.make_batch(family.sample_tasks(1, seed=0), num_envs=1)
    assert isinstance(batch, RendersBatch)
    if family.can_render:
        batch.reset(torch.Generator().manual_seed(0))
        assert batch.render(0, 0).shape[2] == 3
    batch.close()


def test_a_batch_without_images_is_wrapped_without_them():
    class Blind:
        num_tasks = num_envs = horizon = 1
        observation_space = action_space = None

    assert not isinstance(BatchEnvWrapper(Blind()), RendersBatch)
