"""Numbers as text, with as many decimals as their size requires."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metarl.evaluation.fewshot_results import FewShotResult
from metarl.statistics.estimate import Estimate

__all__ = [
    "score_text",
    "fixed_text",
    "half_text",
    "interval_text",
    "number_text",
    "percent_text",
    "share_text",
    "share_interval_text",
]

_MOST_DECIMALS = 12


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
    while half > 0 and not float(f"{half:.{digits}f}") and digits < _MOST_DECIMALS:
        digits += 1
    return fixed_text(half, digits)


_POWERS_FROM = 1e6


def number_text(value: float, *, largest: float | None = None) -> str:
    """A number with a true minus sign, and as many decimals as fit the largest of its row.

    >>> number_text(-7.246), number_text(0.5), number_text(-431.97)
    ('−7.25', '0.50', '−432')
    """
    return _signed(value, _decimals(abs(value) if largest is None else largest))


def fixed_text(value: float, digits: int) -> str:
    """A number with `digits` decimals, or as a power of ten from one million.

    >>> fixed_text(0.37421, 3), fixed_text(2.6e25, 3)
    ('0.374', '2.6e+25')
    """
    return f"{value:.{digits}f}" if abs(value) < _POWERS_FROM else f"{value:.1e}"


def interval_text(estimate: Estimate, *, signed: bool = False) -> tuple[str, str]:
    """A value and its interval in words, as "−7.2" and "−7.9 … −6.6"; a dash for no interval.

    There are as many decimals as fit the largest number, and more if the ends are closer.
    """
    if not estimate.has_interval:
        return number_text(estimate.value), "—"
    numbers = estimate[:3]
    digits = _distinct(numbers, _decimals(max(map(abs, numbers))))
    value, low, high = (_signed(number, digits) for number in numbers)
    plus = "+" if signed and estimate.value > 0 else ""
    return plus + value, f"{low} … {high}"


def percent_text(estimate: Estimate, digits: int = 0) -> tuple[str, str]:
    """A share and its interval as percentages without the sign %; a dash for no interval."""
    numbers = [100 * number for number in estimate[:3]]
    if not estimate.has_interval:
        return _signed(numbers[0], digits), "—"
    digits = _distinct(numbers, digits)
    value, low, high = (_signed(number, digits) for number in numbers)
    return value, f"{low} … {high}"


def share_text(share: float | None) -> str:
    """A share in percent; "" for None."""
    return "" if share is None else f"{_signed(100 * share, 0)}%"


def share_interval_text(share: Estimate) -> tuple[str, str]:
    """A share and its interval, as "81%" and "60% … 95%"; a dash for no interval."""
    value, interval = percent_text(share)
    return f"{value}%", " … ".join(
        f"{end}%" if end != "—" else end for end in interval.split(" … ")
    )


def _decimals(size: float) -> int:
    """Decimals of a number of a size."""
    return 2 if size < 10 else 1 if size < 100 else 0


def _distinct(numbers: Sequence[float], digits: int) -> int:
    """As many decimals as are needed to tell both ends of (value, low, high) apart."""
    _, low, high = numbers
    while low < high and f"{low:.{digits}f}" == f"{high:.{digits}f}" and digits < _MOST_DECIMALS:
        digits += 1
    return digits


def _signed(value: float, digits: int) -> str:
    """A number with a true minus sign; zero has none."""
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.removeprefix("-")
