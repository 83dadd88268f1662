"""Whole episodes of every navigation variant, against formulas written from its source.

Positions are computed again from the previous observation in float64; rewards, ends and cuts follow
from the formulas below, whose lines in the sources are named. Half of the environments move to the
goal, the others at random.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from metarl.envs import family_ids, make_family
from metarl.envs.simulators.tensor import TensorFamily

Array = NDArray[np.float64]
Reward = Callable[[Array, Array, Array], float]
CORNERS = np.array([[-2, -2], [2, -2], [-2, 2], [2, 2]], np.float64)
NUM_TASKS, NUM_ENVS = 3, 4


def minus_distance(before: Array, after: Array, goal: Array) -> float:
    del before
    return -float(np.linalg.norm(after - goal))


def shaped_within(radius: float) -> Reward:
    def reward(before: Array, after: Array, goal: Array) -> float:
        dense = minus_distance(before, after, goal)
        return dense + 1 if dense >= -radius else 0.0

    return reward


def one_within(radius: float) -> Reward:
    def reward(before: Array, after: Array, goal: Array) -> float:
        return 1.0 if minus_distance(before, after, goal) >= -radius else 0.0

    return reward


def corner_progress(before: Array, after: Array, goal: Array) -> float:
    if abs(after).sum() < 0.5:
        return 0.0
    distances = np.linalg.norm(after - CORNERS, axis=1)
    if distances[(goal == CORNERS).all(axis=1)] > distances.min():
        return 0.0
    return float(np.linalg.norm(before - goal) - np.linalg.norm(after - goal))


def grid_reward(before: Array, after: Array, goal: Array) -> float:
    del before
    return 1.0 if (after == goal).all() else -0.1


def on_cell(before: Array, after: Array, goal: Array) -> float:
    return float(grid_reward(before, after, goal) == 1.0)


def angle(task: Array) -> Array:
    return np.array([np.cos(task[0]), np.sin(task[0])])


@dataclass(frozen=True)
class Source:
    """Definition of a variant, with the lines it was written from."""

    lines: str
    reward: Reward
    steps: int
    max_displacement: float = 0.1
    goal: Callable[[Array], Array] = np.asarray
    wind: bool = False  # whether the task is a wind
    tolerance: float = 0.0  # an episode ends if both coordinates are nearer to the goal


SOURCES = {
    "Navigation2D:maml17": Source(
        "maml_rl maml_examples/point_env_randgoal.py:37-45, maml_trpo_point.py:21",
        minus_distance,
        100,
        tolerance=0.01,
    ),
    "PointRobot:pearl": Source(
        "oyster point_robot.py:39-40 and 61-69, point-robot.json", minus_distance, 20
    ),
    "SparsePointRobot:pearl": Source(
        "oyster point_robot.py:105-122, sparse-point-robot.json", shaped_within(0.2), 20, goal=angle
    ),
    "SparsePointRobot:varibad": Source(
        "varibad point_robot.py:87-97 and 298-316, __init__.py:84-92",
        shaped_within(0.2),
        100,
        goal=angle,
    ),
    "SparsePointRobot:borel": Source(
        "BOReL point_robot.py:119-145, __init__.py:63-67", one_within(0.2), 60, goal=angle
    ),
    "SparsePointRobot:metacure": Source(
        "MetaCURE point_robot.py:105-123, sparse-point-robot-metacure.json:22",
        shaped_within(0.3),
        32,
        goal=angle,
    ),
    "CornerPoint:promp": Source(
        "ProMP point_env_2d_corner.py:22-41 and 61-75",
        corner_progress,
        100,
        max_displacement=0.2,
        goal=lambda task: CORNERS[int(task[0])],
    ),
    "WindyPoint:borel": Source(
        "pomdp-baselines envs/meta/toy_navigation/wind.py:71-101",
        one_within(0.03),
        75,
        goal=lambda _: np.array([0.0, 1.0]),
        wind=True,
    ),
    "WindyPoint:pomdp": Source(
        "pomdp-baselines envs/meta/toy_navigation/wind.py:71-101",
        one_within(0.03),
        75,
        goal=lambda _: np.array([0.0, 1.0]),
        wind=True,
    ),
}

GRID = [
    (x, y) for x in range(5) for y in range(5) if (x, y) not in {(0, 0), (0, 1), (1, 1), (1, 0)}
]
UP, RIGHT, DOWN, LEFT, STAY = (0, 1), (1, 0), (0, -1), (-1, 0), (0, 0)


@dataclass(frozen=True)
class GridSource:
    """Definition of a grid with one goal."""

    lines: str
    reward: Reward
    steps: int
    size: int
    moves: tuple[tuple[int, int], ...]
    goal: Callable[[Array], Array]


GRIDS = {
    "GridNavigation:varibad": GridSource(
        "varibad gridworld.py:37-42 and 101-137, __init__.py:98-102",
        grid_reward,
        15,
        5,
        (STAY, UP, RIGHT, DOWN, LEFT),
        lambda task: np.array(GRID[int(task[0])]),
    ),
    "DarkRoom:dpt": GridSource(
        "decision-pretrained-transformer envs/darkroom_env.py:32-64",
        on_cell,
        100,
        10,
        (RIGHT, LEFT, UP, DOWN, STAY),
        lambda task: np.array(divmod(int(task[0]), 10)),
    ),
    "DarkRoom:ad": GridSource(
        "Laskin et al. 2022, app. B; the code is not public",
        on_cell,
        20,
        9,
        (RIGHT, LEFT, UP, DOWN, STAY),
        lambda task: np.array(divmod(int(task[0]), 9)),
    ),
}


def test_every_variant_is_compared_with_its_source():
    navigation = {
        family_id
        for family_id in family_ids()
        if not family_id.startswith("MetaWorld")
        and type(make_family(family_id)).__module__.startswith("metarl.envs.navigation")
    }
    # Two objects to find: `test_grids.py` has its rewards by hand.
    assert navigation == {*SOURCES, *GRIDS, "KeyToDoor:ad"}


@pytest.mark.parametrize("family_id", SOURCES)
def test_episodes_in_the_plane_are_those_of_the_source(family_id):
    source, family = SOURCES[family_id], make_family(family_id)
    assert isinstance(family, TensorFamily)
    tasks = family.sample_tasks(NUM_TASKS, seed=1)
    goals = np.stack([source.goal(task) for task in tasks])
    generator = torch.Generator().manual_seed(0)
    batch = family.make_batch(tasks, num_envs=NUM_ENVS)
    positions = batch.reset(generator).double().numpy()
    drift = tasks[:, None] if source.wind else 0.0
    ended, rewards = np.zeros((NUM_TASKS, NUM_ENVS), bool), set()
    for time in range(source.steps):
        shape, limit = (NUM_TASKS, NUM_ENVS, 2), source.max_displacement
        actions = 3 * limit * (2 * torch.rand(shape, generator=generator) - 1)
        actions[:, ::2] = torch.tensor(goals[:, None] - positions[:, ::2] - drift).float()
        step = batch.step(actions)
        moves = np.clip(actions.double().numpy(), -limit, limit)
        for task, env in np.argwhere(~ended):
            before = positions[task, env]
            after = before + moves[task, env] + (tasks[task] if source.wind else 0)
            np.testing.assert_allclose(step.observations[task, env], after, rtol=0, atol=1e-6)
            expected = source.reward(before, after, goals[task])
            assert float(step.rewards[task, env]) == pytest.approx(expected, abs=2e-6)
            rewards.add(expected)
            ends = bool((abs(after - goals[task]) < source.tolerance).all())
            assert bool(step.terminated[task, env]) == ends
            assert bool(step.truncated[task, env]) == (time == source.steps - 1)
        ended |= step.terminated.numpy()
        positions = step.observations.double().numpy()
    assert len(rewards) > 1
    assert ended.any() == (source.tolerance > 0)


@pytest.mark.parametrize("family_id", GRIDS)
def test_episodes_on_grids_are_those_of_the_source(family_id):
    source, family = GRIDS[family_id], make_family(family_id)
    tasks = family.sample_tasks(NUM_TASKS, seed=1)
    generator = torch.Generator().manual_seed(0)
    batch = family.make_batch(tasks, num_envs=NUM_ENVS)
    cells, rewards = batch.reset(generator).double().numpy(), set()
    for time in range(source.steps):
        actions = torch.randint(5, (NUM_TASKS, NUM_ENVS), generator=generator)
        best = batch.oracle_actions()
        assert best is not None
        actions[:, ::2] = best[:, ::2]
        step = batch.step(actions)
        for task, env in np.ndindex(NUM_TASKS, NUM_ENVS):
            move = source.moves[int(actions[task, env])]
            after = np.clip(cells[task, env] + move, 0, source.size - 1)
            np.testing.assert_array_equal(step.observations[task, env], after)
            expected = source.reward(cells[task, env], after, source.goal(tasks[task]))
            assert float(step.rewards[task, env]) == pytest.approx(expected)
            rewards.add(expected)
        assert not step.terminated.any()
        assert (step.truncated == (time == source.steps - 1)).all()
        cells = step.observations.double().numpy()
    assert len(rewards) == 2
