"""Comparisons on different tasks: identities, exact small cases, and coverage in a simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from metarl.statistics.unpaired import unpaired_difference, unpaired_improvement

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(3, 8)), RNG.normal(size=(4, 6))
BOTH = (False, False)


def test_single_runs_have_welchs_interval_over_tasks():
    got = unpaired_difference(A[:1], B[:1], same_tasks=(True, True))
    welch = stats.ttest_ind(A[0], B[0], equal_var=False).confidence_interval(0.95)
    assert got[:3] == pytest.approx((A[0].mean() - B[0].mean(), welch.low, welch.high))
    assert got.over == "tasks"


def test_runs_with_their_own_tasks_have_welchs_interval_of_their_means():
    a = 10 * np.random.default_rng(1).normal(size=(3, 1)) + A
    b = 10 * np.random.default_rng(2).normal(size=(4, 1)) + B  # run effects exceed residuals
    got = unpaired_difference(a, b, same_tasks=BOTH)
    welch = stats.ttest_ind(a.mean(1), b.mean(1), equal_var=False).confidence_interval(0.95)
    assert got[1:3] == pytest.approx((welch.low, welch.high))
    assert got.over == "runs and tasks"


def test_the_probability_is_the_mann_whitney_statistic():
    for a, b in ((A, B), (A.round(), B.round())):  # without and with ties
        expected = stats.mannwhitneyu(a.ravel(), b.ravel()).statistic / (a.size * b.size)
        assert unpaired_improvement(a, b, same_tasks=BOTH).value == pytest.approx(expected)


def test_the_variance_of_the_probability_is_delongs_for_single_runs():
    a, b = A[0], B[0]
    wins = np.greater.outer(a, b).astype(float)
    parts = [wins.mean(1).var(ddof=1) / len(a), wins.mean(0).var(ddof=1) / len(b)]
    got = unpaired_improvement(a[None], b[None], same_tasks=(True, True))
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1))
    half = stats.t.ppf(0.975, freedom) * math.sqrt(sum(parts))
    assert got.low == pytest.approx(max(0, got.value - half))
    assert got.high == pytest.approx(min(1, got.value + half))


@pytest.mark.parametrize("same_tasks", [(True, True), (False, True), BOTH])
@pytest.mark.parametrize("num_runs", [1, 3])
def test_exchanging_the_algorithms_mirrors_the_interval(same_tasks, num_runs):
    a = A[:num_runs]
    for compare, mirror in ((unpaired_difference, 0), (unpaired_improvement, 1)):
        there = compare(a, B, same_tasks=same_tasks)
        back = compare(B, a, same_tasks=same_tasks[::-1])
        expected = (mirror - there.value, mirror - there.high, mirror - there.low)
        assert back[:3] == pytest.approx(expected)
        assert back.over == there.over == ("tasks" if num_runs == 1 else "runs and tasks")


def test_no_interval_has_zero_width():
    ones = np.ones((2, 8))
    assert not unpaired_difference(ones, 0 * ones, same_tasks=BOTH).has_interval
    other = stats.binomtest(0, 8).proportion_ci(0.95, method="exact").high
    got = unpaired_difference(ones, ones, same_tasks=BOTH, bounds=(-1, 1))
    assert got[:3] == pytest.approx((0, -other, other))
    assert unpaired_improvement(ones, 0 * ones, same_tasks=BOTH)[:3] == pytest.approx(
        (1, 1 - other, 1)
    )
    assert not unpaired_difference([[1.0]], B, same_tasks=BOTH).has_interval
    assert not unpaired_difference([[1.0]], [[2.0]], same_tasks=BOTH).has_interval


@pytest.mark.parametrize("num_runs", [(2, 2), (3, 3), (5, 5), (10, 10), (1, 1), (3, 10)])
@pytest.mark.parametrize("deviations", [(1, 1, 1), (0.3, 3, 1), (1, 5, 1), (0, 1, 1)])
@pytest.mark.parametrize("same_tasks", [True, False], ids=["crossed", "nested"])
def test_intervals_cover_the_true_difference_and_probability(num_runs, deviations, same_tasks):
    rng = np.random.default_rng(sum(num_runs))
    repetitions, num_tasks, shift = 200, 40, 0.5
    of_runs, of_tasks, residual = deviations
    if num_runs == (1, 1):
        of_runs = 0.0  # the interval is over tasks

    def scores(runs):
        return (
            of_runs * rng.normal(size=(runs, 1))
            + of_tasks * rng.normal(size=(1 if same_tasks else runs, num_tasks))
            + residual * rng.normal(size=(runs, num_tasks))
        )

    variance = 2 * (of_runs**2 + of_tasks**2 + residual**2)
    probability = stats.norm.cdf(shift / math.sqrt(variance))
    hits = np.zeros(2)
    for _ in range(repetitions):
        a, b = scores(num_runs[0]) + shift, scores(num_runs[1])
        found = unpaired_difference(a, b, same_tasks=(same_tasks, same_tasks))
        improved = unpaired_improvement(a, b, same_tasks=(same_tasks, same_tasks))
        hits += (found.low <= shift <= found.high, improved.low <= probability <= improved.high)
    assert (hits / repetitions).min() >= (0.85 if min(num_runs) == 2 else 0.90)


def test_mistakes():
    with pytest.raises(ValueError, match=r"scores_b must be a matrix \[runs, tasks\]"):
        unpaired_difference(A, [B], same_tasks=BOTH)
    with pytest.raises(ValueError, match="scores_a must be finite"):
        unpaired_improvement([[math.inf]], B, same_tasks=BOTH)
