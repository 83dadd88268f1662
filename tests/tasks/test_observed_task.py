"""A family that observes its task: same tasks, rewards and ends, longer observations."""

import pickle

import numpy as np
import pytest
import torch
from gymnasium import spaces

from metarl.envs import make_family
from metarl.rollouts.episodes import collect
from metarl.seeding import torch_generator
from metarl.soundness.check import require_sound
from metarl.tasks.observed_task import ObservedTaskFamily

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
        env = family.make_batch(tasks, num_envs=2)
        runs.append(collect(env, lambda _, env=env: env.oracle_actions(), torch_generator(0)))
    assert runs[0].returns.mean() > -2  # the oracle walks straight to the goal
    assert torch.equal(runs[0].rewards, runs[1].rewards)
    assert torch.equal(runs[0].terminated, runs[1].terminated)
    assert torch.equal(runs[0].observations, runs[1].observations[..., :2])


def test_a_task_outside_the_space_is_rejected():
    known = make_family(KNOWN)
    env = known.make_batch(np.array([[0.5, 0.0]]), num_envs=1)
    for use in (known.check_tasks, lambda rows: known.make_batch(rows, num_envs=1), env.set_tasks):
        with pytest.raises(ValueError, match="tasks must lie in"):
            use(np.array([[0.6, 0.0]]))


def test_tasks_set_later_are_observed():
    known = make_family(KNOWN)
    env = known.make_batch(np.array([[-0.5, 0.5], [0.25, 0.0]]), num_envs=2)
    env.set_tasks(np.array([[0.5, 0.5], [0.0, -0.25]]))
    observed = env.reset(torch_generator(0))[..., 2:]
    assert observed[:, 0].tolist() == [[1, 1], [0, -0.5]]
    assert torch.equal(observed[:, 1], observed[:, 0])


def test_a_reset_of_some_environments_is_passed_on():
    known = make_family(KNOWN)
    env = known.make_batch(np.array([[-0.5, 0.5]]), num_envs=2)
    env.reset(torch_generator(0))
    env.step(torch.full((1, 2, 2), 0.05))
    after = env.reset(torch_generator(0), torch.tensor([[True, False]]))
    expected = torch.tensor([[[0, 0, -1, 1], [0.05, 0.05, -1, 1]]])
    torch.testing.assert_close(after, expected)


def test_a_discrete_task_is_observed_as_a_number():
    known = make_family("GridNavigation:varibad+task")
    env = known.make_batch(np.array([[0.0], [20.0], [5.0]]), num_envs=1)
    observed = env.reset(torch_generator(0))[..., -1].flatten()
    torch.testing.assert_close(observed, torch.tensor([-1.0, 1.0, -0.5]))


def test_it_describes_itself_as_the_family_with_the_task_observed():
    hidden, known = make_family(HIDDEN), make_family(KNOWN)
    assert known.observation_description == f"{hidden.observation_description}, the task"
    for name in ("task_description", "source", "warning", "splits", "ood_splits", "task_space"):
        assert getattr(known, name) == getattr(hidden, name)
    assert known.observation_space.low.tolist() == [-np.inf, -np.inf, -1, -1]
    assert known.observation_space.high.tolist() == [np.inf, np.inf, 1, 1]


@pytest.mark.parametrize("family_id", [KNOWN, "TabularMDP:rl2+task", "Bandit:n10-k5+task"])
def test_a_family_that_observes_its_task_is_sound(family_id):
    require_sound(make_family(family_id))


def test_it_survives_pickling():
    known = pickle.loads(pickle.dumps(make_family(KNOWN)))
    assert known.id == KNOWN
    assert known.observation_space == make_family(KNOWN).observation_space


def test_only_task_may_follow_a_variant():
    with pytest.raises(ValueError, match="only '\\+task' may follow a variant"):
        make_family("Navigation2D:maml17+goal")


def test_images_are_the_family_s_own():
    family = make_family("Navigation2D:maml17")
    tasks = family.sample_tasks(2, seed=0)
    observed, plain = ObservedTaskFamily(family), family
    batches = [one.make_batch(tasks, num_envs=1) for one in (observed, plain)]
    for batch in batches:
        batch.reset(torch.Generator().manual_seed(0))
    images = [batch.render(1, 0) for batch in batches]
    np.testing.assert_array_equal(*images)
    assert observed.can_render
    without = make_family("Bandit:n10-k5")
    assert not ObservedTaskFamily(without).can_render


def test_tasks_without_bounds_cannot_be_observed(monkeypatch):
    family = make_family("Navigation2D:maml17")
    monkeypatch.setattr(family, "task_space", spaces.Box(-np.inf, np.inf, (2,), np.float64))
    with pytest.raises(
        ValueError, match="task_space of Navigation2D:maml17 must be bounded for its"
    ):
        ObservedTaskFamily(family)
