"""Backward induction by hand, against slow loops, and on fixed policies.

Planning with and without optimism: by hand, against linear programs and slow loops.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.planning.dynamic_programming import (
    action_values,
    bonus_action_values,
    extended_action_values,
    optimal_plan,
)


def random_mdp(
    *batch_shape: int, states: int = 4, actions: int = 3, seed: int = 0
) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    rewards = torch.randn(*batch_shape, states, actions, generator=generator, dtype=torch.float64)
    weights = torch.rand(
        *batch_shape, states, actions, states, generator=generator, dtype=torch.float64
    )
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


def test_next_values_are_weighted_by_their_probabilities():
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


def test_the_return_of_the_optimal_actions_is_the_value():
    rewards, transitions = random_mdp(seed=2)
    plan = optimal_plan(rewards, transitions, horizon=6)
    everywhere = torch.arange(4)
    for t in range(6):
        chosen = plan.actions[t]
        earned = rewards[everywhere, chosen] + transitions[everywhere, chosen] @ plan.values[t + 1]
        torch.testing.assert_close(plan.values[t], earned)


def test_changing_one_process_leaves_the_others_bitwise_equal():
    rewards, transitions = random_mdp(3)
    changed = rewards.clone()
    changed[1] += 1
    before, after = (optimal_plan(r, transitions, 4).values for r in (rewards, changed))
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    torch.testing.assert_close(after[1, 0], before[1, 0] + 4)


def test_shapes_that_do_not_fit_are_rejected():
    rewards, transitions = random_mdp()
    with pytest.raises(ValueError, match=r"got \(4, 3, 3\) over \(4, 3\)"):
        optimal_plan(rewards, transitions[..., :3], 2)
    with pytest.raises(ValueError, match=r"over rewards \[..., states, actions\], got"):
        optimal_plan(rewards[0], transitions[0], 2)
    with pytest.raises(ValueError, match="horizon must be 1 or more, got 0"):
        optimal_plan(rewards, transitions, 0)


def random_mdp_optimistic_planning(*batch_shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    rewards = torch.randn(*batch_shape, 4, 3, generator=rng, dtype=torch.float64)
    weights = torch.rand(*batch_shape, 4, 3, 4, generator=rng, dtype=torch.float64)
    return rewards, weights / weights.sum(-1, keepdim=True)


def best_in_ball(probabilities: list[float], values: list[float], slack: float) -> float:
    """max q · v over distributions with ‖q − p‖₁ ≤ slack, on a fine grid of three outcomes."""
    steps = 200
    best = -np.inf
    for i, j in itertools.product(range(steps + 1), repeat=2):
        if i + j <= steps:
            q = np.array([i, j, steps - i - j]) / steps
            if np.abs(q - probabilities).sum() <= slack + 1e-9:
                best = max(best, float(q @ values))
    return best


def test_values_of_actions_agree_with_the_plan():
    rewards, transitions = random_mdp_optimistic_planning(2, 3)
    values = action_values(rewards, transitions, 5)
    plan = optimal_plan(rewards, transitions, 5)
    assert values.shape == (2, 3, 5, 4, 3)
    torch.testing.assert_close(values.amax(-1), plan.values[..., :-1, :])
    assert torch.equal(values.argmax(-1), plan.actions)


def test_values_of_actions_by_hand():
    rewards = torch.tensor([[1.0, -1.0], [3.0, 0.0]])
    stay_or_go = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    values = action_values(rewards, stay_or_go, 2)
    assert values.tolist() == [[[2.0, 2.0], [6.0, 1.0]], [[1.0, -1.0], [3.0, 0.0]]]


def test_no_bonus_and_no_slack_change_nothing():
    rewards, transitions = random_mdp_optimistic_planning(3)
    none = torch.zeros_like(rewards)
    plain = action_values(rewards, transitions, 4)
    torch.testing.assert_close(bonus_action_values(rewards, transitions, none, none, 4), plain)
    torch.testing.assert_close(extended_action_values(rewards, transitions, none, none, 4), plain)


def test_a_bonus_is_added_once_and_the_other_for_each_step_left():
    rewards, transitions = random_mdp_optimistic_planning()
    one, none = torch.ones_like(rewards), torch.zeros_like(rewards)
    plain = action_values(rewards, transitions, 4)
    left = torch.arange(4, 0, -1, dtype=torch.float64).view(4, 1, 1)
    with_bonus = bonus_action_values(rewards, transitions, one, none, 4)
    torch.testing.assert_close(with_bonus, plain + left)
    later = bonus_action_values(rewards, transitions, none, one, 4)
    torch.testing.assert_close(later, plain + left * (left - 1) / 2)  # 3 + 2 + 1 at first


def test_slack_goes_to_the_best_state_and_comes_from_the_worst_by_hand():
    # The rewards of the last step are 0, 1, 5. P = (.5, .3, .2) with slack .4 becomes (.3, .3, .4).
    rewards = torch.tensor([[0.0], [1.0], [5.0]], dtype=torch.float64)
    transitions = torch.tensor([[[0.5, 0.3, 0.2]]] * 3, dtype=torch.float64)
    slack = torch.full((3, 1), 0.4, dtype=torch.float64)
    values = extended_action_values(rewards, transitions, torch.zeros_like(rewards), slack, 2)
    torch.testing.assert_close(values[0, :, 0], rewards[:, 0] + 0.3 * 1 + 0.4 * 5)
    # .9 more would be above 1: all in the best state
    values = extended_action_values(rewards, transitions, torch.zeros_like(rewards), 4.5 * slack, 2)
    torch.testing.assert_close(values[0, :, 0], rewards[:, 0] + 5)


@pytest.mark.parametrize("slack", [0.1, 0.5, 1.0, 1.7])
def test_the_inner_maximum_is_that_of_a_grid_search(slack):
    rng = np.random.default_rng(0)
    for _ in range(3):
        probabilities, values = rng.multinomial(200, [0.5, 0.3, 0.2]) / 200, rng.normal(size=3)
        rewards = torch.tensor(values).unsqueeze(-1)
        transitions = torch.tensor(probabilities).expand(3, 1, 3)
        none = torch.zeros_like(rewards)
        found = extended_action_values(rewards, transitions, none, none + slack, 2)[0] - rewards
        expected = best_in_ball(probabilities.tolist(), values.tolist(), slack)
        assert float(found[0, 0]) == pytest.approx(expected, abs=1e-9)


def test_optimism_never_lowers_a_value():
    rewards, transitions = random_mdp_optimistic_planning(5, seed=3)
    slack = torch.rand(5, 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    plain = action_values(rewards, transitions, 6)
    extended = extended_action_values(rewards, transitions, slack, slack, 6)
    assert (extended[..., -1, :, :] - rewards - slack).abs().max() < 1e-12
    assert (extended > plain).all()


def test_one_process_does_not_touch_another():
    rewards, transitions = random_mdp_optimistic_planning(2)
    changed = rewards.clone()
    changed[1] += 1
    slack = torch.full_like(rewards, 0.2)
    before, after = (
        extended_action_values(r, transitions, slack, slack, 4) for r in (rewards, changed)
    )
    assert torch.equal(before[0], after[0])
    torch.testing.assert_close(after[1, 0], before[1, 0] + 4)


def test_a_horizon_below_1_is_rejected():
    rewards, transitions = random_mdp_optimistic_planning()
    with pytest.raises(ValueError, match="horizon must be 1 or more, got 0"):
        bonus_action_values(rewards, transitions, rewards, rewards, 0)
