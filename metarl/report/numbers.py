"""Numbers as text, with as many decimals as their size requires."""

from __future__ import annotations

import numpy as np

from metarl.evaluation.fewshot_results import FewShotResult
from metarl.statistics.estimate import Estimate

__all__ = ["score_text", "fixed_text", "half_text", "interval_text", "number_text"]


def score_text(result: FewShotResult, row: int) -> tuple[str, str]:
    """A row's mean and half width, as `metarl evaluate` prints them."""
    interval, scores = result.intervals[row], result.measured.scores[row]
    if interval is None:
        lost = int((~np.isfinite(scores)).any(0).sum())
        return "diverged", f"{lost} of {scores.shape[-1]} tasks"
    scale, digits = (1, 3) if result.is_error else (100, 2)
    return fixed_text(interval.value * scale, digits), f"± {half_text(interval, scale, digits)}"


def half_text(estimate: Estimate, scale: float, digits: int) -> str:
    """The larger side of an interval in units of 1 / scale; a dash if there is no interval."""
    half = max(estimate.value - estimate.low, estimate.high - estimate.value)
    return fixed_text(half * scale, digits) if estimate.has_interval else "—"


_POWERS_FROM = 1e6


def number_text(value: float, *, largest: float | None = None) -> str:
    """A number with a true minus sign, and as many decimals as fit the largest of its row.

    >>> number_text(-7.246), number_text(0.5), number_text(-431.97)
    ('−7.25', '0.50', '−432')
    """
    size = abs(value) if largest is None else largest
    digits = 2 if size < 10 else 1 if size < 100 else 0
    shown = f"{value:.{digits}f}"
    return shown.replace("-", "−")


def fixed_text(value: float, digits: int) -> str:
    """A number with `digits` decimals, or as a power of ten from one million.

    >>> fixed_text(0.37421, 3), fixed_text(2.6e25, 3)
    ('0.374', '2.6e+25')
    """
    return f"{value:.{digits}f}" if abs(value) < _POWERS_FROM else f"{value:.1e}"


def interval_text(estimate: Estimate, *, signed: bool = False) -> tuple[str, str]:
    """A value and its interval in words, as "−7.2" and "−7.9 … −6.6"; a dash for no interval."""
    if not estimate.has_interval:
        return number_text(estimate.value), "—"
    largest = max(map(abs, estimate[:3]))
    value, low, high = (number_text(v, largest=largest) for v in estimate[:3])
    plus = "+" if signed and estimate.value > 0 else ""
    return plus + value, f"{low} … {high}"
