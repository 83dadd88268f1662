"""2D navigation: rewards and ends by hand, and the oracle against a random walk."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.envs.navigation import Navigation2D, NavigationBatch
from metarl.episodes import Episodes, collect

FAMILY = Navigation2D("maml17")


def batch(*goals: tuple[float, float], num_envs: int = 1) -> NavigationBatch:
    env = FAMILY.make_batch(np.array(goals), num_envs=num_envs)
    env.reset(torch.Generator())
    return env


def move(x: float, y: float) -> Tensor:
    """An action of one environment of one task."""
    return torch.tensor([[[x, y]]])


def run(goals: list[tuple[float, float]], actor, num_envs: int = 1) -> Episodes:
    return collect(FAMILY.make_batch(goals, num_envs=num_envs), actor, torch.Generator())


def random_walk(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return lambda positions: 0.2 * torch.rand(positions.shape, generator=generator) - 0.1


def test_the_reward_is_minus_the_distance_to_the_goal_where_the_step_leads():
    env = batch((0.3, 0.4))
    for action, position, distance in (
        ((0.0, 0.0), (0.0, 0.0), 0.5),
        ((0.1, 0.1), (0.1, 0.1), math.sqrt(0.13)),
        ((-0.1, 0.05), (0.0, 0.15), math.sqrt(0.1525)),
    ):
        step = env.step(move(*action))
        torch.testing.assert_close(step.observations, move(*position))
        assert float(step.rewards) == pytest.approx(-distance, abs=1e-6)


def test_each_coordinate_of_a_step_is_clipped():
    env = batch((0.5, 0.5))
    torch.testing.assert_close(env.step(move(7.0, -0.25)).observations, move(0.1, -0.1))
    torch.testing.assert_close(env.step(move(-0.05, 0.15)).observations, move(0.05, 0.0))


@pytest.mark.parametrize(
    ("x", "y", "reached"),
    [
        (0.092, 0.092, True),  # .0113 away in the plane, but below .01 in each coordinate
        (0.092, 0.088, False),
        (0.088, 0.092, False),
        (0.1, 0.1, True),
        (0.1, 0.0, False),
    ],
)
def test_an_episode_ends_when_both_coordinates_are_within_the_tolerance(x, y, reached):
    step = batch((0.1, 0.1)).step(move(x, y))
    assert bool(step.terminated) is reached
    assert not bool(step.truncated)


def test_an_episode_is_cut_after_a_hundred_steps_and_not_before():
    env = batch((0.5, 0.5), (0.0, 0.0))
    for _ in range(99):
        assert not env.step(torch.zeros(2, 1, 2)).truncated.any()
    last = env.step(torch.zeros(2, 1, 2))
    assert last.truncated.tolist() == [[True], [True]]
    assert last.terminated.tolist() == [[False], [True]]  # the two kinds of end stay apart
    env.reset(torch.Generator())
    assert not env.step(torch.zeros(2, 1, 2)).truncated.any()


def test_every_episode_starts_at_the_origin():
    env = FAMILY.make_batch([[0.3, 0.4], [0.1, 0.2]], num_envs=3)
    for seed in (0, 1):
        start = env.reset(torch.Generator().manual_seed(seed))
        assert torch.equal(start, torch.zeros(2, 3, 2))
        env.step(torch.ones(2, 3, 2))


def test_observations_handed_out_are_not_changed_by_later_steps():
    env = FAMILY.make_batch([[0.3, 0.4]], num_envs=1)
    start = env.reset(torch.Generator())
    first = env.step(move(0.1, 0.0)).observations
    env.step(move(0.1, 0.0))
    env.reset(torch.Generator())
    assert torch.equal(start, move(0.0, 0.0))
    torch.testing.assert_close(first, move(0.1, 0.0))


def test_the_oracle_earns_the_hand_computed_return():
    # (0, 0) → (.1, −.1) → (.2, −.2) → (.25, −.3) → (.25, −.4) → (.25, −.5), the goal
    goals = [(0.25, -0.5)]
    got = run(goals, FAMILY.oracle(goals))
    expected = -(math.hypot(0.15, 0.4) + math.hypot(0.05, 0.3) + 0.2 + 0.1)
    assert float(got.returns) == pytest.approx(expected, abs=1e-5)
    assert got.num_steps == 5
    assert got.terminated.nonzero().tolist() == [[0, 0, 4]]
    assert not got.truncated.any()


def test_the_oracle_beats_a_random_walk_on_every_task():
    goals = FAMILY.sample_tasks(20, split="test", seed=0)
    oracle, walk = run(goals, FAMILY.oracle(goals)), run(goals, random_walk())
    assert (oracle.returns > walk.returns).all()
    assert oracle.returns.mean() > -3
    assert walk.returns.mean() < -10
    assert oracle.terminated.any(-1).all()


def test_the_oracle_knows_its_tasks_apart_and_refuses_others():
    actor = FAMILY.oracle([[0.5, -0.5], [0.03, 0.0]])
    actions = actor(torch.zeros(2, 2, 2))
    expected = torch.tensor([[[0.1, -0.1]] * 2, [[0.03, 0.0]] * 2])
    torch.testing.assert_close(actions, expected)
    with pytest.raises(ValueError, match="tasks must lie in Box"):
        FAMILY.oracle([[0.7, 0.0]])


def test_changing_one_task_leaves_the_others_bit_equal():
    goals = FAMILY.sample_tasks(3, seed=0)
    changed = goals.copy()
    changed[1] = [-0.2, 0.45]
    before, after = (run(g, random_walk(), num_envs=2) for g in (goals, changed))
    assert torch.equal(before.rewards[[0, 2]], after.rewards[[0, 2]])
    assert not torch.equal(before.rewards[1], after.rewards[1])


def test_changing_the_actions_of_one_environment_leaves_the_others_bit_equal():
    def other_in_one_lane(positions: Tensor) -> Tensor:
        actions = walk(positions)
        actions[1, 0] *= -1
        return actions

    goals, walk = FAMILY.sample_tasks(3, seed=0), random_walk()
    before = run(goals, walk, num_envs=2)
    walk = random_walk()
    after = run(goals, other_in_one_lane, num_envs=2)
    rest = torch.ones(3, 2, dtype=torch.bool)
    rest[1, 0] = False
    assert torch.equal(before.observations[rest], after.observations[rest])
    assert torch.equal(before.rewards[rest], after.rewards[rest])
    assert not torch.equal(before.rewards[1, 0], after.rewards[1, 0])


def test_environments_of_one_task_share_its_goal():
    got = run([(0.3, 0.4), (-0.5, 0.0)], torch.zeros_like, num_envs=3)
    expected = -torch.tensor([[0.5] * 3] * 2)
    torch.testing.assert_close(got.rewards[..., 0], expected)
