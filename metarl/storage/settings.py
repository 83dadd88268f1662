"""Reading settings back from JSON into their dataclass, and comparing them."""

from __future__ import annotations

import dataclasses
import types
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from metarl.validation import check_value, short_repr

__all__ = ["converted", "read_settings", "settings_agree"]

Settings = TypeVar("Settings")


def read_settings(
    settings_type: type[Settings], stored: object, *, where: str, others_allowed: bool = False
) -> Settings:
    """The dataclass that a JSON object describes; fields that are not stored take their defaults.

    Args:
        settings_type: a dataclass with fields of types that `metarl.validation.Settings` supports.
        stored: as JSON gave it.
        where: a name for the object, as messages begin.
        others_allowed: whether keys that are not fields are ignored.

    Raises:
        ValueError: one sentence, if it is not an object, or a key is unknown, missing, of another
            type or out of range.
    """
    if not isinstance(stored, dict):
        raise ValueError(f"{where} must be a JSON object, got {short_repr(stored)}")
    assert dataclasses.is_dataclass(settings_type)
    hints = get_type_hints(settings_type, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(settings_type)}
    unknown = sorted(set(stored) - set(fields))
    if unknown and not others_allowed:
        raise ValueError(f"{where} has a setting {unknown[0]!r}, which this version does not know")
    values = {}
    for name, field in fields.items():
        if name in stored:
            values[name] = converted(stored[name], hints[name], f"{where}: {name}")
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where} lacks {name!r}")
    try:
        return settings_type(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def settings_agree(held: object, wanted: object) -> bool:
    """Whether two values are equal, or two settings in all that both name.

    One of them must name everything that the other does: a later version may have more settings.
    """
    if not (isinstance(held, dict) and isinstance(wanted, dict)):
        return held == wanted
    shared = held.keys() & wanted.keys()
    one_knows_all = len(shared) == min(len(held), len(wanted))
    return one_knows_all and all(held[name] == wanted[name] for name in shared)


def converted(value: object, hint: Any, name: str) -> Any:
    """A value of JSON, which has lists only, as a type needs it.

    Args:
        value: as JSON gave it.
        hint: a type that `metarl.validation.Settings` supports.
        name: of the value, as messages begin.

    Raises:
        ValueError: if it does not fit.
    """
    value = _with_tuples(value, hint, name)
    check_value(name, value, hint)
    return value


def _with_tuples(value: object, hint: Any, name: str) -> object:
    """The value with lists turned into tuples where the type has tuples."""
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
