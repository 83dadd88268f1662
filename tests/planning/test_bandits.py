"""The exact optimum of small bandits: known values, slow recursion, and the policy's own value."""

import functools
import math

import pytest
import torch

from metarl.planning.bandits import num_plan_states, optimal_bandit_plan


def slow_optimum(num_arms: int, horizon: int) -> float:
    """The optimum from the definition, states as tuples of (successes, failures) of each arm."""

    @functools.cache
    def value(arms: tuple[tuple[int, int], ...], left: int) -> float:
        if left == 0:
            return 0.0
        return max(worth(arms, left, k) for k in range(num_arms))

    def worth(arms: tuple[tuple[int, int], ...], left: int, k: int) -> float:
        s, f = arms[k]
        p = (s + 1) / (s + f + 2)
        won = (*arms[:k], (s + 1, f), *arms[k + 1 :])
        lost = (*arms[:k], (s, f + 1), *arms[k + 1 :])
        return p * (1 + value(won, left - 1)) + (1 - p) * value(lost, left - 1)

    return value(((0, 0),) * num_arms, horizon)


def value_of_policy(num_arms: int, horizon: int) -> float:
    """The return of the plan's choices, state by state with fixed positions of the arms."""
    plan = optimal_bandit_plan(num_arms, horizon)

    @functools.cache
    def value(successes: tuple[int, ...], failures: tuple[int, ...]) -> float:
        if sum(successes) + sum(failures) == horizon:
            return 0.0
        k = int(plan.arms(torch.tensor(successes), torch.tensor(failures)))
        p = (successes[k] + 1) / (successes[k] + failures[k] + 2)
        won = tuple(s + (i == k) for i, s in enumerate(successes))
        lost = tuple(f + (i == k) for i, f in enumerate(failures))
        return p * (1 + value(won, failures)) + (1 - p) * value(successes, lost)

    return value((0,) * num_arms, (0,) * num_arms)


def test_two_pulls_of_two_arms_by_hand():
    # First ½. After a success pull on (⅔), after a failure change over (½).
    assert optimal_bandit_plan(2, 2).value == pytest.approx(0.5 + 0.5 * 2 / 3 + 0.5 * 0.5)


@pytest.mark.parametrize(("arms", "horizon"), [(1, 4), (2, 6), (3, 5), (4, 3)])
def test_values_agree_with_slow_recursion(arms, horizon):
    assert optimal_bandit_plan(arms, horizon).value == pytest.approx(slow_optimum(arms, horizon))


@pytest.mark.parametrize(("arms", "horizon"), [(2, 6), (3, 5), (5, 3)])
def test_the_return_of_the_policy_is_the_value(arms, horizon):
    expected = optimal_bandit_plan(arms, horizon).value
    assert value_of_policy(arms, horizon) == pytest.approx(expected)


@pytest.mark.parametrize(("arms", "value"), [(5, 6.660), (10, 6.714), (50, 6.714)])
def test_ten_pulls_have_the_known_value(arms, value):
    assert optimal_bandit_plan(arms, 10).value == pytest.approx(value, abs=5e-4)


def test_more_arms_than_pulls_do_not_increase_the_value():
    assert optimal_bandit_plan(7, 4).value == optimal_bandit_plan(4, 4).value
    assert optimal_bandit_plan(4, 4).value > optimal_bandit_plan(3, 4).value


def test_choices_are_permuted_with_the_arms():
    plan = optimal_bandit_plan(3, 6)
    successes, failures = torch.tensor([2, 0, 0]), torch.tensor([0, 1, 0])
    assert int(plan.arms(successes, failures)) == 0
    for order in ([1, 0, 2], [2, 1, 0], [1, 2, 0]):
        chosen = int(plan.arms(successes[order], failures[order]))
        assert order[chosen] == 0
    disappointed = plan.arms(torch.tensor([[0, 0, 0]]), torch.tensor([[1, 0, 1]]))
    assert disappointed.tolist() == [1]


def test_states_are_counted_as_they_are_enumerated():
    for arms, horizon in ((1, 5), (2, 9), (3, 7), (10, 6)):
        assert num_plan_states(arms, horizon) == len(optimal_bandit_plan(arms, horizon).keys)


def test_keys_are_ascending_and_distinct():
    assert (optimal_bandit_plan(5, 10).keys.diff() > 0).all()


@pytest.mark.parametrize(("arms", "horizon"), [(5, 100), (50, 500), (2, 500), (2, 8000)])
def test_too_many_states_are_rejected_at_once(arms, horizon):
    with pytest.raises(ValueError, match=f"num_arms {arms} and horizon {horizon}; use a Gittins"):
        optimal_bandit_plan(arms, horizon)


def test_numbers_out_of_range_are_rejected():
    with pytest.raises(ValueError, match="num_arms must be 1 or more, got 0"):
        optimal_bandit_plan(0, 3)
    with pytest.raises(ValueError, match="horizon must be 1 or more, got 0"):
        optimal_bandit_plan(3, 0)


def test_the_value_of_one_arm_is_half_of_the_pulls():
    assert optimal_bandit_plan(1, 20).value == pytest.approx(10)
    assert math.isclose(optimal_bandit_plan(6, 1).value, 0.5)


def test_keys_that_overflow_are_still_different():
    """Twelve arms and pulls: 91 codes to the twelfth power are more than 2⁶³."""
    plan = optimal_bandit_plan(12, 12)
    assert len(plan.keys.unique()) == num_plan_states(12, 12)
    assert plan.arms(torch.zeros(1, 12), torch.zeros(1, 12)).shape == (1,)
