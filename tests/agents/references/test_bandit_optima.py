"""Bayes-optimal bandit agents: their returns equal their value and the regrets of Wang et al."""

import pytest
import torch
from reference_trials import arms_after, generator, mean_and_error, play

from metarl.agents.references.bandit_optima import (
    IndependentOptimum,
    InformativeArmOptimum,
    MirroredOptimum,
    bayes_optimal,
)
from metarl.agents.references.bandits import UCB1, Greedy, ThompsonSampling
from metarl.envs import make_family
from metarl.rollouts.trials import collect_trials


@pytest.mark.parametrize(("variant", "value"), [("n10-k5", 6.660), ("n10-k10", 6.714)])
def test_ten_pulls_have_the_exact_optimal_return(variant, value):
    family = make_family(f"Bandit:{variant}")
    agent = IndependentOptimum(family)
    assert agent.value == pytest.approx(value, abs=5e-4)
    mean, error = mean_and_error(play(agent, family, 5000).rewards.sum(-1))
    assert abs(mean - value) <= 3 * error


def test_the_optimum_has_a_higher_return_than_every_rule_on_the_same_tasks():
    family = make_family("Bandit:n10-k5")
    best = play(IndependentOptimum(family), family, 20_000).rewards.sum(-1)
    for rule in (Greedy, ThompsonSampling):
        gap, error = mean_and_error(best - play(rule(family), family, 20_000).rewards.sum(-1))
        assert gap > 2 * error


def test_mirrored_arms_are_judged_by_both():
    agent = MirroredOptimum(make_family("DependentBandit:uniform"))
    assert arms_after(agent, [(0, 1.0)]).tolist() == [0]
    assert arms_after(agent, [(0, 0.0)]).tolist() == [1]
    # a failure of arm 1 is the same evidence as a success of arm 0
    assert arms_after(agent, [(0, 1.0), (1, 1.0), (1, 1.0)]).tolist() == [1]
    assert arms_after(agent, [(0, 0.0), (1, 0.0), (1, 0.0)]).tolist() == [0]


def test_mirrored_arms_with_equal_evidence_are_pulled_equally_often():
    agent = MirroredOptimum(make_family("DependentBandit:easy"))
    arms = arms_after(agent, [(0, 1.0), (1, 1.0)], copies=4000)
    assert abs(float(arms.float().mean()) - 0.5) < 0.04


def regret(agent, family, num_tasks: int) -> tuple[float, float]:
    """Expected regret of 100 pulls, without the noise of the rewards, and its standard error."""
    tasks = torch.from_numpy(family.sample_tasks(num_tasks, split="test", seed=4))
    chances = family.prepare(tasks)
    arms = play(agent, family, num_tasks, seed=4).actions[:, 0]
    return mean_and_error((chances.amax(-1, keepdim=True) - chances.gather(-1, arms)).sum(-1))


# (Bayes optimum, Thompson sampling, UCB1, posterior mean), computed.
WANG = {
    "independent": (1.75, 2.78, 5.58, 2.70),
    "uniform": (1.22, 2.79, 5.99, 2.12),
    "easy": (0.63, 2.13, 6.29, 0.64),
    "medium": (1.00, 3.01, 7.03, 1.89),
    "hard": (2.31, 4.08, 5.99, 4.74),
}


@pytest.mark.parametrize("column", range(4))
@pytest.mark.parametrize("variant", WANG)
def test_regrets_of_two_arms_equal_the_computed_ones(variant, column):
    family = make_family(f"DependentBandit:{variant}")
    agent = (
        lambda: bayes_optimal(family),
        lambda: ThompsonSampling(family),
        lambda: UCB1(family, c=1.0, prior_count=0),
        lambda: Greedy(family, random_ties=True),
    )[column]()
    mean, error = regret(agent, family, 3000)
    assert abs(mean - WANG[variant][column]) <= 3 * error + 0.03


def test_the_optimum_of_two_independent_arms_has_the_regret_exactly():
    # the better of two uniform probabilities is 2/3 on average
    value = IndependentOptimum(make_family("DependentBandit:independent")).value
    assert 200 / 3 - value == pytest.approx(1.748, abs=5e-4)


def test_eleven_arms_are_solved_with_one_informative_pull():
    family = make_family("ElevenArmBandit:wang16")
    tasks = torch.arange(10, dtype=torch.float64).unsqueeze(-1).numpy()
    env = family.make_batch(tasks, num_envs=2)
    trials = collect_trials(
        env, bayes_optimal(family).play(10, 2, generator()), generator(), num_episodes=2
    )
    first, second = trials.episode_returns.mean((0, 1)).tolist()
    assert first == pytest.approx(InformativeArmOptimum.value)
    assert second == pytest.approx(25)
    assert trials.actions[3, 1].tolist() == [10] + [3] * 9


def test_each_kind_of_bandit_gets_its_optimum():
    assert isinstance(bayes_optimal(make_family("DependentBandit:hard")), MirroredOptimum)
    assert isinstance(bayes_optimal(make_family("Bandit:n10-k50")), IndependentOptimum)
    with pytest.raises(ValueError, match="num_arms 5 and horizon 100; use a Gittins index"):
        bayes_optimal(make_family("Bandit:n100-k5"))
    with pytest.raises(ValueError, match="the Bayes optimum needs a Bernoulli bandit"):
        bayes_optimal(make_family("GridNavigation:varibad"))
    with pytest.raises(
        ValueError, match="the informed optimum needs a bandit with an informative arm, got Bandit"
    ):
        InformativeArmOptimum(make_family("Bandit:n10-k5"))
