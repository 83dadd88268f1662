"""Bootstrap intervals against the exact bootstrap distribution, and their coverage."""

import itertools
import re

import numpy as np
import pytest

from metarl.statistics import Interval, mean_interval

SKEWED = [0.1, 0.4, 0.5, 1.0, 2.5, 9.0]


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
def test_the_interval_holds_the_true_mean_as_often_as_it_says(confidence, expected):
    # Of n = 40 normal values it covers P(|T₃₉| < z √(39/40)), a little less than it says.
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
    assert moved.low == pytest.approx(100 - 3 * plain.high, rel=1e-3)  # other picks at this end
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
def test_what_is_no_vector_of_finite_numbers_is_refused(values):
    message = f"values must be a non-empty vector of finite numbers, got {values!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        mean_interval(values)
