"""Means with intervals, from raw numbers and a seed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Interval", "mean_interval"]


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
        ValueError: if `values` is not a non-empty vector of finite numbers.

    Source: Efron & Tibshirani 1993, sec. 13.3.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not sample.size or not np.isfinite(sample).all():
        raise ValueError(f"values must be a non-empty vector of finite numbers, got {values!r}")
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, sample.size, (num_resamples, sample.size))
    tail = (1 - confidence) / 2
    low, high = np.quantile(sample[picks].mean(axis=1), [tail, 1 - tail])
    return Interval(float(sample.mean()), float(low), float(high))
