"""Means with 95 % confidence intervals."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from metarl.statistics.bootstrap import as_scores, check_num_resamples, percentile_ends

__all__ = ["Interval", "mean_interval", "crossed_interval", "normal_interval"]


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
        confidence: confidence level of the interval, in (0, 1).
        num_resamples: number of bootstrap samples.
        seed: seed of the resampling.

    Returns:
        Mean, lower and upper end; with one value all three are that value.

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
    """Mean ± 1.96 s/√n with the sample variance s² (divided by n − 1), as few-shot papers report.

    With one value, both ends of the interval are that value.

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

    s² is the sample variance of the n tasks' means over runs, r² the sample variance of the m runs'
    means over tasks. With variances σ_T² of tasks, σ_R² of runs and σ² of the residual, the
    expectation of s²/n + r²/m is σ_T²/n + σ_R²/m + 2σ²/(nm), which exceeds the variance of the mean
    by σ²/(nm). With few runs, r² is estimated from few numbers. With one run there is no r, and the
    interval equals `normal_interval`, over tasks only.

    Args:
        scores: scores of m runs on the same n tasks, [runs, tasks].

    Raises:
        ValueError: if `scores` is not a non-empty matrix of finite numbers.

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
