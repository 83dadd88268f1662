"""Sampling and checking tasks; the tasks of a seed never change."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium import spaces

sys.path.append(str(Path(__file__).parents[1] / "support"))

import freeze_tasks
from sound_families import Walk

from metarl.envs import family_ids, make_family
from metarl.tasks.family import RendersBatch, listed_tasks, uniform_tasks

# Tasks 0 to 2 of seed 0 of the first families.
FIRST = {
    ("Navigation2D:maml17", "train"): [
        [-0.2719392, -0.27190227],
        [-0.32209391, 0.29581654],
        [0.44801221, 0.15080545],
    ],
    ("Navigation2D:maml17", "test"): [
        [0.42738147, 0.16266457],
        [0.42351451, -0.32433276],
        [-0.24211934, 0.03440456],
    ],
    ("HalfCheetahVel:maml17", "train"): [[0.4561216], [0.45619545], [0.35581217]],
    ("HalfCheetahVel:maml17", "test"): [[1.85476293], [1.32532915], [1.84702902]],
    ("HalfCheetahVel:promp", "train"): [[0.6841824], [0.68429318], [0.53371826]],
    ("HalfCheetahVel:promp", "test"): [[2.7821444], [1.98799372], [2.77054353]],
}
FROZEN = json.loads(freeze_tasks.FILE.read_text(encoding="utf-8"))


# Tasks of a seed.


@pytest.mark.parametrize(("family_id", "split"), FIRST)
def test_a_seed_gives_the_same_tasks_on_every_machine(family_id, split):
    tasks = make_family(family_id).sample_tasks(3, split=split, seed=0)
    np.testing.assert_allclose(tasks, FIRST[family_id, split], rtol=0, atol=1e-8)


@pytest.mark.parametrize("family_id", FROZEN)
def test_the_tasks_of_a_seed_are_frozen(family_id):
    if family_id.startswith("MetaWorld:"):
        pytest.importorskip("metaworld")
    family = make_family(family_id)
    remedy = "tasks of published seeds changed; restore them (see tests/support/freeze_tasks.py)"
    assert freeze_tasks.digests(family) == FROZEN[family_id], remedy


def test_every_variant_has_frozen_tasks():
    missing = set(family_ids()) - set(FROZEN)
    remedy = "run where all optional packages are installed: python tests/support/freeze_tasks.py"
    assert {name for name in missing if not name.startswith("MetaWorld:")} == set(), remedy
    assert set(FROZEN) <= set(family_ids()), "a family that was published is gone"


def test_a_digest_depends_on_tasks_and_not_on_the_last_bits():
    tasks = np.array([[0.1, -0.0], [2.0, 1 / 3]])
    kept = freeze_tasks.digest(tasks)
    assert freeze_tasks.digest(tasks + np.array([[1e-12, 0.0], [-1e-12, 1e-12]])) == kept
    assert freeze_tasks.digest(tasks[::-1]) != kept
    assert freeze_tasks.digest(tasks + 1e-6) != kept


# Sampling.


EVEN = [  # a space, and of each coordinate the ends of equally probable bins, and their number
    (
        spaces.Box(np.array([-1.0, 2.0]), np.array([3.0, 2.5]), dtype=np.float64),
        [(-1, 3, 10), (2, 2.5, 10)],
    ),
    (spaces.Discrete(4, start=-1), [(-1.5, 2.5, 4)]),
    (spaces.MultiDiscrete([3, 5], start=[0, 10]), [(-0.5, 2.5, 3), (9.5, 14.5, 5)]),
]


@pytest.mark.parametrize(("space", "bins"), EVEN)
def test_uniform_tasks_fill_the_space_evenly(space, bins):
    tasks = uniform_tasks(space, 6000, np.random.default_rng(0))
    assert tasks.dtype == np.float64
    assert tasks.shape == (6000, len(bins))
    for values, (low, high, number) in zip(tasks.T, bins, strict=True):
        counts, _ = np.histogram(values, number, (low, high))
        assert counts.sum() == 6000
        assert np.abs(counts - 6000 / number).max() < 5 * np.sqrt(6000 / number)
    if len(bins) > 1:
        assert abs(np.corrcoef(tasks.T)[0, 1]) < 5 / np.sqrt(6000)


def test_tasks_of_a_list_are_all_sampled_before_one_is_repeated():
    points = np.array([[0.0], [1.0], [2.0], [3.0]])
    tasks = listed_tasks(points, 10, np.random.default_rng(0))[:, 0]
    assert sorted(tasks[:4]) == sorted(tasks[4:8]) == [0, 1, 2, 3]
    assert len(set(tasks[8:])) == 2
    assert tasks[:4].tolist() != tasks[4:8].tolist()


def test_the_order_of_listed_tasks_is_random():
    points = np.arange(3.0)[:, None]
    orders = [tuple(listed_tasks(points, 3, np.random.default_rng(k))[:, 0]) for k in range(600)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    assert max(abs(count - 100) for count in counts) < 5 * np.sqrt(100)


@pytest.mark.parametrize("family_id", ["Navigation2D:maml17", "HalfCheetahVel:maml17"])
def test_tasks_depend_on_the_seed_and_the_split_alone(family_id):
    family = make_family(family_id)
    tasks = family.sample_tasks(20, seed=1)
    family.sample_tasks(7, split="test", seed=5)
    assert np.array_equal(tasks, family.sample_tasks(20, seed=1))
    assert np.array_equal(tasks, make_family(family_id).sample_tasks(20, split="train", seed=1))
    assert not np.isin(tasks, family.sample_tasks(20, seed=2)).any()
    assert not np.isin(tasks, family.sample_tasks(20, split="test", seed=1)).any()


@pytest.mark.parametrize("family_id", ["Navigation2D:maml17", "HalfCheetahVel:promp"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_tasks_of_both_splits_fill_the_task_space_uniformly(family_id, split):
    family = make_family(family_id)
    tasks = family.sample_tasks(2000, split=split, seed=0)
    assert np.array_equal(family.check_tasks(tasks), tasks)
    shares = (tasks - family.task_space.low) / (family.task_space.high - family.task_space.low)
    assert (abs(shares.mean(0) - 0.5) < 5 / np.sqrt(12 * 2000)).all()
    assert (shares.min(0) < 0.01).all()
    assert (shares.max(0) > 0.99).all()


def test_an_unknown_split_is_rejected_with_the_nearest():
    message = "split must be one of train, test, got 'tets'; did you mean 'test'?"
    with pytest.raises(ValueError, match=re.escape(message)):
        Walk().sample_tasks(1, split="tets", seed=0)


def test_numbers_of_tasks_and_seeds_out_of_range_are_rejected():
    with pytest.raises(ValueError, match="num_tasks must be 1 or more, got 0"):
        Walk().sample_tasks(0, seed=0)
    with pytest.raises(ValueError, match="seed must be 0 or more, got -1"):
        Walk().sample_tasks(1, seed=-1)


# Checking.


@pytest.mark.parametrize("bad", [0.51, -0.51, float("nan"), float("inf")])
def test_the_first_task_outside_the_task_space_is_shown(bad):
    family = make_family("Navigation2D:maml17")
    message = rf"tasks must lie in Box\(-0\.5, 0\.5.*got \[0\.1, {bad}\]"
    for use in (family.check_tasks, lambda tasks: family.make_batch(tasks, num_envs=1)):
        with pytest.raises(ValueError, match=message):
            use([[0.5, -0.5], [0.1, bad], [0.9, 0.9]])


@pytest.mark.parametrize(
    ("family_id", "bad"), [("HalfCheetahVel:maml17", 2.1), ("HalfCheetahVel:promp", 3.1)]
)
def test_a_target_velocity_outside_the_variant_is_rejected(family_id, bad):
    with pytest.raises(ValueError, match=r"tasks must lie in Box\(0\.0, \d.*got \["):
        make_family(family_id).make_batch([[bad]], num_envs=1)


@pytest.mark.parametrize("tasks", [[0.1, 0.2], [[0.1]], [[0.1, 0.2, 0.3]], np.zeros((0, 2))])
def test_tasks_of_another_shape_are_rejected(tasks):
    with pytest.raises(ValueError, match=r"tasks must have shape \[tasks, 2\], got \("):
        make_family("Navigation2D:maml17").check_tasks(tasks)


# Descriptions.


def test_a_description_is_one_line_of_tasks_horizon_observation_and_source():
    family = Walk()
    assert family.id == "Walk:plain"
    plain = "goal U(−1, 1); 7 steps; observes the position (1 number); these tests"
    assert family.description == plain
    family.action_divisor, family.warning = 10.0, "it is a toy"
    family.observation_space = spaces.Box(0, 1, (3,), np.float32)
    assert family.description == (
        "goal U(−1, 1); 7 steps; observes the position (3 numbers); policy actions ÷ 10; "
        "these tests. Warning: it is a toy"
    )


def test_a_batch_that_renders_has_the_method_render():
    assert isinstance(SimpleNamespace(render=print), RendersBatch)
    assert not isinstance(SimpleNamespace(), RendersBatch)
