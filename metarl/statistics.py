"""Means with intervals, and the statistics by which algorithms are compared over runs and tasks.

Scores of one algorithm are a matrix [runs, tasks]; each statistic also takes a stack of matrices,
[..., runs, tasks]. Definitions are those of rliable (Agarwal et al. 2021, arXiv:2108.13264).
Intervals come from `bootstrap`, curves over score thresholds from `performance_profiles`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from metarl.bootstrap import (
    Scores,
    Values,
    as_scores,
    check_num_resamples,
    check_same_tasks,
    percentile_ends,
)

__all__ = [
    "Interval",
    "mean_interval",
    "crossed_interval",
    "normal_interval",
    "mean_score",
    "median_score",
    "interquartile_mean",
    "optimality_gap",
    "probability_of_improvement",
]


class Interval(NamedTuple):
    """A mean and its confidence interval."""

    mean: float
    low: float
    high: float


def mean_interval(
    values: ArrayLike, *, confidence: float = 0.95, num_resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Mean of independent values with a percentile-bootstrap interval.

    Args:
        values: one number per task (or run), shape [n], n ≥ 1.
        confidence: of the interval, in (0, 1).
        num_resamples: bootstrap samples.
        seed: of the resampling; the same seed gives the same interval.

    Returns:
        Mean, lower and upper end. With one value the interval is that value.

    Raises:
        ValueError: if `values` is not a non-empty vector of finite numbers, or a number is out of
            range.

    Source: Efron & Tibshirani 1993, sec. 13.3.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not sample.size or not np.isfinite(sample).all():
        raise ValueError(f"values must be a non-empty vector of finite numbers, got {values!r}")
    check_num_resamples(num_resamples)
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, sample.size, (num_resamples, sample.size))
    low, high = percentile_ends(sample[picks].mean(axis=1), confidence)
    return Interval(float(sample.mean()), float(low), float(high))


def normal_interval(values: ArrayLike) -> Interval:
    """Mean ± 1.96 s/√n, s² the sample variance (divided by n − 1): as few-shot papers report.

    Of one value the interval is that value.

    Raises:
        ValueError: if `values` is not a non-empty vector of finite numbers.

    >>> normal_interval([1.0, 2.0, 3.0, 6.0]).mean
    3.0
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not sample.size or not np.isfinite(sample).all():
        raise ValueError(f"values must be a non-empty vector of finite numbers, got {values!r}")
    mean = float(sample.mean())
    half = 1.96 * float(sample.std(ddof=1)) / np.sqrt(sample.size) if sample.size > 1 else 0.0
    return Interval(mean, float(mean - half), float(mean + half))


def crossed_interval(scores: ArrayLike) -> Interval:
    """Mean over runs and tasks, with an interval for other runs on other tasks.

        mean ± 1.96 √(s²/n + r²/m)

    s² is the sample variance of the n tasks' means over runs, r² that of the m runs' means over
    tasks. With the variances σ_T² of tasks, σ_R² of runs and σ² of what is left, the expectation
    of s²/n + r²/m is σ_T²/n + σ_R²/m + 2σ²/(nm): that of the mean, with σ²/(nm) too much. Where
    runs are few their part rests on few numbers. One run has no r, so the interval is that of
    `normal_interval`, over tasks only.

    Args:
        scores: of m runs on the same n tasks, [runs, tasks].

    Raises:
        ValueError: if `scores` is no non-empty matrix of finite numbers.

    >>> interval = crossed_interval([[1.0, 3.0], [3.0, 5.0]])
    >>> interval.mean, round(interval.high - interval.mean, 4)  # 1.96 √(2/2 + 2/2)
    (3.0, 2.7719)
    """
    matrix = as_scores(scores)
    if matrix.ndim != 2:
        raise ValueError(f"scores must be a matrix [runs, tasks], got shape {matrix.shape}")
    means = (matrix.mean(axis=0), matrix.mean(axis=1))
    halves = [interval.high - interval.mean for interval in map(normal_interval, means)]
    mean, half = float(matrix.mean()), math.hypot(*halves)
    return Interval(mean, mean - half, mean + half)


def mean_score(scores: ArrayLike) -> Values:
    """Mean over runs and tasks, of scores [..., runs, tasks]."""
    return _mean(as_scores(scores))


def median_score(scores: ArrayLike) -> Values:
    """Median over tasks of the mean over runs, of scores [..., runs, tasks]."""
    medians: Values = np.median(as_scores(scores).mean(axis=-2), axis=-1)
    return medians


def interquartile_mean(scores: ArrayLike) -> Values:
    """Mean of the middle half of all scores [..., runs, tasks], runs and tasks pooled.

        IQM = 1/(n − 2c) Σ_{i=c+1}^{n−c} x_(i),   c = ⌊n/4⌋

    with the n = runs · tasks scores x_(1) ≤ … ≤ x_(n) in order. Whole scores are cut, none is
    weighted: where 4 does not divide n, more than half are kept, and all of fewer than four.
    This is `scipy.stats.trim_mean(scores, 0.25, axis=None)`.

    Source: Agarwal et al. 2021 (arXiv:2108.13264), sec. 4.3.
    """
    matrices = as_scores(scores)
    pooled = matrices.reshape(*matrices.shape[:-2], -1)
    count = pooled.shape[-1]
    cut = count // 4
    ordered = np.partition(pooled, (cut, count - cut - 1), axis=-1)
    means: Values = ordered[..., cut : count - cut].mean(axis=-1)
    return means


def optimality_gap(scores: ArrayLike, *, target: float = 1.0) -> Values:
    """Mean of max(target − score, 0) over runs and tasks, of scores [..., runs, tasks].

    How far scores fall short of a target; what exceeds it earns nothing. Lower is better.

    Source: Agarwal et al. 2021 (arXiv:2108.13264), sec. 4.3.
    """
    return _mean(np.maximum(target - as_scores(scores), 0.0))


def probability_of_improvement(scores_x: ArrayLike, scores_y: ArrayLike) -> Values:
    """How often a run of X beats a run of Y on the same task, averaged over tasks.

        1/M Σ_m 1/(NK) Σ_i Σ_j S(x_im, y_jm),   S = 1 if x > y, ½ if x = y, else 0

    The inner sum is the Mann-Whitney U of task m.

    Args:
        scores_x: x, shape [..., N, M].
        scores_y: y, shape [..., K, M]; the columns are the same tasks.

    Returns:
        In [0, 1]; ½ where neither is better.

    Raises:
        ValueError: if the tasks are not as many, or either is no matrix of finite scores.

    Source: Agarwal et al. 2021 (arXiv:2108.13264), sec. 4.3.
    """
    x, y = as_scores(scores_x, "scores_x"), as_scores(scores_y, "scores_y")
    check_same_tasks((x, y))
    x, y = x[..., :, None, :], y[..., None, :, :]
    wins = (x > y).mean(axis=(-3, -2, -1))
    wins_and_ties = (x >= y).mean(axis=(-3, -2, -1))
    chances: Values = (wins + wins_and_ties) / 2
    return chances


def _mean(matrices: Scores) -> Values:
    means: Values = matrices.mean(axis=(-2, -1))
    return means
