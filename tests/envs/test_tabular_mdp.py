"""Random tabular MDPs: frequencies against the task's probabilities, oracle values, bad tasks."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.envs.simulators.tensor import TensorBatch
from metarl.envs.tabular_mdp import TabularMDP
from metarl.planning.dynamic_programming import optimal_plan
from metarl.rollouts.actors import random_actor
from metarl.rollouts.episodes import Episodes, collect
from metarl.soundness.check import require_sound
from metarl.tasks.registry import FAMILIES

FAMILY = TabularMDP("rl2")
Rows = NDArray[np.float64]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(tasks: Rows) -> tuple[Tensor, Tensor]:
    """Mean rewards [N, S, A] and transition probabilities [N, S, A, S], from the description."""
    rows = torch.from_numpy(tasks)
    return rows[:, :50].reshape(-1, 10, 5), rows[:, 50:].reshape(-1, 10, 5, 10)


def row(rewards: Tensor, transitions: Tensor) -> Rows:
    """The task of one process, [1, 550]."""
    return torch.cat([rewards.flatten(), transitions.flatten()]).double().numpy()[None]


def play(tasks: Rows, actor: str, num_envs: int = 1, seed: int = 0) -> Episodes:
    """One episode of each environment under the oracle or uniform random actions."""
    env = FAMILY.make_batch(tasks, num_envs=num_envs)
    if actor == "random":
        return collect(env, random_actor(env, generator(seed + 1)), generator(seed))
    return collect(env, lambda _: env.oracle_actions(), generator(seed))


def states_of(episodes: Episodes) -> Tensor:
    """[N, E, T + 1]"""
    return episodes.observations.argmax(-1)


def walk() -> Rows:
    """State s leads to s + 1 by action 0; other actions stay.

    Staying by action 1 has reward 1 in state 0 and 2.1 in state 2.
    """
    transitions = torch.zeros(10, 5, 10)
    for s in range(10):
        transitions[s, 0, min(s + 1, 9)] = 1
        transitions[s, 1:, s] = 1
    rewards = torch.zeros(10, 5)
    rewards[0, 1], rewards[2, 1] = 1.0, 2.1
    return row(rewards, transitions)


def test_the_catalog_lists_the_variants():
    assert FAMILIES.get("TabularMDP").variants == TabularMDP.variants
    with pytest.raises(ValueError, match="variant of TabularMDP must be one of rl2, got 'rl3'"):
        TabularMDP("rl3")


def test_the_family_is_sound():
    require_sound(FAMILY)


def test_tasks_follow_the_distribution_of_the_source():
    rewards, transitions = numbers(FAMILY.sample_tasks(400, seed=0))
    count = rewards.numel()
    assert abs(float(rewards.mean()) - 1) <= 5 / math.sqrt(count)
    assert abs(float(rewards.var()) - 1) <= 5 * math.sqrt(2 / count)
    torch.testing.assert_close(transitions.sum(-1), torch.ones(400, 10, 5).double())
    # A coordinate of a flat Dirichlet of 10 is Beta(1, 9): mean 1/10, variance 9/1100.
    per_state = transitions.reshape(-1, 10)
    error = math.sqrt(9 / 1100 / len(per_state))
    assert ((per_state.mean(0) - 0.1).abs() <= 5 * error).all()
    torch.testing.assert_close(
        per_state.var(0), torch.full((10,), 9 / 1100).double(), rtol=0.1, atol=0
    )


def test_sampled_tasks_are_valid_after_rounding_to_float32():
    tasks = FAMILY.sample_tasks(2000, split="test", seed=1)
    assert np.array_equal(FAMILY.check_tasks(tasks), tasks)
    FAMILY.check_tasks(tasks.astype(np.float32))


def test_rewards_have_the_mean_of_their_state_and_action_and_variance_one():
    tasks = FAMILY.sample_tasks(2, seed=0)
    got = play(tasks, "random", num_envs=4000)
    means, _ = numbers(tasks)
    states, actions = states_of(got)[..., :-1], got.actions
    for n in range(2):
        noise = got.rewards[n] - means[n, states[n], actions[n]]
        assert abs(float(noise.var()) - 1) <= 5 * math.sqrt(2 / noise.numel())
        for s in range(10):
            for a in range(5):
                mine = noise[(states[n] == s) & (actions[n] == a)]
                assert len(mine) > 100
                assert abs(float(mine.mean())) <= 5 / math.sqrt(len(mine))


def test_transitions_have_the_frequencies_of_the_task():
    tasks = FAMILY.sample_tasks(2, seed=3)
    got = play(tasks, "random", num_envs=6000)
    _, probabilities = numbers(tasks)
    states = states_of(got)
    for n in range(2):
        from_pair = states[n, :, :-1] * 5 + got.actions[n]
        cells = (from_pair * 10 + states[n, :, 1:]).flatten()
        counts = torch.bincount(cells, minlength=500).reshape(50, 10).double()
        p = probabilities[n].reshape(50, 10)
        expected = counts.sum(1, keepdim=True) * p
        z = (counts - expected) / (expected * (1 - p)).sqrt()
        enough = expected >= 5
        assert enough.sum() > 400
        assert (z[enough].abs() < 5).all()
        # Pearson's statistic a degree of freedom; its standard deviation is √(2 / 450).
        assert abs(float(z[enough].square().mean()) - 1) <= 5 * math.sqrt(2 / 450)


def test_states_of_probability_zero_are_never_entered():
    # In float32 the sums of these thirds, fifths and sevenths miss 1 by a rounding error.
    for count in (3, 5, 7):
        transitions = torch.zeros(10, 5, 10, dtype=torch.float64)
        transitions[..., 1 : 1 + count] = 1 / count
        task = row(torch.zeros(10, 5).double(), transitions)
        cumulative = FAMILY.prepare(torch.from_numpy(task).float()).cumulative
        assert (cumulative[:, 0] == 0).all()
        assert (cumulative[:, count:] == 1).all()
        assert set(states_of(play(task, "random", num_envs=300))[..., 1:].unique().tolist()) == set(
            range(1, 1 + count)
        )


def test_the_state_is_observed_one_hot_and_episodes_start_in_state_zero():
    env = FAMILY.make_batch(walk(), num_envs=2)
    assert env.reset(generator()).tolist() == [[[1.0] + [0.0] * 9] * 2]
    step = env.step(torch.tensor([[0, 3]]))
    assert step.observations.argmax(-1).tolist() == [[1, 0]]
    assert step.observations.sum(-1).tolist() == [[1.0, 1.0]]


def test_the_oracle_walks_to_the_higher_reward_while_time_allows():
    # With h steps to go, staying is worth h and walking 2.1 (h − 2), which is more from 4 on.
    env = FAMILY.make_batch(walk(), num_envs=1)
    env.reset(generator())
    chosen = []
    for _ in range(12):
        best = env.oracle_actions()
        assert best is not None
        chosen.append(int(best))
        env.step(torch.tensor([[1]]))
    assert chosen == [0] * 7 + [1] * 3 + [1] * 2  # after the horizon as in its last step
    got = play(walk(), "oracle", num_envs=500)
    assert got.actions[0, 0].tolist() == [0, 0] + [1] * 8
    assert abs(float(got.returns.mean()) - 8 * 2.1) <= 5 * math.sqrt(10 / 500)


def exact_returns(tasks: Rows) -> tuple[Tensor, Tensor]:
    """Expected returns from state 0 of the best and of the uniform random policy, [N] each."""
    rewards, transitions = numbers(tasks)
    best = optimal_plan(rewards, transitions, 10).values[:, 0, 0]
    mean_rewards, mean_transitions = rewards.mean(-1, True), transitions.mean(-2, True)
    return best, optimal_plan(mean_rewards, mean_transitions, 10).values[:, 0, 0]


def test_returns_of_oracle_and_random_actions_equal_the_exact_values():
    tasks = FAMILY.sample_tasks(30, seed=0)
    best, random = exact_returns(tasks)
    assert (best > random + 3).all()
    for actor, expected in (("oracle", best), ("random", random)):
        returns = play(tasks, actor, num_envs=600).returns.double()
        z = (returns.mean(1) - expected) / (returns.std(1) / math.sqrt(600))
        assert (z.abs() < 5).all()
        assert abs(float(z.mean())) < 5 / math.sqrt(30)


@pytest.mark.parametrize(
    ("episodes", "published"), [(10, 100.1), (25, 250.2), (50, 499.7), (75, 749.9), (100, 999.4)]
)
def test_random_actions_have_the_returns_of_duan_2016(episodes, published):
    # Table 2 there: totals over trials, means of 1000 of them; the difference has twice the
    # variance.
    tasks = FAMILY.sample_tasks(1000, split="test", seed=episodes)
    totals = play(tasks, "random", num_envs=episodes).returns.double().sum(1)
    error = float(totals.std()) / math.sqrt(1000)
    assert abs(float(totals.mean()) - published) <= 4 * math.sqrt(2) * error + 0.05
    _, exact = exact_returns(tasks)
    assert abs(float(totals.mean() - episodes * exact.mean())) <= 5 * math.sqrt(
        episodes * 20 / 1000
    )


def batch(num_envs: int = 4) -> TensorBatch:
    return FAMILY.make_batch(FAMILY.sample_tasks(3, seed=0), num_envs=num_envs)


def actions(steps: int, seed: int = 9) -> list[Tensor]:
    return [torch.randint(5, (3, 4), generator=generator(seed + t)) for t in range(steps)]


def run(env: TensorBatch, steps: int = 10, seed: int = 0) -> Tensor:
    """Rewards and observations, [steps, 3, 4, 11]."""
    env.reset(generator(seed))
    taken = [env.step(action) for action in actions(steps)]
    return torch.stack([torch.cat([s.rewards.unsqueeze(-1), s.observations], -1) for s in taken])


def test_a_seed_gives_the_same_episode_and_another_seed_another():
    first, again, other = (run(batch(), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_environments_of_one_task_have_independent_randomness():
    env = FAMILY.make_batch(np.repeat(FAMILY.sample_tasks(1, seed=0), 2, axis=0), num_envs=5)
    env.reset(generator())
    rewards = env.step(torch.zeros(2, 5, dtype=torch.int64)).rewards
    assert len(rewards.unique()) == 10


def test_changing_one_task_leaves_the_others_bitwise_equal():
    env = batch()
    before = run(env)
    tasks = FAMILY.sample_tasks(3, seed=0)
    tasks[1] = FAMILY.sample_tasks(1, seed=7)[0]
    env.set_tasks(tasks)
    after = run(env)
    assert torch.equal(before[:, [0, 2]], after[:, [0, 2]])
    assert not torch.equal(before[:, 1, :, 1:], after[:, 1, :, 1:])


def test_a_partial_reset_leaves_the_others_bitwise_equal():
    where = torch.zeros(3, 4, dtype=torch.bool)
    where[1, 2] = where[0, 3] = True
    runs = []
    for mask in (torch.zeros_like(where), where):
        env, rng = batch(), generator()
        env.reset(rng)
        steps = []
        for t, action in enumerate(actions(14)):
            if t == 4:
                observed = env.reset(rng, mask)
            steps.append(env.step(action))
        runs.append(steps)
    assert observed[where].argmax(-1).tolist() == [0, 0]
    for kept, reset in zip(*runs, strict=True):
        for name in ("observations", "rewards", "truncated"):
            assert torch.equal(getattr(kept, name)[~where], getattr(reset, name)[~where])
    assert [step.truncated[where].tolist() for step in runs[1]].index([True, True]) == 13


def test_an_episode_is_cut_after_ten_steps_and_never_terminates():
    env = batch()
    env.reset(generator())
    steps = [env.step(action) for action in actions(12)]
    assert [step.truncated.unique().tolist() for step in steps] == [[False]] * 9 + [[True]] * 3
    assert not any(step.terminated.any() for step in steps)


def test_actions_that_are_not_indices_are_rejected():
    env = batch()
    env.reset(generator())
    with pytest.raises(TypeError, match=r"actions must be int64 indices, got torch\.float32"):
        env.step(torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"actions must have shape \(3, 4\)"):
        env.step(torch.zeros(3, 4, 5, dtype=torch.int64))


def test_rows_that_are_not_distributions_are_rejected():
    tasks = FAMILY.sample_tasks(3, seed=0)
    tasks[1, 50 + (4 * 5 + 2) * 10 + 7] += 0.25 - tasks[1, 50 + (4 * 5 + 2) * 10 + 7]
    total = tasks[1, 50 + 22 * 10 : 50 + 23 * 10].sum()
    sentence = f"sum to 1, got {total:g} in task 1, state 4, action 2"
    for use in (FAMILY.check_tasks, lambda rows: FAMILY.make_batch(rows, num_envs=1)):
        with pytest.raises(ValueError, match=sentence):
            use(tasks)


def test_numbers_outside_the_task_space_are_rejected():
    for place, number in ((0, 9.5), (49, -7.5), (50, -0.1), (549, 1.5)):
        tasks = FAMILY.sample_tasks(2, seed=0)
        tasks[1, place] = number
        message = rf"task space: number {place} of task 1 must be in \[.*, got {number}"
        with pytest.raises(ValueError, match=message):  # not all 550 numbers
            FAMILY.check_tasks(tasks)
