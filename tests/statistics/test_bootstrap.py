"""The bootstrap against all possible resamples, each as likely as any other."""

import itertools
import re
from collections import Counter

import numpy as np
import pytest

from metarl.statistics import bootstrap
from metarl.statistics.bootstrap import (
    bootstrap_draws,
    percentile_ends,
    resampled_unit,
    stratified_bootstrap,
)
from metarl.statistics.scores import (
    interquartile_mean,
    mean_score,
    median_score,
    probability_of_improvement,
)

X = [[0.1, 3.0], [0.6, -1.0], [2.5, 0.4]]  # 3 runs of 2 tasks
Y = [[0.6, 0.0], [1.0, -2.0]]
Z = [[2.0, 0.5], [0.7, -1.2]]
ONE_RUN = [[0.3, -2.0, 1.1, 4.0]]


def difference(x, y):
    return mean_score(x) - mean_score(y)


def resamples_over_runs(scores):
    """Every matrix whose columns hold runs of the same task, sampled with replacement."""
    columns = [
        itertools.product(column, repeat=len(scores)) for column in zip(*scores, strict=True)
    ]
    for picked in itertools.product(*columns):
        yield np.array(picked).T


def resamples_over_tasks(*matrices):
    """Every tuple of matrices with the same columns sampled with replacement."""
    num_tasks = len(matrices[0][0])
    for picks in itertools.product(range(num_tasks), repeat=num_tasks):
        yield tuple(np.array(matrix)[:, picks] for matrix in matrices)


def assert_same_distribution(draws, exact):
    """No frequency differs by more than five standard deviations."""
    expected, got = (Counter(np.round(values, 9).tolist()) for values in (exact, draws))
    assert len(expected) > 5
    assert set(got) <= set(expected)
    for value, count in expected.items():
        share = count / len(exact)
        deviation = np.sqrt(share * (1 - share) / len(draws))
        assert got[value] / len(draws) == pytest.approx(share, abs=5 * deviation)


@pytest.mark.parametrize("statistic", [mean_score, median_score, interquartile_mean])
def test_runs_are_resampled_independently_for_each_task(statistic):
    exact = [float(statistic(resample)) for resample in resamples_over_runs(X)]
    assert len(exact) == 3**6
    assert_same_distribution(bootstrap_draws(statistic, X, num_resamples=50_000), exact)


@pytest.mark.parametrize(
    ("statistic", "x", "y"), [(probability_of_improvement, X, Y), (difference, Y, Z)]
)
def test_runs_of_two_matrices_are_resampled_independently(statistic, x, y):
    pairs = itertools.product(resamples_over_runs(x), resamples_over_runs(y))
    exact = [float(statistic(*pair)) for pair in pairs]
    assert len(exact) == len(x) ** (2 * len(x)) * len(y) ** (2 * len(y))
    assert_same_distribution(bootstrap_draws(statistic, x, y, num_resamples=50_000), exact)


@pytest.mark.parametrize("statistic", [mean_score, interquartile_mean])
def test_the_tasks_of_a_single_run_are_resampled(statistic):
    exact = [float(statistic(resample)) for (resample,) in resamples_over_tasks(ONE_RUN)]
    assert_same_distribution(bootstrap_draws(statistic, ONE_RUN, num_resamples=50_000), exact)
    assert stratified_bootstrap(statistic, ONE_RUN).over == "tasks"
    assert stratified_bootstrap(statistic, X).over == "runs"


def test_the_same_tasks_are_resampled_in_both_matrices_if_one_has_a_single_run():
    other = [[0.3, -3.0, 1.0, 5.0], [0.1, 2.0, 1.0, 6.0]]
    assert resampled_unit(other, ONE_RUN) == resampled_unit(ONE_RUN, other) == "tasks"
    exact = [
        float(probability_of_improvement(*pair)) for pair in resamples_over_tasks(ONE_RUN, other)
    ]
    draws = bootstrap_draws(probability_of_improvement, ONE_RUN, other, num_resamples=50_000)
    assert_same_distribution(draws, exact)


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95])
def test_the_ends_are_percentiles_of_the_draws(confidence):
    draws = sorted(bootstrap_draws(mean_score, X, seed=3, num_resamples=1001).tolist())
    got = stratified_bootstrap(mean_score, X, seed=3, num_resamples=1001, confidence=confidence)
    assert got.value == pytest.approx(5.6 / 6)
    assert got.low == pytest.approx(draws[round(1000 * (1 - confidence) / 2)])
    assert got.high == pytest.approx(draws[round(1000 * (1 + confidence) / 2)])


def test_the_interval_over_runs_has_its_stated_coverage():
    # Of 20 runs of 5 tasks, unequal but known; the bootstrap's variance is 19/20 of the unbiased
    # one, so P(|t| < z √(19/20)) with some 95 degrees of freedom, a little over 0.94.
    true = np.array([0.0, 5.0, -3.0, 1.0, 2.0])
    samples = np.random.default_rng(0).normal(true, 1.0, (1000, 20, 5))
    hits = 0
    for seed, scores in enumerate(samples):
        got = stratified_bootstrap(mean_score, scores, num_resamples=500, seed=seed)
        hits += got.low <= true.mean() <= got.high
    assert hits / 1000 == pytest.approx(0.94, abs=4 * np.sqrt(0.94 * 0.06 / 1000))


def test_the_seed_alone_determines_the_interval():
    first = stratified_bootstrap(mean_score, X, seed=1, num_resamples=200)
    np.random.seed(5)  # noqa: NPY002 - the global generator must not matter
    state = np.random.get_state()[1].tolist()  # noqa: NPY002
    again = stratified_bootstrap(mean_score, X, seed=1, num_resamples=200)
    other = stratified_bootstrap(mean_score, X, seed=2, num_resamples=200)
    assert again == first
    assert other.value == first.value
    assert (other.low, other.high) != (first.low, first.high)
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002


@pytest.mark.parametrize("matrices", [[X], [X, Y], [ONE_RUN]], ids=["one", "two", "single run"])
def test_chunks_do_not_change_the_draws(matrices, monkeypatch):
    sizes = []

    def statistic(*scores):
        sizes.append(len(scores[0]))
        return scores[0].mean(axis=(-2, -1)) - scores[-1].max(axis=(-2, -1))

    whole = bootstrap_draws(statistic, *matrices, num_resamples=100)
    monkeypatch.setattr(bootstrap, "_CHUNK", 84)
    parts = bootstrap_draws(statistic, *matrices, num_resamples=100)
    assert sizes[0] == 100
    assert max(sizes[1:]) < 30
    assert sum(sizes[1:]) == 100
    assert whole.tolist() == parts.tolist()


def test_a_matrix_larger_than_a_chunk_is_resampled_one_by_one(monkeypatch):
    monkeypatch.setattr(bootstrap, "_CHUNK", 1)
    assert bootstrap_draws(mean_score, X, num_resamples=3).shape == (3,)


def test_scores_are_not_modified():
    scores = np.array(X)
    stratified_bootstrap(interquartile_mean, scores)
    assert scores.tolist() == X


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0, 2.0], "scores must be a matrix [runs, tasks], got shape (2,)"),
        (3.0, "scores must be a matrix [runs, tasks], got shape ()"),
        ([[[1.0]]], "scores must be a matrix [runs, tasks], got shape (1, 1, 1)"),
        (np.zeros((0, 3)), "scores must have at least one run and one task, got shape (0, 3)"),
        ([[], []], "scores must have at least one run and one task, got shape (2, 0)"),
        ([[1.0, 2.0], [3.0, float("nan")]], "scores must be finite, got nan in run 1, task 1"),
        ([[1.0, float("-inf")]], "scores must be finite, got -inf in run 0, task 1"),
        (
            [[1.0], [2.0, 3.0]],
            "scores must be numbers [runs, tasks], with equally many tasks in every run (",
        ),
        (
            [["high"]],
            "scores must be numbers [runs, tasks], with equally many tasks in every run (",
        ),
    ],
    ids=str,
)
def test_other_arguments_than_matrices_of_finite_scores_are_rejected(scores, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        stratified_bootstrap(mean_score, scores)


def test_matrices_of_different_tasks_and_no_matrix_are_rejected():
    message = re.escape("scores must cover the same tasks in every matrix, got [2, 4] tasks")
    with pytest.raises(ValueError, match=message):
        stratified_bootstrap(probability_of_improvement, X, ONE_RUN)
    with pytest.raises(ValueError, match=r"scores must include at least one matrix .*, got none"):
        stratified_bootstrap(mean_score)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95, -0.1, float("nan")])
def test_a_confidence_outside_0_and_1_is_rejected(confidence):
    message = f"confidence must be between 0 and 1, both excluded, got {confidence}"
    with pytest.raises(ValueError, match=re.escape(message)):
        stratified_bootstrap(mean_score, X, confidence=confidence)
    with pytest.raises(ValueError, match=re.escape(message)):
        percentile_ends([1.0, 2.0], confidence)


@pytest.mark.parametrize("count", [0, -3])
def test_fewer_than_one_resample_is_rejected(count):
    with pytest.raises(ValueError, match=f"num_resamples must be 1 or more, got {count}"):
        stratified_bootstrap(mean_score, X, num_resamples=count)


def test_a_statistic_that_mixes_resamples_or_gives_several_numbers_is_rejected():
    message = (
        "statistic must keep the leading axes: for scores (50, 3, 2) it must give shape "
        "(50, ...), got ()"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        stratified_bootstrap(np.mean, X, num_resamples=50)
    message = re.escape("statistic must give one number per matrix, got shape (2,)")
    with pytest.raises(ValueError, match=message):
        stratified_bootstrap(lambda scores: scores.mean(axis=-2), X)


def test_equal_resamples_give_no_interval():
    for scores in (np.ones((3, 4)), np.ones((1, 4)), np.arange(4.0) + np.zeros((3, 4)), [[2.0]]):
        assert not stratified_bootstrap(mean_score, scores).has_interval
