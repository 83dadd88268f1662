"""Navigation with a dense reward: rewards, starts and ends by hand, and the oracle."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.envs.navigation.goals import Navigation2D, PointRobot
from metarl.envs.simulators.tensor import TensorBatch
from metarl.rollouts.episodes import Episodes, collect

FAMILY = Navigation2D("maml17")
ROBOT = PointRobot("pearl")


def batch(*goals: tuple[float, float], num_envs: int = 1) -> TensorBatch:
    env = FAMILY.make_batch(np.array(goals), num_envs=num_envs)
    env.reset(torch.Generator())
    return env


def move(x: float, y: float) -> Tensor:
    """An action of one environment of one task."""
    return torch.tensor([[[x, y]]])


def run(goals: list[tuple[float, float]], actor, num_envs: int = 1) -> Episodes:
    return collect(FAMILY.make_batch(goals, num_envs=num_envs), actor, torch.Generator())


def run_oracle(family, tasks, num_envs: int = 1) -> Episodes:
    env = family.make_batch(tasks, num_envs=num_envs)
    return collect(env, lambda _: env.oracle_actions(), torch.Generator().manual_seed(0))


def random_walk(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return lambda positions: 0.2 * torch.rand(positions.shape, generator=generator) - 0.1


def test_the_reward_is_minus_the_distance_to_the_goal_after_the_step():
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


def test_returned_observations_are_not_changed_by_later_steps():
    env = FAMILY.make_batch([[0.3, 0.4]], num_envs=1)
    start = env.reset(torch.Generator())
    first = env.step(move(0.1, 0.0)).observations
    env.step(move(0.1, 0.0))
    env.reset(torch.Generator())
    assert torch.equal(start, move(0.0, 0.0))
    torch.testing.assert_close(first, move(0.1, 0.0))


def test_the_oracle_has_the_hand_computed_return():
    # (0, 0) → (.1, −.1) → (.2, −.2) → (.25, −.3) → (.25, −.4) → (.25, −.5), the goal
    goals = [(0.25, -0.5)]
    got = run_oracle(FAMILY, goals)
    expected = -(math.hypot(0.15, 0.4) + math.hypot(0.05, 0.3) + 0.2 + 0.1)
    assert float(got.returns) == pytest.approx(expected, abs=1e-5)
    assert got.num_steps == 5
    assert got.terminated.nonzero().tolist() == [[0, 0, 4]]
    assert not got.truncated.any()


def test_the_oracle_beats_a_random_walk_on_every_task():
    goals = FAMILY.sample_tasks(20, split="test", seed=0)
    oracle, walk = run_oracle(FAMILY, goals), run(goals, random_walk())
    assert (oracle.returns > walk.returns).all()
    assert oracle.returns.mean() > -3
    assert walk.returns.mean() < -10
    assert oracle.terminated.any(-1).all()


def test_the_oracle_uses_the_task_and_state_of_each_environment():
    env = FAMILY.make_batch([[0.5, -0.5], [0.03, 0.0]], num_envs=2)
    env.reset(torch.Generator())
    expected = torch.tensor([[[0.1, -0.1]] * 2, [[0.03, 0.0]] * 2])
    torch.testing.assert_close(env.oracle_actions(), expected)
    env.step(torch.tensor([[[0.0, 0.0]] * 2, [[0.0, 0.0], [0.1, 0.02]]]))
    expected[1, 1] = torch.tensor([-0.07, -0.02])
    torch.testing.assert_close(env.oracle_actions(), expected)


@pytest.mark.parametrize("family", [FAMILY, ROBOT], ids=lambda family: family.id)
def test_a_reset_of_some_environments_leaves_the_others_bitwise_equal(family):
    goals = family.sample_tasks(2, seed=0)
    where = torch.tensor([[True, False, False], [False, False, True]])
    steps = []
    for reset in (False, True):
        env = family.make_batch(goals, num_envs=3)
        env.reset(torch.Generator().manual_seed(0))
        walk = random_walk()
        for _ in range(5):
            env.step(walk(torch.empty(2, 3, 2)))
        if reset:
            env.reset(torch.Generator().manual_seed(1), where)
        steps.append(env.step(walk(torch.empty(2, 3, 2))))
    before, after = steps
    for name in ("observations", "rewards"):
        one, other = getattr(before, name), getattr(after, name)
        assert torch.equal(one[~where], other[~where])
        assert (one[where] != other[where]).all()


def test_a_reset_of_some_environments_restarts_their_clocks_alone():
    env = batch((0.5, 0.5), num_envs=2)
    for _ in range(60):
        env.step(torch.zeros(1, 2, 2))
    env.reset(torch.Generator(), torch.tensor([[True, False]]))
    for _ in range(39):
        assert not env.step(torch.zeros(1, 2, 2)).truncated.any()
    assert env.step(torch.zeros(1, 2, 2)).truncated.tolist() == [[False, True]]


def test_an_image_shows_the_agent_where_it_is():
    env = batch((0.3, 0.4))
    before = env.render(0, 0)
    assert before.shape == (240, 240, 3)
    env.step(move(0.1, 0.0))
    assert not np.array_equal(before, env.render(0, 0))


def test_the_point_robot_starts_anywhere_in_the_square_of_the_goals():
    env = ROBOT.make_batch(np.zeros((2, 2)), num_envs=2000)
    starts = env.reset(torch.Generator().manual_seed(0))
    assert torch.equal(starts, env.reset(torch.Generator().manual_seed(0)))
    assert not torch.equal(starts, env.reset(torch.Generator().manual_seed(1)))
    assert starts.amin() < -0.99
    assert starts.amax() > 0.99
    assert (starts.abs() <= 1).all()
    assert starts.mean(dim=(0, 1)).abs().max() < 0.05


def test_the_reward_of_the_point_robot_is_minus_its_distance_and_it_never_ends_early():
    env = ROBOT.make_batch([[0.6, -0.8]], num_envs=1)
    start = env.reset(torch.Generator().manual_seed(0))
    step = env.step(move(0.5, -0.05))
    torch.testing.assert_close(step.observations, start + move(0.1, -0.05))
    away = step.observations[0, 0] - torch.tensor([0.6, -0.8])
    assert float(step.rewards) == pytest.approx(-math.hypot(*away.tolist()), abs=1e-6)
    got = run_oracle(ROBOT, [[0.0, 0.0]], num_envs=50)
    assert not got.terminated.any()
    assert got.truncated.sum(-1).eq(1).all()
    assert got.mask.sum(-1).eq(20).all()


def test_the_oracle_of_the_point_robot_has_the_return_computed_from_its_start():
    goals = np.array([[0.6, -0.8], [-1.0, 0.3]])
    got = run_oracle(ROBOT, goals, num_envs=3)
    for (task, env), earned in np.ndenumerate(got.returns.numpy()):
        dx, dy = np.abs(got.observations[task, env, 0].double().numpy() - goals[task])
        expected = -sum(
            math.hypot(max(dx - 0.1 * t, 0), max(dy - 0.1 * t, 0)) for t in range(1, 21)
        )
        assert earned == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("family", "divisor"), [(FAMILY, 1.0), (ROBOT, 10.0)])
def test_each_variant_has_its_published_parameters(family, divisor):
    assert family.action_divisor == divisor
    assert family.horizon == {1.0: 100, 10.0: 20}[divisor]
    assert family.task_space.high.tolist() == {1.0: [0.5, 0.5], 10.0: [1.0, 1.0]}[divisor]
    assert (family.splits, family.shared_tasks) == (("train", "test"), "none")


def test_changing_one_task_leaves_the_others_bitwise_equal():
    goals = FAMILY.sample_tasks(3, seed=0)
    changed = goals.copy()
    changed[1] = [-0.2, 0.45]
    before, after = (run(g, random_walk(), num_envs=2) for g in (goals, changed))
    assert torch.equal(before.rewards[[0, 2]], after.rewards[[0, 2]])
    assert not torch.equal(before.rewards[1], after.rewards[1])


def test_changing_the_actions_of_one_environment_leaves_the_others_bitwise_equal():
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
