"""Task families from outside: drawing tasks, checking them, and naming a family."""

import re

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from metarl.envs import FAMILIES, make_family

IDS = [f"{entry.name}:{variant}" for entry in FAMILIES for variant in entry.variants]

# Tasks 0 to 2 of seed 0. They must not change, on any machine: published results name seeds.
FROZEN = {
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

every_family = pytest.mark.parametrize("family_id", IDS)


@pytest.mark.parametrize(("family_id", "split"), FROZEN)
def test_a_seed_means_the_same_tasks_on_every_machine(family_id, split):
    tasks = make_family(family_id).sample_tasks(3, split=split, seed=0)
    np.testing.assert_allclose(tasks, FROZEN[family_id, split], rtol=0, atol=1e-8)


def test_every_variant_has_frozen_tasks():
    assert {family_id for family_id, _ in FROZEN} == set(IDS)


@every_family
def test_tasks_depend_on_the_seed_and_the_split_alone(family_id):
    family = make_family(family_id)
    tasks = family.sample_tasks(20, seed=1)
    assert np.array_equal(tasks, make_family(family_id).sample_tasks(20, split="train", seed=1))
    assert not np.isin(tasks, family.sample_tasks(20, seed=2)).any()
    assert not np.isin(tasks, family.sample_tasks(20, split="test", seed=1)).any()


@every_family
@pytest.mark.parametrize("split", ["train", "test"])
def test_tasks_lie_in_the_task_space_and_fill_it_uniformly(family_id, split):
    family = make_family(family_id)
    tasks = family.sample_tasks(2000, split=split, seed=0)
    assert tasks.dtype == np.float64
    assert np.array_equal(family.check_tasks(tasks), tasks)
    low, high = family.task_space.low, family.task_space.high
    shares = (tasks - low) / (high - low)
    bound = 5 / np.sqrt(12 * 2000)  # five standard errors of the mean
    assert (abs(shares.mean(0) - 0.5) < bound).all()
    assert (shares.min(0) < 0.01).all()
    assert (shares.max(0) > 0.99).all()


@every_family
def test_a_family_knows_its_id_its_numbers_and_how_its_batches_behave(family_id):
    family = make_family(family_id)
    assert family.id == family_id
    tasks = family.sample_tasks(3, seed=0)
    batch = family.make_batch(tasks, num_envs=2)
    try:
        assert batch.autoreset_mode is AutoresetMode.DISABLED
        assert (batch.num_tasks, batch.num_envs) == (3, 2)
        assert batch.horizon == family.horizon
        assert batch.observation_space == family.observation_space
        assert batch.action_space == family.action_space
    finally:
        batch.close()


@every_family
def test_an_unknown_split_is_answered_with_the_nearest(family_id):
    message = "split must be one of train, test, got 'tets'; did you mean 'test'?"
    with pytest.raises(ValueError, match=re.escape(message)):
        make_family(family_id).sample_tasks(1, split="tets", seed=0)


@every_family
def test_numbers_of_tasks_and_seeds_out_of_range_are_refused(family_id):
    family = make_family(family_id)
    with pytest.raises(ValueError, match="num_tasks must be 1 or more, got 0"):
        family.sample_tasks(0, seed=0)
    with pytest.raises(ValueError, match="seed must be 0 or more, got -1"):
        family.sample_tasks(1, seed=-1)
    with pytest.raises(ValueError, match="num_envs must be 1 or more, got 0"):
        family.make_batch(family.sample_tasks(1, seed=0), num_envs=0)


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
def test_a_target_velocity_outside_the_variant_is_refused(family_id, bad):
    family = make_family(family_id)
    with pytest.raises(ValueError, match=r"tasks must lie in Box\(0\.0, \d.*got \["):
        family.make_batch([[bad]], num_envs=1)


@pytest.mark.parametrize("tasks", [[0.1, 0.2], [[0.1]], [[0.1, 0.2, 0.3]], np.zeros((0, 2))])
def test_tasks_of_another_shape_are_refused(tasks):
    with pytest.raises(ValueError, match=r"tasks must have shape \[tasks, 2\], got \("):
        make_family("Navigation2D:maml17").check_tasks(tasks)


@pytest.mark.parametrize(
    ("family_id", "message"),
    [
        ("Navigation:maml17", "environment must be one of .*; did you mean 'Navigation2D'?"),
        (
            "HalfCheetahVel:prmp",
            "variant of HalfCheetahVel must be one of maml17, promp, got 'prmp'; "
            "did you mean 'promp'?",
        ),
        (
            "HalfCheetahVel",
            "environment must name its variant, one of HalfCheetahVel:maml17, "
            "HalfCheetahVel:promp, got 'HalfCheetahVel'",
        ),
        ("Navigation2D:", "environment must name its variant, one of Navigation2D:maml17"),
    ],
)
def test_a_family_id_that_names_nothing_is_answered_with_what_there_is(family_id, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        make_family(family_id)


@pytest.mark.parametrize("name", [entry.name for entry in FAMILIES])
def test_the_class_itself_refuses_an_unknown_variant(name):
    message = rf"variant of {name} must be one of .*, got 'mamll17'; did you mean 'maml17'\?"
    with pytest.raises(ValueError, match=message):
        FAMILIES.load(name)("mamll17")
