"""Means of scores with confidence intervals for new runs and new tasks.

The scores of one algorithm are a matrix [runs, tasks]; runs differ in the training seed. All
functions take the variation of runs and of tasks into account, so that an interval answers: what
would the mean be after training again and evaluating on other tasks of the same distribution?
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from metarl.statistics.bootstrap import Scores, as_scores
from metarl.statistics.estimate import Estimate, Unit

__all__ = [
    "mean_interval",
    "mean_variance",
    "student_band",
    "student_interval",
    "mean_squares",
    "satterthwaite",
    "half_width",
    "bounded",
    "lacks_variation",
    "without_variation",
]

_RELATIVE_ROUNDING = 1e-12


def mean_interval(
    scores: ArrayLike,
    *,
    same_tasks: bool,
    bounds: tuple[float, float] | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Mean over runs and tasks, with an interval for new runs on new tasks.

    `same_tasks` states the design. If all runs were evaluated on the same tasks, tasks and runs
    are crossed, x_rt = μ + run_r + task_t + residual_rt. With the run means a, task means b and the
    grand mean m, the mean squares are

        MSR = T·var(a),   MST = R·var(b),   MSE = Σ_rt (x_rt − a_r − b_t + m)² / ((R−1)(T−1))

    and the variance of m is estimated by V = max(MSR + MST − MSE, MSR, MST, MSE) / (RT). The
    interval is m ± t_ν √V with Satterthwaite's degrees of freedom

        ν = max(1, (MSR + MST − MSE)² / (MSR²/(R−1) + MST²/(T−1) + MSE²/((R−1)(T−1)))).

    If each run has its own tasks, tasks are nested in runs and the run means are independent. The
    interval is m ± t_{R−1} √V with V = max(MSR, MSW) / (RT), MSW the mean over runs of the variance
    within a run. (V = MSR / (RT) alone is Student's interval of the run means; MSR is rarely
    smaller than MSW, and MSW keeps the interval from collapsing if the means are almost equal.)
    With a single run the interval is over its tasks, and with a single task over runs, both
    Student's.

    There is no interval, and both ends are infinite, if there is only one score, or if all scores
    are equal (except for rounding) and `bounds` are not given: a sample without variation does not
    bound the size of another score. With `bounds` there is one: see `without_variation`.

    Args:
        scores: x, shape [R, T].
        same_tasks: whether column t is the same task in every run.
        bounds: smallest and largest possible score, such as (0, 1) for success rates; the
            interval is cut to them.
        confidence: confidence level of the interval, in (0, 1).

    Returns:
        Mean, both ends, and what the interval is over.

    Raises:
        ValueError: if `scores` is not a non-empty matrix of finite numbers, a score is outside
            `bounds`, or `confidence` is not in (0, 1).

    Source: Satterthwaite 1946 for ν; the coverage of the alternatives was simulated, see
    docs/concepts/intervals.md.

    >>> mean_interval([[1.0, 3.0], [3.0, 5.0]], same_tasks=False)[:2]  # 3 − 12.706 · 1
    (3.0, -9.706204736174694)
    """
    matrix = as_scores(scores)
    if matrix.ndim != 2:
        raise ValueError(f"scores must be a matrix [runs, tasks], got shape {matrix.shape}")
    if bounds is not None and not (bounds[0] <= matrix.min() and matrix.max() <= bounds[1]):
        raise ValueError(
            f"scores must be between {bounds[0]} and {bounds[1]}, "
            f"got {matrix.min()} to {matrix.max()}"
        )
    num_runs, num_tasks = matrix.shape
    unit: Unit = "tasks" if num_runs == 1 else "runs" if num_tasks == 1 else "runs and tasks"
    if lacks_variation(matrix):
        return without_variation(float(matrix.mean()), num_tasks, unit, bounds, confidence)
    if unit != "runs and tasks":
        return student_interval(matrix.ravel(), unit, bounds=bounds, confidence=confidence)
    variance, freedom = mean_variance(matrix, same_tasks=same_tasks)
    half = half_width(variance, freedom, confidence)
    return bounded(float(matrix.mean()), half, unit, bounds)


def mean_variance(matrix: Scores, *, same_tasks: bool) -> tuple[float, float]:
    """Variance of the mean of scores [R, T] and its degrees of freedom; see `mean_interval`.

    The variance of a single score is infinite, with 0 degrees of freedom.
    """
    if min(matrix.shape) == 1:
        values = matrix.ravel()
        variance = float(values.var(ddof=1)) / values.size if values.size > 1 else math.inf
        return variance, values.size - 1
    return _crossed(matrix) if same_tasks else _nested(matrix)


def student_interval(
    values: ArrayLike,
    over: Unit,
    *,
    bounds: tuple[float, float] | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Mean of n independent values with Student's interval, m ± t_{n−1} s/√n.

    One value, and equal values without `bounds`, have no interval, as in `mean_interval`.

    Args:
        values: shape [n].
        over: the unit that the values belong to, for `Estimate.over`.
        bounds: smallest and largest possible value; the interval is cut to them.
        confidence: confidence level of the interval, in (0, 1).

    Raises:
        ValueError: if `values` is not a non-empty vector of finite numbers, or `confidence` is
            not in (0, 1).
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not sample.size or not np.isfinite(sample).all():
        raise ValueError(f"values must be a non-empty vector of finite numbers, got {values!r}")
    if lacks_variation(sample):
        return without_variation(float(sample.mean()), sample.size, over, bounds, confidence)
    variance = float(sample.var(ddof=1)) / sample.size
    half = half_width(variance, sample.size - 1, confidence)
    return bounded(float(sample.mean()), half, over, bounds)


def student_band(values: Scores, confidence: float = 0.95) -> tuple[Scores, Scores]:
    """Student's interval of the mean over runs at each of K points.

    Args:
        values: one row per run, shape [R, K], R ≥ 2.
        confidence: confidence level at each point, in (0, 1).

    Returns:
        Lower and upper ends, each [K]; NaN at points where all runs are equal.
    """
    unit = half_width(1.0, len(values) - 1, confidence)
    deviations = values.std(axis=0, ddof=1)
    halves = np.where(deviations > 0, unit * deviations / math.sqrt(len(values)), math.nan)
    mean = values.mean(axis=0)
    return mean - halves, mean + halves


def satterthwaite(parts: Iterable[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of independent mean squares, (Σ v)² / Σ v²/ν; 1 or more.

    Args:
        parts: v and ν of each summand; v is negative if it is subtracted.

    Source: Satterthwaite 1946.
    """
    summands = list(parts)
    total = sum(value for value, _ in summands)
    spread = sum(value**2 / freedom for value, freedom in summands)
    return max(1.0, total**2 / spread) if spread > 0 else 1.0


def half_width(variance: float, freedom: float, confidence: float) -> float:
    """Half the width of a t interval, t_ν √V; infinite without a degree of freedom.

    Raises:
        ValueError: if `confidence` is not in (0, 1).
    """
    _check_confidence(confidence)
    if freedom <= 0:
        return math.inf
    return float(stdtrit(freedom, (1 + confidence) / 2)) * math.sqrt(variance)


def bounded(
    mean: float, half: float, over: Unit, bounds: tuple[float, float] | None = None
) -> Estimate:
    """The interval mean ± half, cut to `bounds`."""
    low, high = bounds or (-math.inf, math.inf)
    return Estimate(mean, max(low, mean - half), min(high, mean + half), over)


def lacks_variation(values: Scores) -> bool:
    """Whether all values are equal, except for rounding."""
    return float(np.ptp(values)) <= _RELATIVE_ROUNDING * float(np.abs(values).max())


def without_variation(
    value: float,
    num_tasks: int,
    over: Unit,
    bounds: tuple[float, float] | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """The interval of a mean if all T tasks have the same score x.

    Without `bounds` there is none, since a rare other score can have any size. With them, the
    exact upper limit of the probability of another score is r = 1 − (α/2)^{1/T}, α = 1 −
    confidence (Clopper & Pearson 1934, for 0 of T), so the interval is

        [x − r (x − lowest),  x + r (highest − x)]

    For success in every task, x = 1, it is the exact interval of a proportion.

    Raises:
        ValueError: if `confidence` is not in (0, 1).
    """
    _check_confidence(confidence)
    if bounds is None:
        return Estimate(value, -math.inf, math.inf, over)
    other = 1 - ((1 - confidence) / 2) ** (1 / num_tasks)
    low, high = bounds
    return Estimate(value, value - other * (value - low), value + other * (high - value), over)


def mean_squares(matrix: Scores) -> tuple[float, float, float]:
    """MSR, MST and MSE of a crossed design [R, T] with R, T ≥ 2; see `mean_interval`."""
    num_runs, num_tasks = matrix.shape
    runs, tasks = matrix.mean(axis=1, keepdims=True), matrix.mean(axis=0, keepdims=True)
    residuals = matrix - runs - tasks + matrix.mean()
    squares = (residuals**2).sum() / ((num_runs - 1) * (num_tasks - 1))
    return (
        float(num_tasks * runs.var(ddof=1)),
        float(num_runs * tasks.var(ddof=1)),
        float(squares),
    )


def _crossed(matrix: Scores) -> tuple[float, float]:
    """Variance of the mean and its degrees of freedom if all runs have the same tasks."""
    num_runs, num_tasks = matrix.shape
    of_runs, of_tasks, residual = mean_squares(matrix)
    freedom = satterthwaite(
        [
            (of_runs, num_runs - 1),
            (of_tasks, num_tasks - 1),
            (-residual, (num_runs - 1) * (num_tasks - 1)),
        ]
    )
    return max(of_runs + of_tasks - residual, of_runs, of_tasks, residual) / matrix.size, freedom


def _nested(matrix: Scores) -> tuple[float, float]:
    """Variance of the mean and its degrees of freedom if each run has its own tasks."""
    num_runs, num_tasks = matrix.shape
    of_runs = num_tasks * matrix.mean(axis=1).var(ddof=1)
    within = matrix.var(axis=1, ddof=1).mean()
    return float(max(of_runs, within)) / matrix.size, num_runs - 1


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, both excluded, got {confidence}")
