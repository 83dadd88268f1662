"""Performance profiles by hand and from their definition."""

import re

import numpy as np
import pytest

from metarl.statistics.profiles import average_score_profile, performance_profiles, score_profile

SCORES = [[0.0, 1.0, 2.0], [0.5, 1.0, -2.0]]
THRESHOLDS = [-3.0, -2.0, 0.0, 0.25, 0.5, 1.0, 2.0]


def test_a_score_counts_if_it_is_above_the_threshold_not_at_it():
    sixths = np.array([6, 5, 4, 4, 3, 1, 0])
    assert score_profile(SCORES, THRESHOLDS) == pytest.approx(sixths / 6)


def test_an_average_counts_once_per_task():
    thirds = np.array([3, 3, 2, 1, 1, 0, 0])  # the means of the tasks are 0.25, 1 and 0
    assert average_score_profile(SCORES, THRESHOLDS) == pytest.approx(thirds / 3)


@pytest.mark.parametrize("profile", [score_profile, average_score_profile])
def test_a_stack_gives_the_profile_of_each_matrix(profile):
    stack = np.random.default_rng(0).normal(size=(4, 3, 5))
    taus = np.linspace(-1, 1, 7)
    made = profile(stack, taus)
    assert made.shape == (4, 7)
    for row, scores in zip(made, stack, strict=True):
        counted = scores if profile is score_profile else scores.mean(axis=0, keepdims=True)
        slow = [sum(x > tau for x in counted.flatten()) / counted.size for tau in taus]
        assert row == pytest.approx(slow)


def test_profiles_fall_with_the_threshold_and_so_do_their_bands():
    scores = np.random.default_rng(1).normal(size=(6, 8))
    taus = np.linspace(-2, 2, 21)
    made = performance_profiles({"ours": scores}, taus)["ours"]
    assert made.thresholds.tolist() == taus.tolist()
    assert made.resampled == "runs"
    for curve in (made.fractions, made.low, made.high):
        assert (np.diff(curve) <= 0).all()
    assert (made.low <= made.fractions).all()
    assert (made.fractions <= made.high).all()
    assert (made.high - made.low)[10] > 0.1


def test_a_wider_confidence_gives_a_wider_band():
    scores = np.random.default_rng(1).normal(size=(6, 8))
    wide, narrow = (
        performance_profiles({"ours": scores}, [0.0, 0.5], confidence=confidence)["ours"]
        for confidence in (0.99, 0.5)
    )
    assert (wide.low < narrow.low).all()
    assert (wide.high > narrow.high).all()


def test_the_average_profile_is_an_option():
    made = performance_profiles({"ours": SCORES}, THRESHOLDS, average_runs=True)["ours"]
    assert made.fractions == pytest.approx(np.array([3, 3, 2, 1, 1, 0, 0]) / 3)


def test_the_band_of_a_single_run_is_over_tasks():
    scores = [[0.0, 1.0, 2.0, 3.0]]
    made = performance_profiles({"ours": scores}, [1.5], num_resamples=20_000)["ours"]
    # Of four tasks, two above: B(4, ½)/4 has 1/16 at either end, more than the tail of 1/40.
    assert (made.fractions[0], made.low[0], made.high[0]) == (0.5, 0.0, 1.0)
    assert made.resampled == "tasks"
    narrow = performance_profiles({"ours": scores}, [1.5], confidence=0.8)["ours"]
    assert (narrow.low[0], narrow.high[0]) == (0.25, 0.75)


def test_the_seed_determines_the_bands_and_other_algorithms_do_not():
    rng = np.random.default_rng(2)
    scores = {"ours": rng.normal(size=(5, 7)), "theirs": rng.normal(size=(3, 7))}
    both = performance_profiles(scores, [0.1], seed=1, num_resamples=300)
    assert list(both) == ["ours", "theirs"]
    alone = performance_profiles({"theirs": scores["theirs"]}, [0.1], seed=1, num_resamples=300)
    assert both["theirs"].low == alone["theirs"].low
    assert both["theirs"].high == alone["theirs"].high
    bands = [
        performance_profiles(scores, np.linspace(-1, 1, 50), seed=seed, num_resamples=300)["ours"]
        for seed in (1, 1, 2)
    ]
    assert bands[0].low.tolist() == bands[1].low.tolist()
    assert bands[0].low.tolist() != bands[2].low.tolist()
    assert bands[0].fractions.tolist() == bands[2].fractions.tolist()


@pytest.mark.parametrize(
    "thresholds", [[], 0.5, [[0.5]], [0.1, float("nan")], [float("inf")]], ids=str
)
def test_other_thresholds_than_vectors_of_finite_numbers_are_rejected(thresholds):
    message = f"thresholds must be a non-empty vector of finite numbers, got {thresholds!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        performance_profiles({"ours": SCORES}, thresholds)


def test_wrong_scores_are_rejected_with_the_algorithms_name():
    with pytest.raises(ValueError, match="scores must hold at least one algorithm, got none"):
        performance_profiles({}, [0.5])
    message = "scores of 'theirs' must be finite, got nan in run 0, task 1"
    with pytest.raises(ValueError, match=message):
        performance_profiles({"ours": SCORES, "theirs": [[0.0, float("nan")]]}, [0.5])


def test_invalid_settings_of_the_bootstrap_are_rejected():
    with pytest.raises(ValueError, match="num_resamples must be 1 or more, got 0"):
        performance_profiles({"ours": SCORES}, [0.5], num_resamples=0)
    with pytest.raises(ValueError, match=r"confidence must be between 0 and 1, .* got 1.5"):
        performance_profiles({"ours": SCORES}, [0.5], confidence=1.5)
