"""Bandits: rewards of arms, exact values of oracle and random actions, independent randomness."""

import math
import re

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.envs.bandits import Bandit, DependentBandit, ElevenArmBandit
from metarl.envs.simulators.tensor import TensorBatch
from metarl.rollouts.actors import random_actor
from metarl.rollouts.episodes import Episodes, collect
from metarl.soundness.check import require_sound
from metarl.tasks.family import TaskFamily
from metarl.tasks.registry import FAMILIES, make_family


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def always(arm: int):
    return lambda observations: torch.full(observations.shape[:2], arm)


def play(family: TaskFamily, tasks, actor="oracle", num_envs: int = 1, seed: int = 0) -> Episodes:
    """One episode of each environment under the oracle, uniform random actions or an actor."""
    env = family.make_batch(np.asarray(tasks, dtype=float), num_envs=num_envs)
    if actor == "random":
        actor = random_actor(env, generator(seed + 1))
    elif actor == "oracle":
        return collect(env, lambda _: env.oracle_actions(), generator(seed))
    return collect(env, actor, generator(seed))


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Mean and its standard error over independent tasks."""
    flat = values.double().flatten()
    return float(flat.mean()), float(flat.std()) / math.sqrt(len(flat))


def require_mean(values: Tensor, expected: float, slack: float = 0.0) -> None:
    mean, error = mean_and_error(values)
    assert abs(mean - expected) <= 5 * error + slack + 1e-9, f"{mean} ± {error}, not {expected}"


@pytest.mark.parametrize("family", [Bandit, DependentBandit, ElevenArmBandit])
def test_the_catalog_lists_the_variants(family):
    assert FAMILIES.get(family.name).variants == family.variants
    with pytest.raises(ValueError, match=f"variant of {family.name} must be one of"):
        family("n7")


@pytest.mark.parametrize(
    "family_id",
    [
        "Bandit:n10-k5",
        "Bandit:n100-k10",
        *(f"DependentBandit:{variant}" for variant in DependentBandit.variants),
        "ElevenArmBandit:wang16",
    ],
)
def test_families_are_sound(family_id):
    require_sound(make_family(family_id))


@pytest.mark.parametrize("variant", Bandit.variants)
def test_sizes_are_those_of_the_name(variant):
    pulls, arms = (int(number) for number in re.findall(r"\d+", variant))
    family = Bandit(variant)
    assert (family.horizon, family.action_space.n) == (pulls, arms)
    assert family.task_space.shape == (arms,)


def test_an_arm_has_reward_one_with_its_probability():
    probabilities = [0.0, 0.07, 0.5, 0.93, 1.0]
    for arm, p in enumerate(probabilities):
        rewards = play(Bandit("n100-k5"), [probabilities], always(arm), num_envs=400).rewards
        assert set(rewards.unique().tolist()) <= {0.0, 1.0}
        assert abs(float(rewards.mean()) - p) <= 5 * math.sqrt(p * (1 - p) / rewards.numel()) + 1e-9


def test_each_task_has_its_own_probabilities():
    rewards = play(Bandit("n10-k5"), [[1, 0, 1, 0, 0], [0, 1, 1, 0, 1]], always(0), 3).rewards
    assert rewards[0].eq(1).all()
    assert rewards[1].eq(0).all()


@pytest.mark.parametrize("variant", Bandit.variants)
def test_oracle_and_random_returns_equal_the_analytic_values(variant):
    # The largest of k uniform numbers is k / (k + 1) on average.
    family = Bandit(variant)
    pulls, arms = family.horizon, int(family.action_space.n)
    tasks = family.sample_tasks(1000, seed=0)
    require_mean(play(family, tasks).returns, pulls * arms / (arms + 1))
    require_mean(play(family, tasks, "random").returns, pulls / 2)


_PUBLISHED_RANDOM = {
    "n10-k5": 5.0,
    "n10-k10": 5.0,
    "n10-k50": 5.1,
    "n100-k5": 49.9,
    "n100-k10": 49.9,
    "n100-k50": 49.8,
    "n500-k5": 249.8,
    "n500-k10": 249.0,
    "n500-k50": 249.6,
}


@pytest.mark.parametrize("variant", Bandit.variants)
def test_random_actions_have_the_returns_of_duan_2016(variant):
    # Table 1 there: means of 1000 trials, one digit; the difference has twice the variance.
    family = Bandit(variant)
    returns = play(family, family.sample_tasks(1000, split="test", seed=1), "random").returns
    mean, error = mean_and_error(returns)
    assert abs(mean - _PUBLISHED_RANDOM[variant]) <= 4 * math.sqrt(2) * error + 0.05


@pytest.mark.parametrize(
    ("variant", "best"),
    [("independent", 200 / 3), ("uniform", 75), ("easy", 90), ("medium", 75), ("hard", 60)],
)
def test_two_arms_have_the_analytic_values(variant, best):
    # E max(p1, p2) is 2/3 for two uniform numbers and 3/4 for p and 1 − p.
    family = DependentBandit(variant)
    tasks = family.sample_tasks(1500, seed=0)
    assert family.horizon == 100
    require_mean(play(family, tasks).returns, best)
    require_mean(play(family, tasks, "random").returns, 50)


@pytest.mark.parametrize(
    ("variant", "task", "probabilities"),
    [
        ("easy", [0], (0.9, 0.1)),
        ("easy", [1], (0.1, 0.9)),
        ("medium", [0], (0.75, 0.25)),
        ("hard", [1], (0.4, 0.6)),
        ("uniform", [0.2], (0.2, 0.8)),
        ("independent", [0.3, 0.4], (0.3, 0.4)),
    ],
)
def test_both_arms_follow_from_the_task(variant, task, probabilities):
    family = DependentBandit(variant)
    for arm, p in enumerate(probabilities):
        rewards = play(family, [task], always(arm), num_envs=200).rewards
        assert abs(float(rewards.mean()) - p) <= 5 * math.sqrt(p * (1 - p) / rewards.numel())


def test_the_finite_variants_train_and_test_on_the_same_tasks():
    for variant, same in (("easy", True), ("hard", True), ("uniform", False)):
        family = DependentBandit(variant)
        assert family.shared_tasks == ("all" if same else "none")
        sampled = {split: family.sample_tasks(50, split=split, seed=3) for split in family.splits}
        assert not np.array_equal(sampled["train"], sampled["test"])  # in different orders
        if same:
            assert set(sampled["train"][:, 0]) == set(sampled["test"][:, 0]) == {0.0, 1.0}


def test_eleven_arms_have_the_rewards_of_the_source():
    env = ElevenArmBandit("wang16").make_batch(np.array([[0.0], [6.0], [9.0]]), num_envs=11)
    env.reset(generator())
    every_arm = torch.arange(11).expand(3, -1)
    expected = torch.full((3, 11), 1.1)
    expected[0, 0] = expected[1, 6] = expected[2, 9] = 5.0
    expected[:, 10] = torch.tensor([0.1, 0.7, 1.0])
    torch.testing.assert_close(env.step(every_arm).rewards, expected)
    best = env.oracle_actions()
    assert best is not None
    assert best[:, 0].tolist() == [0, 6, 9]


def test_one_pull_of_the_informative_arm_reveals_the_target():
    family = ElevenArmBandit("wang16")
    env = family.make_batch(np.arange(10.0)[:, None], num_envs=1)
    env.reset(generator())
    hint = env.step(torch.full((10, 1), 10)).rewards
    target = (10 * hint).round().to(torch.int64) - 1
    rest = sum(env.step(target).rewards for _ in range(4))
    torch.testing.assert_close(rest, torch.full((10, 1), 20.0))
    assert float((hint + rest).mean()) == pytest.approx(20.55, abs=1e-4)
    assert env.step(target).truncated.all()
    torch.testing.assert_close(play(family, np.arange(10.0)[:, None]).returns, rest + 5)


def test_random_pulls_of_eleven_arms_have_the_analytic_return():
    family = ElevenArmBandit("wang16")
    tasks = family.sample_tasks(4000, seed=0)
    require_mean(play(family, tasks, "random").returns, 5 * (5 + 9 * 1.1 + 0.55) / 11)


def test_the_oracle_beats_random_actions_in_every_task():
    family = Bandit("n100-k10")
    tasks = family.sample_tasks(40, seed=5)
    best = play(family, tasks, num_envs=100).returns.mean(1)
    random = play(family, tasks, "random", num_envs=100).returns.mean(1)
    assert (best > random).all()


def batch(num_tasks: int = 3, num_envs: int = 4) -> TensorBatch:
    family = Bandit("n10-k5")
    return family.make_batch(family.sample_tasks(num_tasks, seed=0), num_envs=num_envs)


def arms(steps: int, shape: tuple[int, int] = (3, 4), seed: int = 9) -> list[Tensor]:
    return [torch.randint(5, shape, generator=generator(seed + t)) for t in range(steps)]


def rewards_of(env: TensorBatch, actions: list[Tensor], seed: int = 0) -> Tensor:
    env.reset(generator(seed))
    return torch.stack([env.step(action).rewards for action in actions], -1)


def test_a_seed_gives_the_same_episode_and_another_seed_another():
    actions = arms(10)
    first, again, other = (rewards_of(batch(), actions, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_environments_have_independent_randomness():
    # 20 pulls of one fair arm in two environments or tasks: all equal with probability 2⁻²⁰.
    env = Bandit("n100-k5").make_batch(np.full((2, 5), 0.5), num_envs=2)
    rewards = rewards_of(env, [torch.zeros(2, 2, dtype=torch.int64)] * 20).reshape(4, 20)
    assert len({tuple(row.tolist()) for row in rewards}) == 4


def test_changing_one_task_leaves_the_others_bitwise_equal():
    env, actions = batch(), arms(10)
    before = rewards_of(env, actions)
    tasks = Bandit("n10-k5").sample_tasks(3, seed=0)
    tasks[1] = 1 - tasks[1]
    env.set_tasks(tasks)
    after = rewards_of(env, actions)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.equal(before[1], after[1])


def test_a_partial_reset_leaves_the_others_as_they_were():
    where = torch.zeros(3, 4, dtype=torch.bool)
    where[1, 2] = True
    runs = []
    for mask in (torch.zeros_like(where), where):
        env, rng = batch(), generator()
        env.reset(rng)
        steps = []
        for t, action in enumerate(arms(14)):
            if t == 4:
                env.reset(rng, mask)
            steps.append(env.step(action))
        runs.append(steps)
    for kept, reset in zip(*runs, strict=True):
        assert torch.equal(kept.rewards, reset.rewards)  # a bandit has no state except the time
        assert torch.equal(kept.truncated[~where], reset.truncated[~where])
    cut = [bool(step.truncated[1, 2]) for step in runs[1]]
    assert cut.index(True) == 13
    assert [bool(step.truncated[1, 2]) for step in runs[0]].index(True) == 9


def test_an_episode_is_cut_after_its_pulls_and_never_terminates():
    env = batch()
    env.reset(generator())
    ends = [env.step(action) for action in arms(12)]
    assert [bool(step.truncated.all()) for step in ends] == [False] * 9 + [True] * 3
    assert not any(step.terminated.any() for step in ends)
    assert not any(step.truncated.any() for step in ends[:9])


def test_nothing_is_observed():
    env = batch()
    assert torch.equal(env.reset(generator()), torch.zeros(3, 4, 1))
    assert torch.equal(env.step(arms(1)[0]).observations, torch.zeros(3, 4, 1))


@pytest.mark.parametrize("family_id", ["Bandit:n10-k5", "ElevenArmBandit:wang16"])
def test_arms_that_are_not_indices_are_rejected(family_id):
    family = make_family(family_id)
    env = family.make_batch(family.sample_tasks(3, seed=0), num_envs=4)
    env.reset(generator())
    with pytest.raises(TypeError, match=r"actions must be int64 indices, got torch\.float32"):
        env.step(torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"actions must have shape \(3, 4\)"):
        env.step(torch.zeros(3, 4, 1, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="out of bounds"):
        env.step(torch.full((3, 4), 11))


@pytest.mark.parametrize(
    ("family", "task"),
    [
        (Bandit("n10-k5"), [0.2, 1.1, 0.3, 0.4, 0.5]),
        (DependentBandit("easy"), [2.0]),
        (DependentBandit("uniform"), [-0.1]),
        (ElevenArmBandit("wang16"), [10.0]),
    ],
)
def test_tasks_outside_the_task_space_are_rejected(family, task):
    with pytest.raises(ValueError, match="tasks must lie in"):
        family.make_batch([task], num_envs=1)


def test_the_expected_reward_of_the_arm_is_returned_with_each_reward():
    family = make_family("Bandit:n10-k5")
    tasks = np.array([[0.1, 0.2, 0.3, 0.4, 0.5], [0.9, 0.8, 0.7, 0.6, 0.0]])
    env = family.make_batch(tasks, num_envs=3)
    env.reset(generator())
    step = env.step(torch.tensor([[0, 1, 4], [4, 3, 0]]))
    means = torch.tensor([[0.1, 0.2, 0.5], [0.0, 0.6, 0.9]])
    torch.testing.assert_close(step.expected_rewards, means)
