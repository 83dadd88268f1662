"""Intervals of the mean against the exact bootstrap; statistics against slow definitions."""

import itertools
import re

import numpy as np
import pytest

from metarl.statistics.intervals import Interval, crossed_interval, mean_interval, normal_interval
from metarl.statistics.scores import (
    interquartile_mean,
    mean_score,
    median_score,
    optimality_gap,
    probability_of_improvement,
)

SKEWED = [0.1, 0.4, 0.5, 1.0, 2.5, 9.0]
SCORES = [[1.0, 5.0, -2.0], [4.0, 0.5, 100.0]]  # 2 runs of 3 tasks
STATISTICS = [mean_score, median_score, interquartile_mean, optimality_gap]


def exact_bootstrap_means(values: list[float]) -> list[float]:
    """The mean of every possible resample, each as likely as any other, in order."""
    return sorted(
        sum(picks) / len(picks) for picks in itertools.product(values, repeat=len(values))
    )


@pytest.mark.parametrize("confidence", [0.95, 0.8, 0.5])
def test_the_ends_are_the_quantiles_of_all_possible_resamples(confidence):
    means = exact_bootstrap_means(SKEWED)
    got = mean_interval(SKEWED, confidence=confidence, num_resamples=200_000)
    slack = 0.006  # of probability; five standard deviations of 200,000 draws
    for end, probability in ((got.low, (1 - confidence) / 2), (got.high, (1 + confidence) / 2)):
        below = means[round((probability - slack) * len(means))]
        above = means[round((probability + slack) * len(means))]
        assert below <= end <= above
    assert got.mean == pytest.approx(2.25)


@pytest.mark.parametrize(("confidence", "expected"), [(0.95, 0.94), (0.5, 0.49)])
def test_the_interval_has_its_stated_coverage(confidence, expected):
    # Of n = 40 normal values it covers P(|T₃₉| < z √(39/40)), slightly less than stated.
    samples = np.random.default_rng(0).normal(3.0, 2.0, (2000, 40))
    hits = 0
    for seed, sample in enumerate(samples):
        got = mean_interval(sample, confidence=confidence, num_resamples=500, seed=seed)
        hits += got.low <= 3.0 <= got.high
    deviation = np.sqrt(expected * (1 - expected) / 2000)
    assert hits / 2000 == pytest.approx(expected, abs=4 * deviation)


def test_scaling_and_shifting_the_values_does_so_to_the_interval():
    plain = mean_interval(SKEWED)
    moved = mean_interval([100 - 3 * value for value in SKEWED])
    assert moved.mean == pytest.approx(100 - 3 * plain.mean)
    assert moved.low == pytest.approx(100 - 3 * plain.high, rel=1e-3)  # other resamples at this end
    assert moved.high == pytest.approx(100 - 3 * plain.low, rel=1e-3)


def test_the_interval_of_one_value_and_of_equal_values_is_that_value():
    assert mean_interval([2.5]) == Interval(2.5, 2.5, 2.5)
    assert mean_interval([-0.5] * 7) == Interval(-0.5, -0.5, -0.5)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    values = np.random.default_rng(0).normal(size=30)
    assert mean_interval(values, seed=1) == mean_interval(values.tolist(), seed=1)
    first, second = mean_interval(values, seed=1), mean_interval(values, seed=2)
    assert first.mean == second.mean
    assert (first.low, first.high) != (second.low, second.high)


@pytest.mark.parametrize(
    "values", [[], [[1.0, 2.0]], 3.0, [1.0, float("nan")], [float("inf")]], ids=str
)
def test_other_arguments_than_vectors_of_finite_numbers_are_rejected(values):
    message = f"values must be a non-empty vector of finite numbers, got {values!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        mean_interval(values)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_a_confidence_outside_0_and_1_is_rejected(confidence):
    with pytest.raises(ValueError, match=f"confidence must be between 0 and 1.* got {confidence}"):
        mean_interval(SKEWED, confidence=confidence)


def test_fewer_than_one_resample_is_rejected():
    with pytest.raises(ValueError, match="num_resamples must be 1 or more, got 0"):
        mean_interval(SKEWED, num_resamples=0)


def test_statistics_by_hand():
    assert mean_score(SCORES) == pytest.approx(108.5 / 6)
    assert median_score(SCORES) == pytest.approx(2.75)  # of 2.5, 2.75 and 49
    assert interquartile_mean(SCORES) == pytest.approx(10.5 / 4)  # without -2 and 100
    assert optimality_gap(SCORES) == pytest.approx((3.0 + 0.5) / 6)
    assert optimality_gap(SCORES, target=4.0) == pytest.approx((3.0 + 6.0 + 3.5) / 6)


@pytest.mark.parametrize(
    ("count", "kept"), [(1, 1), (2, 2), (3, 3), (4, 2), (5, 3), (7, 5), (8, 4), (11, 7), (12, 6)]
)
def test_the_interquartile_mean_cuts_whole_scores_rounded_down(count, kept):
    values = np.random.default_rng(count).permutation(np.arange(count) ** 2.0)
    middle = sorted(values)[(count - kept) // 2 : (count + kept) // 2]
    assert len(middle) == kept
    assert interquartile_mean(values[None]) == pytest.approx(sum(middle) / kept)
    assert interquartile_mean(values[:, None]) == pytest.approx(sum(middle) / kept)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_stack_gives_the_statistic_of_each_matrix(statistic):
    stack = np.random.default_rng(0).normal(size=(2, 3, 5, 7))
    made = statistic(stack)
    assert made.shape == (2, 3)
    for i, j in np.ndindex(2, 3):
        assert made[i, j] == pytest.approx(statistic(stack[i, j]))
    assert len(set(made.flatten().tolist())) == 6


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("runs", [(1, 1), (1, 4), (3, 2), (5, 5)], ids=str)
def test_the_probability_of_improvement_counts_pairs_of_runs(runs, ties):
    rng = np.random.default_rng(sum(runs))
    x, y = (rng.normal(shift, 1, (count, 6)) for count, shift in zip(runs, (0.9, 0), strict=True))
    if ties:
        x, y = x.round(), y.round()
    tasks = []
    for column_x, column_y in zip(x.T, y.T, strict=True):
        wins = [(a > b) + 0.5 * (a == b) for a in column_x for b in column_y]
        tasks.append(sum(wins) / len(wins))
    expected = sum(tasks) / 6
    assert probability_of_improvement(x, y) == pytest.approx(expected)
    assert probability_of_improvement(y, x) == pytest.approx(1 - expected)
    assert expected not in (0, 0.5, 1)


def test_the_probability_of_improvement_by_hand():
    # Task 0: 1 loses to 2 and 3. Task 1: 5 beats 4 and ties with 5.
    assert probability_of_improvement([[1.0, 5.0]], [[2.0, 4.0], [3.0, 5.0]]) == 1.5 / 4
    assert probability_of_improvement(SCORES, SCORES) == 0.5
    assert probability_of_improvement([[2.0, 3.0]], [[1.0, 1.0]] * 3) == 1


def test_a_stack_gives_the_probability_of_each_pair_of_matrices():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 3, 5)), rng.normal(size=(4, 2, 5))
    made = probability_of_improvement(x, y)
    single = [probability_of_improvement(a, b) for a, b in zip(x, y, strict=True)]
    assert made.tolist() == pytest.approx(single)
    assert len(set(single)) > 2


@pytest.mark.parametrize("statistic", STATISTICS)
def test_statistics_of_other_arguments_than_finite_matrices_are_rejected(statistic):
    with pytest.raises(ValueError, match=r"scores must be a matrix \[runs, tasks\], got shape"):
        statistic([1.0, 2.0])
    with pytest.raises(ValueError, match=r"scores must have at least one run .* shape \(0, 2\)"):
        statistic(np.zeros((0, 2)))
    with pytest.raises(ValueError, match="scores must be finite, got inf in run 0, task 1"):
        statistic([[0.0, float("inf")]])


def test_improvement_over_other_tasks_or_wrong_scores_is_rejected():
    with pytest.raises(ValueError, match=r"the same tasks in every matrix, got \[3, 2\] tasks"):
        probability_of_improvement(SCORES, [[1.0, 2.0]])
    with pytest.raises(ValueError, match="scores_y must be finite, got nan in run 0, task 0"):
        probability_of_improvement([[1.0]], [[float("nan")]])
    with pytest.raises(ValueError, match="scores_x must be a matrix"):
        probability_of_improvement([1.0], [[1.0]])


# Runs and tasks crossed.


def test_the_crossed_interval_adds_the_variances_of_tasks_and_runs():
    # Tasks' means over runs 2.5, 2.75, 49: s²/3 = 238.97; runs' means 4/3, 104.5/3: r²/2 = 280.56.
    mean, low, high = crossed_interval(SCORES)
    assert mean == pytest.approx(18.0833, abs=1e-4)
    half = 44.6746  # 1.96 √519.53
    assert (mean - low, high - mean) == pytest.approx((half, half), abs=1e-3)


def test_the_crossed_interval_of_one_run_is_over_its_tasks():
    assert crossed_interval([SKEWED]) == pytest.approx(normal_interval(SKEWED))
    assert crossed_interval([[3.0]]) == (3.0, 3.0, 3.0)


def test_the_crossed_interval_has_at_least_its_stated_coverage():
    rng = np.random.default_rng(1)
    hits, trials = 0, 1000
    for _ in range(trials):
        runs, tasks = rng.normal(0, 0.3, (20, 1)), rng.normal(0, 1.0, (1, 30))
        interval = crossed_interval(2 + runs + tasks + rng.normal(0, 0.5, (20, 30)))
        hits += interval.low <= 2 <= interval.high
    assert 0.93 < hits / trials < 0.98


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0, 2.0], "scores must be a matrix"),
        ([[[1.0]]], r"scores must be a matrix \[runs, tasks\], got shape \(1, 1, 1\)"),
        ([[np.nan]], "scores must be finite"),
    ],
)
def test_a_crossed_interval_needs_a_matrix(scores, message):
    with pytest.raises(ValueError, match=message):
        crossed_interval(scores)
