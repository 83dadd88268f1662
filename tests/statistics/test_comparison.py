"""Comparisons of two algorithms: identities, exact small cases, and coverage in a simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from metarl.statistics.comparison import improvement_interval, mean_difference
from metarl.statistics.intervals import mean_interval
from metarl.statistics.scores import probability_of_improvement

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(3, 8)), RNG.normal(size=(4, 8))


def test_nested_comparisons_are_intervals_of_differences_and_wins():
    wins = np.greater(A, B[:3]).astype(float)
    got = mean_difference(A, B[:3], same_tasks=False)
    assert got == mean_interval(A - B[:3], same_tasks=False)
    improved = improvement_interval(A, B[:3], same_tasks=False)
    assert improved == mean_interval(wins, same_tasks=False, bounds=(0, 1))


def test_crossed_values_are_the_difference_of_means_and_the_probability_of_rliable():
    assert mean_difference(A, B, same_tasks=True).value == pytest.approx(A.mean() - B.mean())
    improved = improvement_interval(A, B, same_tasks=True)
    assert improved.value == pytest.approx(float(probability_of_improvement(A, B)))
    assert 0 <= improved.low < improved.value < improved.high <= 1


def test_crossed_difference_by_hand():
    a = np.array([[1.0, 2.0, 6.0], [3.0, 4.0, 5.0]])  # MSR 1.5, MSE 1.5
    b = np.array([[0.0, 0.0, 0.0], [2.0, 1.0, 0.0]])  # run means 0, 1; MSR 1.5, MSE 0.5
    # Task means of a − b: 1, 2.5, 5.5, so their variance is 5.25.
    parts = [1.5 / 6, 1.5 / 6, 5.25 / 3, -1.5 / 6, -0.5 / 6]
    freedom = sum(parts) ** 2 / sum(v**2 / f for v, f in zip(parts, [1, 1, 2, 2, 2], strict=True))
    half = stats.t.ppf(0.975, freedom) * math.sqrt(sum(parts))
    got = mean_difference(a, b, same_tasks=True)
    assert got[:3] == pytest.approx((3.0, 3 - half, 3 + half))
    assert got.over == "runs and tasks"


@pytest.mark.parametrize("compare", [mean_difference, improvement_interval])
def test_exchanging_the_algorithms_mirrors_the_interval(compare):
    there, back = compare(A, B, same_tasks=True), compare(B, A, same_tasks=True)
    mirror = 0 if compare is mean_difference else 1
    assert back[:3] == pytest.approx(
        (mirror - there.value, mirror - there.high, mirror - there.low)
    )


def test_a_single_run_of_either_gives_an_interval_over_tasks():
    got = mean_difference(A[:1], B, same_tasks=True)
    expected = mean_interval([A[0] - B.mean(0)], same_tasks=True)
    assert got.over == "tasks"
    assert got[:3] == pytest.approx(expected[:3])
    assert improvement_interval(A, B[:1], same_tasks=True).over == "tasks"


def test_a_single_task_gives_an_interval_over_runs():
    got = mean_difference(A[:, :1], B[:, :1], same_tasks=True)
    welch = stats.ttest_ind(A[:, 0], B[:, 0], equal_var=False).confidence_interval(0.95)
    assert got[:3] == pytest.approx((A[:, 0].mean() - B[:, 0].mean(), welch.low, welch.high))
    assert got.over == "runs"


@pytest.mark.parametrize("same_tasks", [True, False])
def test_an_algorithm_that_always_wins_has_the_interval_of_a_proportion(same_tasks):
    got = improvement_interval(B + 100, B, same_tasks=same_tasks)
    exact = stats.binomtest(8, 8).proportion_ci(0.95, method="exact")
    assert got[:3] == pytest.approx((1, exact.low, 1))


@pytest.mark.parametrize("same_tasks", [True, False])
@pytest.mark.parametrize("num_runs", [1, 3])
def test_differences_without_variation_have_no_interval_unless_they_are_bounded(
    num_runs, same_tasks
):
    a = np.tile(RNG.normal(size=8), (num_runs, 1))
    got = mean_difference(a + 0.1, a, same_tasks=same_tasks)  # the same up to rounding
    assert got.value == pytest.approx(0.1)
    assert not got.has_interval
    other = stats.binomtest(0, 8).proportion_ci(0.95, method="exact").high
    ones = np.ones((num_runs, 8))
    got = mean_difference(ones, ones, same_tasks=same_tasks, bounds=(-1, 1))
    assert got[:3] == pytest.approx((0, -other, other))
    got = improvement_interval(ones, ones, same_tasks=same_tasks)
    assert got[:3] == pytest.approx((0.5, 0.5 - other / 2, 0.5 + other / 2))


def test_equal_means_do_not_give_an_interval_without_width():
    a = np.array([[0.0, 2.0], [2.0, 0.0]])  # MSR 0, MSE 4; the task means of a − b are 0
    got = mean_difference(a, a, same_tasks=True)
    assert got.high >= stats.t.ppf(0.975, 2) * math.sqrt(2 * 4 / 4)


def test_a_single_score_of_each_has_no_interval():
    assert not mean_difference([[1.0]], [[2.0]], same_tasks=True).has_interval
    low, high = improvement_interval([[1.0]], [[2.0]], same_tasks=True)[1:3]
    assert (low, high) == pytest.approx((0, 0.975))


@pytest.mark.parametrize("num_runs", [2, 3, 5, 10])
@pytest.mark.parametrize("deviations", [(1, 1, 1), (0.3, 3, 1), (1, 5, 1), (0, 1, 1)])
@pytest.mark.parametrize("same_tasks", [True, False], ids=["crossed", "nested"])
def test_intervals_cover_the_true_difference_and_probability(num_runs, deviations, same_tasks):
    rng = np.random.default_rng(num_runs)
    repetitions, num_tasks, shift, interaction = 200, 40, 0.5, 0.5
    of_runs, of_tasks, residual = deviations
    task_axis = (1 if same_tasks else num_runs, num_tasks)

    def scores(difficulty):
        return (
            difficulty
            + of_runs * rng.normal(size=(num_runs, 1))
            + residual * rng.normal(size=(num_runs, num_tasks))
            + interaction * rng.normal(size=task_axis)
        )

    variance = 2 * (of_runs**2 + residual**2 + interaction**2)
    probability = stats.norm.cdf(shift / math.sqrt(variance))
    hits = np.zeros(2)
    for _ in range(repetitions):
        difficulty = of_tasks * rng.normal(size=task_axis)
        a, b = scores(difficulty + shift), scores(difficulty)
        found = mean_difference(a, b, same_tasks=same_tasks)
        improved = improvement_interval(a, b, same_tasks=same_tasks)
        hits += (found.low <= shift <= found.high, improved.low <= probability <= improved.high)
    assert (hits / repetitions).min() >= (0.85 if num_runs == 2 else 0.90)


def test_mistakes():
    with pytest.raises(ValueError, match="scores_a must be finite, got nan in run 1, task 0"):
        mean_difference([[1.0], [math.nan]], [[1.0]], same_tasks=True)
    with pytest.raises(ValueError, match="scores_b must have as many tasks as scores_a, 8, got 7"):
        mean_difference(A, B[:, :7], same_tasks=True)
    with pytest.raises(ValueError, match="scores_b must have as many runs as scores_a, 3, got 4"):
        improvement_interval(A, B, same_tasks=False)
    with pytest.raises(ValueError, match=r"scores_a must be a matrix \[runs, tasks\]"):
        mean_difference([A], [A], same_tasks=True)
