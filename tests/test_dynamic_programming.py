"""Backward induction by hand, against slow loops, and on fixed policies."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from metarl.dynamic_programming import optimal_plan


def random_mdp(*lead: int, states: int = 4, actions: int = 3, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    rewards = torch.randn(*lead, states, actions, generator=generator, dtype=torch.float64)
    weights = torch.rand(*lead, states, actions, states, generator=generator, dtype=torch.float64)
    return rewards, weights / weights.sum(-1, keepdim=True)


def slow_values(rewards: Tensor, transitions: Tensor, horizon: int) -> list[list[float]]:
    """V_t(s) of one process from the definition, number by number."""
    states, actions = rewards.shape
    values = [[0.0] * states]
    for _ in range(horizon):
        row = []
        for s in range(states):
            worth = []
            for a in range(actions):
                total = float(rewards[s, a])
                for to in range(states):
                    total += float(transitions[s, a, to]) * values[0][to]
                worth.append(total)
            row.append(max(worth))
        values.insert(0, row)
    return values


def test_values_and_actions_of_two_states_by_hand():
    # In state 0: stay for 1, or move to state 1 for −1. In state 1: stay for 3, or go back for 0.
    rewards = torch.tensor([[1.0, -1.0], [3.0, 0.0]])
    transitions = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    plan = optimal_plan(rewards, transitions, horizon=3)
    # one step: 1, 3; two: max(2, −1 + 3), 6; three: max(1 + 2, −1 + 6), 9
    assert plan.values.tolist() == [[5.0, 9.0], [2.0, 6.0], [1.0, 3.0], [0.0, 0.0]]
    assert plan.actions.tolist() == [[1, 0], [0, 0], [0, 0]]  # of equals the first


def test_chance_weighs_the_next_values():
    rewards = torch.tensor([[0.0, 0.1], [2.0, 2.0]])
    transitions = torch.tensor([[[0.75, 0.25], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]])
    plan = optimal_plan(rewards, transitions, horizon=2)
    torch.testing.assert_close(plan.values[0], torch.tensor([0.75 * 0.1 + 0.25 * 2.0, 4.0]))
    assert plan.actions[:, 0].tolist() == [0, 1]


def test_a_batch_agrees_with_a_slow_loop_over_each_process():
    rewards, transitions = random_mdp(2, 3)
    plan = optimal_plan(rewards, transitions, horizon=5)
    assert plan.values.shape == (2, 3, 6, 4)
    assert plan.actions.shape == (2, 3, 5, 4)
    for i, j in itertools.product(range(2), range(3)):
        expected = torch.tensor(slow_values(rewards[i, j], transitions[i, j], 5)).double()
        torch.testing.assert_close(plan.values[i, j], expected, atol=1e-6, rtol=0)


def test_no_deterministic_policy_is_better_and_one_is_as_good():
    rewards, transitions = random_mdp(states=2, actions=2, seed=1)
    best = torch.full((2,), -math.inf, dtype=torch.float64)
    for choice in itertools.product(range(2), repeat=6):  # an action for each of 3 times, 2 states
        values = torch.zeros(2, dtype=torch.float64)
        for t in reversed(range(3)):
            chosen = list(choice[2 * t : 2 * t + 2])
            values = rewards[[0, 1], chosen] + transitions[[0, 1], chosen] @ values
        best = torch.maximum(best, values)
    plan = optimal_plan(rewards, transitions, horizon=3)
    torch.testing.assert_close(plan.values[0], best)


def test_following_the_actions_earns_the_values():
    rewards, transitions = random_mdp(seed=2)
    plan = optimal_plan(rewards, transitions, horizon=6)
    everywhere = torch.arange(4)
    for t in range(6):
        chosen = plan.actions[t]
        earned = rewards[everywhere, chosen] + transitions[everywhere, chosen] @ plan.values[t + 1]
        torch.testing.assert_close(plan.values[t], earned)


def test_changing_one_process_leaves_the_others_bit_equal():
    rewards, transitions = random_mdp(3)
    changed = rewards.clone()
    changed[1] += 1
    before, after = (optimal_plan(r, transitions, 4).values for r in (rewards, changed))
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    torch.testing.assert_close(after[1, 0], before[1, 0] + 4)


def test_shapes_that_do_not_fit_are_refused():
    rewards, transitions = random_mdp()
    with pytest.raises(ValueError, match=r"got \(4, 3, 3\) over \(4, 3\)"):
        optimal_plan(rewards, transitions[..., :3], 2)
    with pytest.raises(ValueError, match=r"over rewards \[..., states, actions\], got"):
        optimal_plan(rewards[0], transitions[0], 2)
    with pytest.raises(ValueError, match="horizon must be 1 or more, got 0"):
        optimal_plan(rewards, transitions, 0)
