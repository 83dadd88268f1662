"""Scores and estimates as text."""

from __future__ import annotations

import numpy as np

from metarl.evaluation.fewshot_results import FewShotResult
from metarl.statistics.estimate import Estimate
from metarl.statistics.numbers import (
    MAX_DECIMALS,
    decimals,
    distinct_decimals,
    fixed_text,
    number_text,
    signed_text,
)

__all__ = [
    "counted",
    "half_text",
    "interval_text",
    "percent_text",
    "score_text",
    "share_interval_text",
    "share_text",
]


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
    half = max(estimate.value - estimate.low, estimate.high - estimate.value) * scale
    if not estimate.has_interval:
        return "—"
    while half > 0 and not float(f"{half:.{digits}f}") and digits < MAX_DECIMALS:
        digits += 1
    return fixed_text(half, digits)


def interval_text(estimate: Estimate, *, signed: bool = False) -> tuple[str, str]:
    """A value and its interval in words, as "−7.2" and "−7.9 … −6.6"; a dash for no interval.

    There are as many decimals as fit the largest number, and more if the ends are closer.
    """
    if not estimate.has_interval:
        return number_text(estimate.value), "—"
    numbers = estimate[:3]
    digits = distinct_decimals(numbers, decimals(max(map(abs, numbers))))
    value, low, high = (signed_text(number, digits) for number in numbers)
    plus = "+" if signed and estimate.value > 0 else ""
    return plus + value, f"{low} … {high}"


def percent_text(estimate: Estimate, digits: int = 0) -> tuple[str, str]:
    """A share and its interval as percentages without the sign %; a dash for no interval."""
    numbers = [100 * number for number in estimate[:3]]
    if not estimate.has_interval:
        return signed_text(numbers[0], digits), "—"
    digits = distinct_decimals(numbers, digits)
    value, low, high = (signed_text(number, digits) for number in numbers)
    return value, f"{low} … {high}"


def share_text(share: float | None) -> str:
    """A share in percent; "" for None."""
    return "" if share is None else f"{signed_text(100 * share, 0)}%"


def share_interval_text(share: Estimate) -> tuple[str, str]:
    """A share and its interval, as "81%" and "60% … 95%"; a dash for no interval."""
    value, interval = percent_text(share)
    return f"{value}%", " … ".join(
        f"{end}%" if end != "—" else end for end in interval.split(" … ")
    )


def counted(number: int, noun: str) -> str:
    """A number and its noun, as "1 task" and "1,000 tasks"."""
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}s"
