"""Conversion of settings from JSON to their dataclass, and comparison of settings."""

from __future__ import annotations

import dataclasses
import types
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from metarl.validation import check_value, short_repr

__all__ = ["converted", "read_settings", "settings_agree"]

Settings = TypeVar("Settings")


def read_settings(
    settings_type: type[Settings], stored: object, *, source: str, others_allowed: bool = False
) -> Settings:
    """Create a settings dataclass from a JSON object; missing fields take their defaults.

    Files of earlier versions lack newer settings. If the default of a new setting differs from the
    earlier behavior, the class maps its name in `legacy_defaults` to the value for such files.

    Args:
        settings_type: a dataclass with fields of types that `metarl.validation.Settings` supports.
        stored: the parsed JSON value.
        source: name of the object, at the start of error messages.
        others_allowed: whether to ignore keys that are not fields.

    Raises:
        ValueError: if the value is not an object, or a key is unknown, missing, of another type or
            out of range.
    """
    if not isinstance(stored, dict):
        raise ValueError(f"{source} must be a JSON object, got {short_repr(stored)}")
    assert dataclasses.is_dataclass(settings_type)
    hints = get_type_hints(settings_type, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(settings_type)}
    unknown = sorted(set(stored) - set(fields))
    if unknown and not others_allowed:
        raise ValueError(f"{source} has a setting {unknown[0]!r}, which this version does not know")
    values: dict[str, Any] = dict(getattr(settings_type, "legacy_defaults", {}))
    for name, field in fields.items():
        if name in stored:
            values[name] = converted(stored[name], hints[name], f"{source}: {name}")
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{source} lacks {name!r}")
    try:
        return settings_type(**values)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def settings_agree(held: object, wanted: object) -> bool:
    """Whether two values are equal; of two objects, whether their common keys have equal values.

    The keys of one object must include the keys of the other: later versions have more settings.
    """
    if not (isinstance(held, dict) and isinstance(wanted, dict)):
        return held == wanted
    shared = held.keys() & wanted.keys()
    one_knows_all = len(shared) == min(len(held), len(wanted))
    return one_knows_all and all(held[name] == wanted[name] for name in shared)


def converted(value: object, hint: Any, name: str) -> Any:
    """Convert a JSON value to a type; lists become tuples where the type has tuples.

    Args:
        value: the parsed JSON value.
        hint: a type that `metarl.validation.Settings` supports.
        name: name of the value, at the start of error messages.

    Raises:
        ValueError: if the value does not fit the type.
    """
    value = _with_tuples(value, hint, name)
    check_value(name, value, hint)
    return value


def _with_tuples(value: object, hint: Any, name: str) -> object:
    """Convert lists to tuples where the type has tuples."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{name} must be a list, got {short_repr(value)}")
        repeated = len(arguments) == 2 and arguments[1] is Ellipsis
        hints = arguments[:1] * len(value) if repeated else arguments
        if len(hints) != len(value):
            raise ValueError(f"{name} must have {len(hints)} entries, got {short_repr(value)}")
        return tuple(
            _with_tuples(item, kind, name) for item, kind in zip(value, hints, strict=True)
        )
    if origin in (Union, types.UnionType) and isinstance(value, list):
        tuples = [choice for choice in arguments if get_origin(choice) is tuple]
        return _with_tuples(value, tuples[0], name) if tuples else value
    return value
