"""A family that tells its task: same tasks, rewards and ends, longer observations."""

import numpy as np
import pytest
import torch

from metarl.envs import make_family
from metarl.episodes import collect
from metarl.seeding import torch_generator

HIDDEN, KNOWN = "Navigation2D:maml17", "Navigation2D:maml17+task"


def test_its_name_and_tasks_follow_the_family():
    hidden, known = make_family(HIDDEN), make_family(KNOWN)
    assert known.id == KNOWN
    for split in known.splits:
        expected = hidden.sample_tasks(5, split=split, seed=3)
        np.testing.assert_array_equal(known.sample_tasks(5, split=split, seed=3), expected)


def test_observations_end_with_the_task_in_units_of_the_task_space():
    known = make_family(KNOWN)
    tasks = np.array([[-0.5, 0.5], [0.25, 0.0]])
    env = known.make_batch(tasks, num_envs=3)
    expected = torch.tensor([[-1.0, 1.0], [0.5, 0.0]]).unsqueeze(1).expand(2, 3, 2)
    torch.testing.assert_close(env.reset(torch_generator(0))[..., 2:], expected)
    step = env.step(torch.full((2, 3, 2), 0.05))
    torch.testing.assert_close(step.observations[..., 2:], expected)
    assert known.observation_space.contains(step.observations[0, 0].numpy())


def test_rewards_and_the_oracle_are_the_family_s_own():
    hidden, known = make_family(HIDDEN), make_family(KNOWN)
    tasks = hidden.sample_tasks(4, seed=0)
    runs = []
    for family in (hidden, known):
        actor = family.oracle(tasks)
        env = family.make_batch(tasks, num_envs=2)
        runs.append(collect(env, actor, torch_generator(0)))
    assert torch.equal(runs[0].rewards, runs[1].rewards)
    assert torch.equal(runs[0].terminated, runs[1].terminated)
    assert torch.equal(runs[0].observations, runs[1].observations[..., :2])


def test_a_task_outside_the_space_is_refused():
    with pytest.raises(ValueError, match="tasks must lie in"):
        make_family(KNOWN).make_batch(np.array([[0.6, 0.0]]), num_envs=1)


def test_only_task_may_follow_a_variant():
    with pytest.raises(ValueError, match="only '\\+task' may follow a variant"):
        make_family("Navigation2D:maml17+goal")
