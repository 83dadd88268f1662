"""Statistics of scores against values by hand and slow definitions."""

import numpy as np
import pytest

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
    with pytest.raises(
        ValueError, match=r"scores must have at least one run and one task, got shape \(0, 2\)"
    ):
        statistic(np.zeros((0, 2)))
    with pytest.raises(ValueError, match="scores must be finite, got inf in run 0, task 1"):
        statistic([[0.0, float("inf")]])


def test_improvement_over_other_tasks_or_wrong_scores_is_refused():
    with pytest.raises(ValueError, match=r"the same tasks in every matrix, got \[3, 2\] tasks"):
        probability_of_improvement(SCORES, [[1.0, 2.0]])
    with pytest.raises(ValueError, match="scores_y must be finite, got nan in run 0, task 0"):
        probability_of_improvement([[1.0]], [[float("nan")]])
    with pytest.raises(ValueError, match="scores_x must be a matrix"):
        probability_of_improvement([1.0], [[1.0]])
