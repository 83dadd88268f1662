"""Validation of settings and arguments; every failure is one sentence that names the argument.

A settings dataclass derives from `Settings` and writes the range of each field into its type, for
example `num_tasks: Count = 40`. Constructing it, from Python, from a command line or from a stored
file, checks every field against its type.
"""

from __future__ import annotations

import difflib
import functools
import math
import operator
import os
import types
from collections.abc import Iterable, Mapping
from dataclasses import fields
from numbers import Integral, Real
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from annotated_types import Ge, Gt, Interval, Le, Lt

__all__ = [
    "Count",
    "NonNegative",
    "SmallCount",
    "NumSteps",
    "Positive",
    "Seed",
    "Settings",
    "Share",
    "UnitInterval",
    "WholeNumber",
    "as_path",
    "check_value",
    "lookup",
    "plain_value",
    "require_at_least",
    "require_between",
    "require_choice",
    "require_pair",
    "short_repr",
    "unknown_name",
]

Count: TypeAlias = Annotated[int, Interval(ge=1, le=10**9)]
"""A whole number from 1 to a billion."""
WholeNumber: TypeAlias = Annotated[int, Interval(ge=0, le=10**9)]
"""A whole number from 0 to a billion."""
SmallCount: TypeAlias = Annotated[int, Interval(ge=1, le=100_000)]
"""A whole number from 1 to 100,000, such as the number of epochs in an iteration."""
NumSteps: TypeAlias = Annotated[int, Interval(ge=0, le=100_000)]
"""A whole number from 0 to 100,000: adaptation steps."""
Seed: TypeAlias = Annotated[int, Ge(0)]
"""A whole number from 0 to 2⁶³ − 1."""
Positive: TypeAlias = Annotated[float, Gt(0)]
"""A finite number above 0."""
NonNegative: TypeAlias = Annotated[float, Ge(0)]
"""A finite number, 0 or more."""
UnitInterval: TypeAlias = Annotated[float, Interval(ge=0, le=1)]
"""A number in [0, 1]."""
Share: TypeAlias = Annotated[float, Interval(gt=0, le=1)]
"""A number in (0, 1]."""

_LARGEST_INT = 2**63 - 1
_LARGEST_FLOAT = 3.4e38  # of float32, in which networks compute


class Settings:
    """Base of settings dataclasses: a field that does not fit its annotated type is rejected.

    Fields are int, float, bool, str, Literal, tuple, dict, a class, None, or a union of these.
    Numbers carry their range as `annotated_types` metadata and must be finite. Numbers and arrays
    of NumPy become numbers and tuples, which files can hold.

    Raises:
        ValueError: naming the first field that does not fit, or that contradicts another.
    """

    def __post_init__(self) -> None:
        for name, hint in _field_types(type(self)).items():  # type: ignore[arg-type] # classes are hashable
            given = getattr(self, name)
            value = plain_value(given)
            check_value(name, value, hint)
            if value is not given:
                object.__setattr__(self, name, value)  # a frozen dataclass, under construction
        self.check_consistency()

    def check_consistency(self) -> None:
        """Raise ValueError if settings contradict one another; an override also calls super."""


def plain_value(value: Any) -> Any:
    """Convert NumPy numbers to Python numbers, and arrays and lists to tuples.

    >>> from fractions import Fraction
    >>> plain_value([Fraction(1, 2), 3])
    (0.5, 3)
    """
    if hasattr(value, "dtype") and hasattr(value, "tolist"):  # an array or a number of NumPy
        return plain_value(value.tolist())
    if isinstance(value, list | tuple):
        items = tuple(plain_value(item) for item in value)
        is_same = isinstance(value, tuple) and all(map(operator.is_, items, value))
        return value if is_same else items
    if isinstance(value, Real) and not isinstance(value, int | float):
        return int(value) if isinstance(value, Integral) else float(value)
    return value


@functools.cache
def _field_types(settings_type: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(settings_type, include_extras=True)
    return {field.name: hints[field.name] for field in fields(settings_type)}


def check_value(name: str, value: object, hint: Any) -> None:
    """Reject a value that does not fit a type.

    Args:
        name: name of the setting or argument, at the start of the message.
        value: anything.
        hint: a type that a field of `Settings` may have.

    Raises:
        ValueError: stating what was needed and what was given.
    """
    origin = get_origin(hint)
    if origin is Annotated:
        _check_annotated(name, value, hint)
    elif origin in (Union, types.UnionType):
        _check_union(name, value, get_args(hint))
    elif origin is Literal:
        _check_choice(name, value, get_args(hint))
    elif origin is tuple:
        _check_tuple(name, value, get_args(hint))
    elif hint is int:
        _check_int(name, value)
    elif hint is float:
        _check_float(name, value, -math.inf, math.inf)
    elif hint is not Any and not isinstance(value, origin or hint):
        raise ValueError(f"{name} must be {_described(hint)}, got {short_repr(value)}")


def _check_annotated(name: str, value: object, hint: Any) -> None:
    kind, *metadata = get_args(hint)
    low, high, open_low, open_high = _bounds(metadata)
    if kind is int:
        _check_int(name, value, int(low) if math.isfinite(low) else None)
        if math.isfinite(high) and value > high:  # type: ignore[operator] # an integer
            raise ValueError(f"{name} must be at most {int(high):,}, got {value}")
    elif kind is float:
        _check_float(name, value, low, high, open_low=open_low, open_high=open_high)
    else:
        check_value(name, value, kind)


def _bounds(metadata: Iterable[object]) -> tuple[float, float, bool, bool]:
    """Low, high, and whether each is excluded, of `annotated_types` metadata."""
    low, high, open_low, open_high = -math.inf, math.inf, False, False
    parts = [p for item in metadata for p in (item if isinstance(item, Interval) else [item])]
    for part in parts:
        if isinstance(part, Ge | Gt):
            bound: Any = part.ge if isinstance(part, Ge) else part.gt
            low, open_low = float(bound), isinstance(part, Gt)
        elif isinstance(part, Le | Lt):
            bound = part.le if isinstance(part, Le) else part.lt
            high, open_high = float(bound), isinstance(part, Lt)
    return low, high, open_low, open_high


def _check_union(name: str, value: object, choices: tuple[Any, ...]) -> None:
    if value is None and type(None) in choices:
        return
    others = [choice for choice in choices if choice is not type(None)]
    if len(others) == 1 and _is_of_kind(value, others[0]):
        check_value(name, value, others[0])  # a type fits, so only its range can be wrong
        return
    for choice in others:
        try:
            check_value(name, value, choice)
        except ValueError:
            continue
        return
    wanted = " or ".join(_described(choice) for choice in choices)
    raise ValueError(f"{name} must be {wanted}, got {short_repr(value)}")


def _check_choice(name: str, value: object, choices: tuple[Any, ...]) -> None:
    if isinstance(value, str) and all(isinstance(choice, str) for choice in choices):
        require_choice(name, value, choices)
    elif isinstance(value, bool) != any(isinstance(choice, bool) for choice in choices) or (
        value not in choices
    ):
        wanted = ", ".join(map(str, choices))
        raise ValueError(f"{name} must be one of {wanted}, got {short_repr(value)}")


def _check_tuple(name: str, value: object, items: tuple[Any, ...]) -> None:
    if not isinstance(value, tuple):
        raise ValueError(f"{name} must be a tuple, got {short_repr(value)}")
    repeated = len(items) == 2 and items[1] is Ellipsis
    if not repeated and len(value) != len(items):
        raise ValueError(f"{name} must have {len(items)} entries, got {short_repr(value)}")
    for item, hint in zip(value, items[:1] * len(value) if repeated else items, strict=True):
        check_value(name, item, hint)


def _check_int(name: str, value: object, low: int | None = None) -> None:
    if low is not None:
        require_at_least(name, value, low)
        return
    if not _is_int(value):
        raise ValueError(f"{name} must be a whole number, got {short_repr(value)}")
    _require_64_bits(name, value)


def _require_64_bits(name: str, value: object) -> None:
    if abs(value) > _LARGEST_INT:  # type: ignore[arg-type] # an integer, checked above
        raise ValueError(f"{name} must fit into 64 bits, got {short_repr(value)}")


def _check_float(
    name: str,
    value: object,
    low: float,
    high: float,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    if not _is_number(value):
        raise ValueError(f"{name} must be a number, got {short_repr(value)}")
    if _LARGEST_FLOAT < abs(value) < math.inf:  # type: ignore[arg-type]
        raise ValueError(
            f"{name} must be at most 3.4e38, the largest number of float32, got {short_repr(value)}"
        )
    require_between(name, float(value), low, high, open_low=open_low, open_high=open_high)  # type: ignore[arg-type]


def _is_int(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_of_kind(value: object, hint: Any) -> bool:
    """Whether a value has the type of a hint, whatever its range."""
    kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if kind is int:
        return _is_int(value)
    if kind is float:
        return _is_number(value)
    if get_origin(kind) is Literal:
        return isinstance(value, str)
    return isinstance(value, get_origin(kind) or kind)


def _described(hint: Any) -> str:
    origin = get_origin(hint)
    if origin is Annotated:
        return _described(get_args(hint)[0])
    if origin is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    words: dict[Any, str] = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        dict: "an object",
        tuple: "a list",
        type(None): "null",
    }
    return words.get(origin or hint) or f"a {(origin or hint).__name__}"


def short_repr(value: object) -> str:
    """A value as error messages show it: its representation, cut to 60 characters."""
    try:
        text = repr(value).replace("\n", " ")
    except ValueError:  # an integer with more digits than Python prints
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."


def as_path(name: str, value: object) -> Path:
    """A path from a string or a path.

    Raises:
        TypeError: if it is something else.
        ValueError: if it is empty or not a valid path.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path, got {short_repr(value)}")
    text = os.fspath(value)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(f"{name} must be a path of the file system, got {short_repr(value)}")
    return Path(text)


def require_at_least(name: str, value: object, low: int) -> None:
    """Reject a count below `low`, above 64 bits, or not a whole number.

    Raises:
        ValueError: stating what was needed and what was given.
    """
    if not _is_int(value):
        raise ValueError(f"{name} must be a whole number, {low} or more, got {short_repr(value)}")
    if value < low:  # type: ignore[operator] # an integer, checked above
        raise ValueError(f"{name} must be {low} or more, got {short_repr(value)}")
    _require_64_bits(name, value)


def require_between(
    name: str,
    value: float,
    low: float,
    high: float,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Reject a number outside an interval, or one that is not finite.

    Raises:
        ValueError: stating what was needed and what was given.
    """
    above = value > low if open_low else value >= low
    below = value < high if open_high else value <= high
    if math.isfinite(value) and above and below:
        return
    if math.isinf(low) and math.isinf(high):
        raise ValueError(f"{name} must be a finite number, got {value}")
    left, right = "(" if open_low else "[", ")" if open_high or math.isinf(high) else "]"
    bound = "∞" if math.isinf(high) else f"{high:g}"
    raise ValueError(f"{name} must lie in {left}{low:g}, {bound}{right}, got {value}")


def require_pair(name: str, bounds: tuple[float, ...]) -> None:
    """Reject bounds of a range that are not two finite numbers in order.

    Raises:
        ValueError: naming the argument.
    """
    if len(bounds) != 2 or not -math.inf < bounds[0] <= bounds[1] < math.inf:
        raise ValueError(f"{name} must be two numbers, the lower first, got {bounds}")


Value = TypeVar("Value")


def lookup(kind: str, name: str, choices: Mapping[str, Value]) -> Value:
    """The choice with this name.

    Raises:
        ValueError: if there is none; the message has the nearest name.
    """
    if name not in choices:
        raise ValueError(unknown_name(kind, name, choices))
    return choices[name]


def unknown_name(kind: str, name: object, choices: Iterable[str]) -> str:
    """The error sentence: what is unknown, the nearest match, all choices.

    >>> unknown_name("split", "tets", ["train", "test"])
    "split must be one of train, test, got 'tets'; did you mean 'test'?"
    """
    names = list(choices)
    if not isinstance(name, str):
        return f"{kind} must be one of {', '.join(names)}, got {short_repr(name)}"
    folded = {choice.casefold(): choice for choice in names}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    hint = f"; did you mean {folded[near[0]]!r}?" if near else ""
    return f"{kind} must be one of {', '.join(names)}, got {name!r}{hint}"


def require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Reject a value that is not one of the choices.

    Raises:
        ValueError: naming the choices, and the nearest if there is one.
    """
    if value not in choices:
        raise ValueError(unknown_name(name, value, choices))
