"""Algorithms for tabular processes: beliefs, plans by hand, and the table of Duan et al. 2016."""

import math

import pytest
import torch
from reference_trials import generator, mean_and_error, play
from torch import Tensor

from metarl.agents.references.mdps import (
    BEB,
    FLAT_PRIOR,
    PSRL,
    TRUE_PRIOR,
    UCRL2,
    EpsilonGreedyPlanning,
    GreedyPlanning,
    MDPBaseline,
    OptimisticPSRL,
    informed_beb,
    informed_greedy,
)
from metarl.envs import make_family
from metarl.planning.dynamic_programming import action_values
from metarl.planning.posteriors import MDPPosterior, MDPPrior
from metarl.rollouts.trials import ActorInput

MDP = make_family("TabularMDP:rl2")


class Recorder(MDPBaseline):
    """Records the beliefs that it plans from; in episode i it takes action i."""

    title = "recorder"

    def __init__(self) -> None:
        super().__init__(MDP, MDPPrior())
        self.beliefs: list[MDPPosterior] = []
        self.episodes: list[Tensor] = []

    def plan(self, belief, episode, generator):
        del generator
        self.beliefs.append(belief)
        self.episodes.append(episode)
        likes = torch.nn.functional.one_hot(episode % 5, 5).float()
        return likes[..., None, None, :].expand(*episode.shape, 10, 10, 5)


def certain(belief: MDPPosterior, reward: float, state: int, action: int) -> MDPPosterior:
    """A belief that is certain of one pair's mean reward, and of 0 elsewhere."""
    means = torch.zeros_like(belief.reward_means)
    means[..., state, action] = reward
    return belief._replace(reward_means=means, reward_precisions=torch.full_like(means, 1e12))


def prior_belief(reference: MDPBaseline, copies: int = 1) -> MDPPosterior:
    return reference.prior.posterior((1, copies), 10, 5, "cpu")


def first_episode(copies: int = 1) -> Tensor:
    return torch.zeros(1, copies, dtype=torch.int64)


def test_beliefs_count_the_transitions_of_a_trial():
    recorder = Recorder()
    trials = play(recorder, MDP, 6, num_episodes=3)
    assert [int(e[0, 0]) for e in recorder.episodes] == [0, 1, 2]
    last = recorder.beliefs[-1]
    states = trials.observations[:, 0, :20].argmax(-1)
    actions, rewards = trials.actions[:, 0, :20], trials.rewards[:, 0, :20]
    for task in range(6):
        for s in range(10):
            for a in range(5):
                here = (states[task] == s) & (actions[task] == a)
                n = int(here.sum())
                mean = (1 + float(rewards[task, here].sum())) / (1 + n)
                assert float(last.reward_precisions[task, 0, s, a]) == 1 + n
                assert float(last.reward_means[task, 0, s, a]) == pytest.approx(mean, abs=1e-5)
    # nine of ten steps lead to an observed state
    assert (last.concentrations.sum((1, 2, 3, 4)) == 500 + 2 * 9).all()
    arrivals = last.concentrations[:, 0] - 1
    for task in range(6):
        for t in (0, 8, 10):
            assert arrivals[task, states[task, t], actions[task, t], states[task, t + 1]] >= 1


def test_a_plan_is_computed_once_per_episode_and_followed():
    recorder = Recorder()
    trials = play(recorder, MDP, 2, num_episodes=4)
    assert len(recorder.beliefs) == 4
    assert trials.actions[0, 0].view(4, 10).unique(dim=1).flatten().tolist() == [0, 1, 2, 3]


def test_environments_whose_episodes_end_at_different_times_have_separate_plans():
    recorder = Recorder()
    player = recorder.play(1, 2, generator())
    nothing, never = torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.bool)
    state = torch.nn.functional.one_hot(torch.zeros(1, 2, dtype=torch.int64), 10).float()
    actions = player.act(ActorInput(state, None, nothing, never, never))
    assert actions.tolist() == [[0, 0]]
    actions = player.act(ActorInput(state, actions, nothing, torch.tensor([[True, False]]), never))
    assert actions.tolist() == [[1, 0]]
    assert recorder.episodes[-1].tolist() == [[1, 0]]
    actions = player.act(ActorInput(state, actions, nothing, torch.tensor([[False, True]]), never))
    assert actions.tolist() == [[1, 1]]


def test_the_time_within_an_episode_chooses_the_row_of_the_plan():
    class Clock(Recorder):
        def plan(self, belief, episode, generator):
            del belief, generator
            likes = torch.nn.functional.one_hot(torch.arange(10) % 5, 5).float()
            return likes[:, None, :].expand(*episode.shape, 10, 10, 5)

    trials = play(Clock(), MDP, 2, num_episodes=2)
    assert trials.actions[0, 0].tolist() == [0, 1, 2, 3, 4] * 4


def test_psrl_plans_for_a_certain_belief():
    reference = PSRL(MDP)
    belief = certain(prior_belief(reference), 2.0, state=3, action=4)
    values = reference.plan(belief, first_episode(), generator())
    torch.testing.assert_close(values[0, 0, -1], belief.reward_means[0, 0], atol=1e-4, rtol=0)
    assert values[0, 0, 0, 3].argmax() == 4


def test_psrl_samples_spread_as_the_belief_does():
    reference = PSRL(MDP, prior=MDPPrior(reward_mean=3.0, reward_precision=4.0))
    belief = prior_belief(reference, copies=2000)
    last = reference.plan(belief, first_episode(2000), generator())[..., -1, :, :]
    assert float(last.mean()) == pytest.approx(3, abs=0.01)
    assert float(last.std()) == pytest.approx(0.5, abs=0.01)


def test_more_samples_are_more_optimistic():
    one, many = OptimisticPSRL(MDP, num_samples=1), OptimisticPSRL(MDP, num_samples=5)
    belief = prior_belief(one, copies=500)
    single, best = (r.plan(belief, first_episode(500), generator()) for r in (one, many))
    torch.testing.assert_close(single, PSRL(MDP).plan(belief, first_episode(500), generator()))
    assert (best >= single).all()
    # the highest of five draws from N(0, 1) is 1.163 on average
    assert float(best[..., -1, :, :].mean()) == pytest.approx(1.163, abs=0.02)


def test_ucrl2_widens_the_rewards_by_the_formula():
    reference = UCRL2(MDP, scaling=0.5)
    belief = prior_belief(reference)
    belief.reward_precisions[0, 0, 2, 1] += 9  # seen nine times
    last = reference.plan(belief, first_episode(), generator())[0, 0, -1]
    level = math.log(2 * 10 * 5 * 2 / 0.05)
    assert float(last[0, 0]) == pytest.approx(0.5 * math.sqrt(4 * level), rel=1e-5)
    assert float(last[2, 1]) == pytest.approx(0.5 * math.sqrt(4 * level / 9), rel=1e-3)


def test_ucrl2_is_optimistic_about_transitions_by_the_formula():
    reference = UCRL2(MDP, scaling=0.01)
    belief = certain(prior_belief(reference), 1000.0, state=7, action=0)
    belief.concentrations[..., 0] += 400  # from everywhere to state 0, seen 400 times
    values = reference.plan(belief, first_episode(), generator())[0, 0]
    slack = 0.01 * math.sqrt(4 * 10 * math.log(2 * 10 * 5 * 2 / 0.05) / 400)
    # two steps before the end: half the slack leads to state 7
    assert float(values[-2, 1, 3]) == pytest.approx(slack / 2 * 1000, rel=0.01)


def test_beb_adds_the_bonus_of_the_formula():
    reference = BEB(MDP, scaling=0.01)
    values = reference.plan(prior_belief(reference), first_episode(), generator())[0, 0]
    # τ = 1, Σ α = 10, T = 10: 1 / 2 at the last step, 2 · .01 · 1000 / 11 more at the step before
    assert float(values[-1, 0, 0]) == pytest.approx(0.5)
    assert float(values[-2, 0, 0]) == pytest.approx(0.5 + 0.5 + 20 / 11)
    assert float(values[-3, 0, 0]) == pytest.approx(1.5 + 3 * 20 / 11)


def test_greedy_planning_follows_the_data_alone():
    reference = GreedyPlanning(MDP)
    belief = prior_belief(reference)
    assert reference.prior == FLAT_PRIOR
    values = reference.plan(belief, first_episode(), generator())
    assert not values.any()
    expected = action_values(torch.ones(10, 5), torch.full((10, 5, 10), 0.1), 10)
    informed = informed_greedy(MDP)
    values = informed.plan(prior_belief(informed), first_episode(), generator())
    torch.testing.assert_close(values[0, 0], expected)


def test_epsilon_greedy_planning_explores_with_probability_epsilon():
    # greedy planning repeats the first rewarded action; here all rewards are equal at first
    plain = play(EpsilonGreedyPlanning(MDP, epsilon=1.0), MDP, 200).actions
    counts = plain.flatten().bincount(minlength=5)
    assert (counts - 400).abs().max() < 90  # 5 standard deviations
    assert EpsilonGreedyPlanning(MDP).epsilon == 0.1
    assert GreedyPlanning(MDP).epsilon == 0


# Table 2 of Duan et al. 2016: means of 1000 trials, by their number of episodes. The source tuned
# M and w for each number (its grid of w: …, 1, 1.6, 2.5, … · 10⁻³).
PLANNERS = {
    "psrl": PSRL,
    "optimistic-psrl": OptimisticPSRL,
    "ucrl2": UCRL2,
    "beb": BEB,
    "epsilon-greedy": EpsilonGreedyPlanning,
    "greedy": GreedyPlanning,
}
PUBLISHED = {
    10: (138.1, 144.1, 146.6, 150.2, 132.8, 134.8),
    25: (408.8, 425.2, 424.1, 427.8, 377.3, 368.8),
    50: (904.4, 930.7, 918.9, 917.8, 823.3, 769.3),
    75: (1417.1, 1449.2, 1427.6, 1422.6, 1293.9, 1172.9),
    100: (1939.5, 1973.9, 1942.1, 1935.1, 1778.2, 1578.5),
}
TUNED = {
    (10, "optimistic-psrl"): {"num_samples": 16},
    (10, "beb"): {"scaling": 3e-3},
    (25, "beb"): {"scaling": 1.6e-3},
}
TABLE = [
    (num_episodes, name, published)
    for num_episodes, row in PUBLISHED.items()
    for name, published in zip(PLANNERS, row, strict=True)
]


def require_published(num_episodes: int, name: str, published: float, num_tasks: int) -> None:
    reference = PLANNERS[name](MDP, **TUNED.get((num_episodes, name), {}))
    trials = play(reference, MDP, num_tasks, num_episodes=num_episodes)
    mean, error = mean_and_error(trials.rewards.sum(-1))
    theirs = error * math.sqrt(num_tasks / 1000)
    assert abs(mean - published) <= 3 * math.hypot(error, theirs), f"{mean} ± {error}"


@pytest.mark.parametrize(
    ("num_episodes", "name", "published"), [row for row in TABLE if row[0] <= 25]
)
def test_few_episodes_have_the_published_returns(num_episodes, name, published):
    require_published(num_episodes, name, published, 150 if name == "optimistic-psrl" else 600)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_episodes", "name", "published"), [row for row in TABLE if row[0] > 25]
)
def test_many_episodes_have_the_published_returns(num_episodes, name, published):
    require_published(num_episodes, name, published, 200)


def test_the_true_prior_helps_algorithms_that_plan_by_the_mean():
    num_tasks = 500
    returns = {
        name: play(reference, MDP, num_tasks, num_episodes=10).rewards.sum(-1)
        for name, reference in {
            "greedy": GreedyPlanning(MDP),
            "informed-greedy": informed_greedy(MDP),
            "informed-beb": informed_beb(MDP),
        }.items()
    }
    gain, error = mean_and_error(returns["informed-greedy"] - returns["greedy"])
    assert gain > 10 + 3 * error
    assert informed_beb(MDP).prior == TRUE_PRIOR
    gain, error = mean_and_error(returns["informed-beb"] - returns["informed-greedy"])
    assert gain > 3 * error


def test_other_families_than_tabular_mdps_are_rejected():
    for family_id in ("Bandit:n10-k5", "GridNavigation:varibad", "Navigation2D:maml17"):
        with pytest.raises(ValueError, match=f"UCRL2 needs a tabular .*, .*{family_id}"):
            UCRL2(make_family(family_id))


def test_parameters_out_of_range_are_rejected():
    with pytest.raises(ValueError, match="num_samples must be 1 or more, got 0"):
        OptimisticPSRL(MDP, num_samples=0)
    with pytest.raises(ValueError, match=r"scaling must lie in \[0, ∞\), got -1"):
        UCRL2(MDP, scaling=-1.0)
    with pytest.raises(ValueError, match=r"failure_probability must lie in \(0, 1\), got 1"):
        UCRL2(MDP, failure_probability=1.0)
    with pytest.raises(ValueError, match=r"scaling must lie in \[0, ∞\), got -1"):
        BEB(MDP, scaling=-1.0)
    with pytest.raises(ValueError, match=r"epsilon must lie in \[0, 1\], got 2"):
        EpsilonGreedyPlanning(MDP, epsilon=2.0)
