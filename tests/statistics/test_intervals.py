"""Intervals of means: hand-computed values, identities, and coverage in a simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from metarl.statistics.estimate import Estimate
from metarl.statistics.intervals import (
    mean_interval,
    mean_squares,
    satterthwaite,
    student_band,
    student_interval,
)

RATIOS = [(1, 1, 1), (0.3, 3, 1), (1, 5, 1), (0, 1, 1)]  # deviations of runs, tasks and residuals
CROSSED = np.array([[1.0, 2.0, 6.0], [3.0, 4.0, 5.0]])


def test_student_interval_is_the_one_of_scipy():
    values = np.random.default_rng(0).normal(size=7)
    expected = stats.t.interval(0.9, 6, loc=values.mean(), scale=stats.sem(values))
    got = student_interval(values, "runs", confidence=0.9)
    assert got[:3] == pytest.approx((values.mean(), *expected))
    assert got.over == "runs"


def test_a_band_has_the_interval_of_each_point_and_a_gap_where_all_runs_are_equal():
    values = np.array([[1.0, 0.0, 2.0], [2.0, 0.0, 5.0], [4.0, 0.0, 5.0]])
    low, high = student_band(values)
    for k in (0, 2):
        assert (low[k], high[k]) == pytest.approx(student_interval(values[:, k], "runs")[1:3])
    assert np.isnan([low[1], high[1]]).all()


def test_mean_squares_are_those_of_a_two_way_analysis_of_variance():
    # Run means 3, 4; task means 2, 3, 5.5; grand mean 3.5; residuals ±(0.5, 0.5, −1).
    assert mean_squares(CROSSED) == pytest.approx((1.5, 6.5, 1.5))


def test_crossed_interval_by_hand():
    # V = (1.5 + 6.5 − 1.5) / 6; ν = 6.5² / (1.5²/1 + 6.5²/2 + 1.5²/2) = 42.25 / 24.5
    half = stats.t.ppf(0.975, 42.25 / 24.5) * math.sqrt(6.5 / 6)
    got = mean_interval(CROSSED, same_tasks=True)
    assert got[:3] == pytest.approx((3.5, 3.5 - half, 3.5 + half))
    assert got.over == "runs and tasks"


def test_nested_interval_by_hand():
    scores = [[1.0, 3.0], [7.0, 9.0], [4.0, 6.0]]  # run means 2, 8, 5
    half = stats.t.ppf(0.975, 2) * 3 / math.sqrt(3)
    got = mean_interval(scores, same_tasks=False)
    assert got[:3] == pytest.approx((5, 5 - half, 5 + half))


def test_equal_run_means_do_not_give_an_interval_without_width():
    scores = [[0.0, 2.0], [2.0, 0.0]]  # nested: MSW = 2; crossed: MSE = 4
    nested, crossed = (mean_interval(scores, same_tasks=same) for same in (False, True))
    assert nested.high - 1 == pytest.approx(stats.t.ppf(0.975, 1) * math.sqrt(2 / 4))
    assert crossed.high - 1 == pytest.approx(stats.t.ppf(0.975, 1) * math.sqrt(4 / 4))


@pytest.mark.parametrize("same_tasks", [True, False])
def test_single_runs_and_single_tasks_have_students_interval(same_tasks):
    values = [1.0, 4.0, 2.0]
    run = mean_interval([values], same_tasks=same_tasks)
    task = mean_interval([[value] for value in values], same_tasks=same_tasks)
    assert run == student_interval(values, "tasks")
    assert task == student_interval(values, "runs")


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 40)])
def test_scores_without_variation_have_no_interval(shape):
    got = mean_interval(np.full(shape, 2.5), same_tasks=True)
    assert (got.value, got.low, got.high) == (2.5, -math.inf, math.inf)
    assert not got.has_interval


def test_success_in_every_task_has_the_exact_interval_of_a_proportion():
    got = mean_interval(np.ones((2, 40)), same_tasks=False, bounds=(0, 1))
    exact = stats.binomtest(40, 40).proportion_ci(0.95, method="exact")
    assert got[:3] == pytest.approx((1, exact.low, exact.high))
    never = mean_interval(np.zeros((1, 40)), same_tasks=True, bounds=(0, 1))
    assert never[:3] == pytest.approx((0, 0, 1 - exact.low))


def test_equal_scores_within_bounds_are_as_certain_as_the_absence_of_other_scores():
    other = stats.binomtest(0, 40).proportion_ci(0.95, method="exact").high
    half = mean_interval(np.full((2, 40), 0.5), same_tasks=False, bounds=(0, 1))
    assert half[:3] == pytest.approx((0.5, 0.5 - other / 2, 0.5 + other / 2))
    change = mean_interval(np.zeros((1, 40)), same_tasks=True, bounds=(-1, 1))
    assert change[:3] == pytest.approx((0, -other, other))


def test_the_interval_without_variation_covers_rare_other_scores():
    rng = np.random.default_rng(0)
    for probability in (0.01, 0.05, 0.2):
        samples = np.where(rng.random((400, 1, 20)) < probability, 1.0, 0.5)
        intervals = [mean_interval(x, same_tasks=True, bounds=(0, 1)) for x in samples]
        certain = [got for got in intervals if got.value == 0.5]
        expected = 0.5 + probability / 2
        missed = sum(expected > got.high for got in certain) / len(intervals)
        assert missed <= 0.025 + 3 * (0.025 / 400) ** 0.5


def test_differences_that_vary_by_rounding_only_have_no_interval():
    before = np.random.default_rng(2).normal(size=(2, 5))
    gains = (before + 0.1) - before
    assert gains.min() < gains.max()
    assert not mean_interval(gains + 1, same_tasks=True).has_interval
    assert not student_interval(gains[0] + 1, "tasks").has_interval


def test_intervals_are_cut_to_the_bounds():
    scores = [[0.9, 1.0], [0.2, 0.3]]
    assert mean_interval(scores, same_tasks=False, bounds=(0, 1))[1:3] == (0, 1)
    assert mean_interval(scores, same_tasks=False).high > 1


def test_a_shift_moves_the_interval_and_a_factor_scales_it():
    scores = np.random.default_rng(1).gamma(2.0, size=(4, 6))
    for same_tasks in (True, False):
        base = np.array(mean_interval(scores, same_tasks=same_tasks)[:3])
        moved = mean_interval(3 * scores - 10, same_tasks=same_tasks)
        assert moved[:3] == pytest.approx(3 * base - 10)


def test_satterthwaite_of_equal_parts_adds_their_degrees_of_freedom():
    assert satterthwaite([(2.0, 5), (2.0, 5)]) == pytest.approx(10)
    assert satterthwaite([(1.0, 3), (-1.0, 3)]) == 1


@pytest.mark.parametrize("num_runs", [2, 3, 5, 10])
@pytest.mark.parametrize("deviations", RATIOS)
@pytest.mark.parametrize("same_tasks", [True, False], ids=["crossed", "nested"])
def test_intervals_cover_the_expectation_over_new_runs_and_new_tasks(
    num_runs, deviations, same_tasks
):
    rng = np.random.default_rng(num_runs)
    repetitions, num_tasks = 400, 40
    of_runs, of_tasks, residual = deviations
    tasks = (repetitions, 1 if same_tasks else num_runs, num_tasks)
    samples = (
        of_runs * rng.normal(size=(repetitions, num_runs, 1))
        + of_tasks * rng.normal(size=tasks)
        + residual * rng.normal(size=(repetitions, num_runs, num_tasks))
    )
    intervals = [mean_interval(scores, same_tasks=same_tasks) for scores in samples]
    coverage = np.mean([got.low <= 0 <= got.high for got in intervals])
    assert coverage >= (0.85 if num_runs == 2 else 0.90)


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        ([1.0, 2.0], {}, r"scores must be a matrix \[runs, tasks\], got shape \(2,\)"),
        ([[1.0, math.nan]], {}, "scores must be finite, got nan in run 0, task 1"),
        ([[1.0, 2.0]], {"confidence": 1.0}, "confidence must be between 0 and 1"),
        ([[1.0, 1.0]], {"confidence": 0.0}, "confidence must be between 0 and 1"),
        ([[0.5, 2.0]], {"bounds": (0, 1)}, "scores must be between 0 and 1, got 0.5 to 2.0"),
    ],
)
def test_mistakes(scores, options, message):
    with pytest.raises(ValueError, match=message):
        mean_interval(scores, same_tasks=True, **options)


@pytest.mark.parametrize("values", [[], [[1.0]], [math.inf]])
def test_values_must_be_a_vector_of_finite_numbers(values):
    with pytest.raises(ValueError, match="values must be a non-empty vector of finite numbers"):
        student_interval(values, "tasks")


def test_one_value_has_no_interval():
    assert student_interval([3.0], "runs") == Estimate(3.0, -math.inf, math.inf, "runs")
