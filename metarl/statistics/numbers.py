"""Numbers as text, with as many decimals as their size requires."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "MAX_DECIMALS",
    "decimals",
    "distinct_decimals",
    "fixed_text",
    "number_text",
    "signed_text",
]

MAX_DECIMALS = 12
_POWERS_FROM = 1e6


def number_text(value: float, *, largest: float | None = None) -> str:
    """A number with a true minus sign, and as many decimals as fit the largest of its row.

    >>> number_text(-7.246), number_text(0.5), number_text(-431.97)
    ('−7.25', '0.50', '−432')
    """
    return signed_text(value, decimals(abs(value) if largest is None else largest))


def fixed_text(value: float, digits: int) -> str:
    """A number with a true minus sign and `digits` decimals; from one million, a power of ten.

    >>> fixed_text(-0.37421, 3), fixed_text(2.6e25, 3)
    ('−0.374', '2.6e+25')
    """
    if abs(value) >= _POWERS_FROM:
        return f"{value:.1e}".replace("-", "−")
    return signed_text(value, digits)


def decimals(size: float) -> int:
    """Decimals of a number of a size."""
    return 2 if size < 10 else 1 if size < 100 else 0


def distinct_decimals(numbers: Sequence[float], digits: int) -> int:
    """At least `digits` decimals, enough to distinguish both ends of (value, low, high)."""
    _, low, high = numbers
    while low < high and f"{low:.{digits}f}" == f"{high:.{digits}f}" and digits < MAX_DECIMALS:
        digits += 1
    return digits


def signed_text(value: float, digits: int) -> str:
    """A number with `digits` decimals and a true minus sign; zero has none."""
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.removeprefix("-")
