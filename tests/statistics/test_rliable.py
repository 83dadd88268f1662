"""Statistics and intervals against numbers that rliable 1.2.0 printed.

It ran with arch 7.2.0, SciPy 1.17.1, NumPy 2.4.6 and pandas 2.3.3, on X, Y and THRESHOLDS as below
(as arrays). It is not a dependency of the tests, because the version of arch that it requires does
not import with pandas 3.

    from rliable import library, metrics

    numpy.random.seed(0)
    pooled = lambda s: numpy.array([
        metrics.aggregate_mean(s), metrics.aggregate_median(s),
        metrics.aggregate_iqm(s), metrics.aggregate_optimality_gap(s),
    ])
    better = metrics.probability_of_improvement
    print(library.get_interval_estimates({"X": X, "Y": Y}, pooled, reps=100_000))
    print(library.get_interval_estimates({"X,Y": (X, Y)}, better, reps=20_000))
    print(library.create_performance_profile({"X": X}, THRESHOLDS, reps=20_000))
    print(library.create_performance_profile(
        {"X": X}, THRESHOLDS, use_score_distribution=False, reps=20_000
    ))
"""

from functools import partial

import numpy as np
import pytest

from metarl.statistics.bootstrap import bootstrap_draws, stratified_bootstrap
from metarl.statistics.profiles import average_score_profile, performance_profiles, score_profile
from metarl.statistics.scores import (
    interquartile_mean,
    mean_score,
    median_score,
    optimality_gap,
    probability_of_improvement,
)

X = [
    [0.1, 0.9, 0.5, 1.4, 0.3, 0.7],
    [0.2, 0.8, 0.5, -0.6, 0.35, 2.1],
    [0.15, 1.3, 0.6, 0.9, 0.3, 0.75],
]
Y = [[0.1, 0.6, 0.55, 0.2, 0.3, 1.1], [0.05, 0.8, 0.4, 1.0, 0.2, 0.65]]
THRESHOLDS = [-1.0, 0.0, 0.3, 0.5, 0.75, 1.0, 2.1]  # of which X holds 0.3, 0.5, 0.75 and 2.1

# Statistic, matrices, and rliable's estimate, lower and upper end.
REFERENCE = {
    "mean of X": (mean_score, [X], 0.625, 0.42222222, 0.825),
    "median of X": (median_score, [X], 0.55, 0.40833333, 0.81666667),
    "interquartile mean of X": (interquartile_mean, [X], 0.57, 0.44, 0.715),
    "optimality gap of X": (optimality_gap, [X], 0.475, 0.36388889, 0.64166667),
    "mean of Y": (mean_score, [Y], 0.49583333, 0.3875, 0.60416667),
    "median of Y": (median_score, [Y], 0.5375, 0.325, 0.6375),
    "interquartile mean of Y": (interquartile_mean, [Y], 0.45, 0.35, 0.60833333),
    "optimality gap of Y": (optimality_gap, [Y], 0.5125, 0.4125, 0.6125),
    "X better than Y": (probability_of_improvement, [X, Y], 0.75, 0.56944444, 0.91666667),
}
# Statistic, and rliable's fractions of X above each threshold, lower and upper ends.
PROFILES = {
    "scores": (
        score_profile,
        [1.0, 0.94444444, 0.66666667, 0.5, 0.33333333, 0.16666667, 0.0],
        [1.0, 0.83333333, 0.55555556, 0.38888889, 0.22222222, 0.0, 0.0],
        [1.0, 1.0, 0.77777778, 0.61111111, 0.44444444, 0.33333333, 0.0],
    ),
    "average scores": (
        average_score_profile,
        [1.0, 1.0, 0.83333333, 0.66666667, 0.33333333, 0.16666667, 0.0],
        [1.0, 0.83333333, 0.5, 0.33333333, 0.16666667, 0.0, 0.0],
        [1.0, 1.0, 0.83333333, 0.66666667, 0.5, 0.5, 0.0],
    ),
}


def assert_an_end(end, draws, probability, num_reference):
    """`end` is that quantile of the draws, up to five standard deviations of both bootstraps."""
    variance = probability * (1 - probability) * (1 / len(draws) + 1 / num_reference)
    slack = 5 * np.sqrt(variance)
    below, above = np.quantile(draws, [probability - slack, probability + slack])
    assert below - 1e-8 <= end <= above + 1e-8  # it is printed to eight digits


@pytest.mark.parametrize("name", REFERENCE)
def test_estimates_equal_those_of_rliable(name):
    statistic, matrices, value, _, _ = REFERENCE[name]
    assert stratified_bootstrap(statistic, *matrices, num_resamples=10).value == pytest.approx(
        value, abs=1e-8
    )


@pytest.mark.parametrize("name", REFERENCE)
def test_intervals_equal_those_of_rliable_up_to_sampling_error(name):
    statistic, matrices, _, low, high = REFERENCE[name]
    draws = bootstrap_draws(statistic, *matrices, num_resamples=50_000)
    assert_an_end(low, draws, 0.025, num_reference=20_000)
    assert_an_end(high, draws, 0.975, num_reference=20_000)


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_equal_those_of_rliable(name):
    statistic, fractions, low, high = PROFILES[name]
    average_runs = statistic is average_score_profile
    made = performance_profiles({"X": X}, THRESHOLDS, average_runs=average_runs)["X"]
    assert made.fractions == pytest.approx(fractions, abs=1e-8)
    profile = partial(statistic, thresholds=THRESHOLDS)
    draws = bootstrap_draws(profile, X, num_resamples=20_000)
    for k in range(len(THRESHOLDS)):
        assert_an_end(low[k], draws[:, k], 0.025, num_reference=20_000)
        assert_an_end(high[k], draws[:, k], 0.975, num_reference=20_000)
