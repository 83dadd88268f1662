"""Fixed lists of tasks, as the sources build them from the global generator of NumPy.

Each test repeats lines of the source named in it; `tasks[:n]` are for training and `tasks[-m:]` for
testing (oyster launch_experiment.py:74-75).
"""

import numpy as np
import pytest
from numpy.typing import NDArray

from metarl.envs import make_family

Array = NDArray[np.float64]


def listed(family_id: str, split: str, count: int) -> Array:
    """All tasks of a split, which a sample of this size contains once each."""
    return make_family(family_id).sample_tasks(count, split=split, seed=3)


def assert_split(family_id: str, tasks: Array, num_train: int) -> None:
    for split, expected in (("train", tasks[:num_train]), ("test", tasks[num_train:])):
        sampled = listed(family_id, split, len(expected))
        order, expected_order = np.lexsort(sampled.T), np.lexsort(expected.T)
        np.testing.assert_allclose(sampled[order], expected[expected_order], rtol=0, atol=1e-12)
        assert not np.array_equal(sampled, expected)  # in random order
        again = listed(family_id, split, 2 * len(expected))
        assert len(np.unique(again, axis=0)) == len(expected)


@pytest.fixture
def rng() -> np.random.RandomState:
    """The stream of the global generator after `np.random.seed(1337)`."""
    return np.random.RandomState(1337)


def test_the_velocities_of_pearl(rng):
    """oyster rlkit/envs/half_cheetah_vel.py:49-53, configs/cheetah-vel.json:3-6."""
    assert_split("HalfCheetahVel:pearl", rng.uniform(0.0, 3.0, size=(130,))[:, None], 100)


def test_the_goals_of_the_point_robot_of_pearl(rng):
    """oyster rlkit/envs/point_robot.py:20-22, configs/point-robot.json:3-6."""
    goals = [[rng.uniform(-1.0, 1.0), rng.uniform(-1.0, 1.0)] for _ in range(100)]
    assert_split("PointRobot:pearl", np.array(goals), 80)


@pytest.mark.parametrize(
    ("variant", "num_train", "count"), [("pearl", 80, 100), ("metacure", 40, 60)]
)
def test_the_goals_of_sparse_point_robots(rng, variant, num_train, count):
    """oyster and MetaCURE rlkit/envs/point_robot.py:92-100, their configs:3-6."""
    angles = np.linspace(0, np.pi, num=count)
    goals = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rng.shuffle(goals)
    shuffled = np.arctan2(goals[:, 1], goals[:, 0])[:, None]
    assert_split(f"SparsePointRobot:{variant}", shuffled, num_train)


def test_the_goals_of_borel(rng):
    """BOReL point_robot.py:109, args_point_robot_sparse.py:13-14; the seed is ours."""
    assert_split("SparsePointRobot:borel", rng.uniform(0, np.pi, size=100)[:, None], 80)


def test_the_goals_of_the_ants(rng):
    """oyster ant_goal.py:34-39, ant-goal.json:3-6; MetaCURE ant_goal.py:89-94; the seed is ours."""
    a = rng.random_sample(180) * 2 * np.pi
    r = 3 * rng.random_sample(180) ** 0.5
    assert_split("AntGoal:pearl", np.stack((r * np.cos(a), r * np.sin(a)), axis=-1), 150)
    rng.seed(1337)
    a = rng.random_sample(100) * 1 * np.pi
    assert_split("AntGoalSparse:metacure", np.stack((np.cos(a), np.sin(a)), axis=-1), 80)


def test_the_directions_of_the_humanoid_of_pearl(rng):
    """oyster rlkit/envs/humanoid_dir.py:57-61, configs/humanoid-dir.json:3-6; the seed is ours."""
    assert_split("HumanoidDir:pearl", rng.uniform(0.0, 2.0 * np.pi, size=(130,))[:, None], 100)


@pytest.mark.parametrize("name", ["Walker2DRandParams", "HopperRandParams"])
def test_the_dynamics_of_pearl(rng, name):
    """oyster configs/walker_rand_params.json and hopper_rand_params.json:3-6; the seed is ours."""
    (size,) = make_family(f"{name}:pearl").task_space.shape
    assert_split(f"{name}:pearl", rng.uniform(-3, 3, (50, size)), 40)
