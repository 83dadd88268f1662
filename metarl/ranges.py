"""Range checks of settings, each failing with one sentence."""

from __future__ import annotations

import math
from numbers import Integral

__all__ = ["require_at_least", "require_between", "require_pair"]


def require_at_least(name: str, value: int, low: int) -> None:
    """Refuse a count below `low`, or one that is no whole number.

    Raises:
        ValueError: naming the setting, what was needed and what came.
    """
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number, {low} or more, got {value!r}")
    if value < low:
        raise ValueError(f"{name} must be {low} or more, got {value}")


def require_between(
    name: str,
    value: float,
    low: float,
    high: float,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Refuse a number outside an interval, or one that is not finite.

    Raises:
        ValueError: naming the setting, what was needed and what came.
    """
    above = value > low if open_low else value >= low
    below = value < high if open_high else value <= high
    if math.isfinite(value) and above and below:
        return
    left, right = "(" if open_low else "[", ")" if open_high or math.isinf(high) else "]"
    bound = "∞" if math.isinf(high) else f"{high:g}"
    raise ValueError(f"{name} must lie in {left}{low:g}, {bound}{right}, got {value}")


def require_pair(name: str, bounds: tuple[float, ...]) -> None:
    """Refuse bounds of a range that are not two finite numbers in order.

    Raises:
        ValueError: naming the argument.
    """
    if len(bounds) != 2 or not -math.inf < bounds[0] <= bounds[1] < math.inf:
        raise ValueError(f"{name} must be two numbers, the lower first, got {bounds}")
