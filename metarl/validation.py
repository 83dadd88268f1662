"""Checks of settings and names, each failing with one sentence."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import TypeVar

__all__ = [
    "require_at_least",
    "require_between",
    "require_pair",
    "lookup",
    "unknown_name",
    "require_choice",
]


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


Value = TypeVar("Value")


def lookup(kind: str, name: str, choices: Mapping[str, Value]) -> Value:
    """The choice of this name.

    Raises:
        ValueError: if there is none, with the nearest.
    """
    if name not in choices:
        raise ValueError(unknown_name(kind, name, choices))
    return choices[name]


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> str:
    """The error sentence: what is unknown, the nearest match, all choices.

    >>> unknown_name("split", "tets", ["train", "test"])
    "split must be one of train, test, got 'tets'; did you mean 'test'?"
    """
    names = list(choices)
    folded = {choice.casefold(): choice for choice in names}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    hint = f"; did you mean {folded[near[0]]!r}?" if near else ""
    return f"{kind} must be one of {', '.join(names)}, got {name!r}{hint}"


def require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that is none of the choices.

    Raises:
        ValueError: with the nearest.
    """
    if value not in choices:
        raise ValueError(unknown_name(name, value, choices))
