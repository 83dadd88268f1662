"""Settings read back from JSON into their dataclass, each one checked; and compared."""

from __future__ import annotations

import dataclasses
import types
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

__all__ = ["converted", "read_settings", "settings_agree"]

Settings = TypeVar("Settings")


def read_settings(
    settings_type: type[Settings], stored: object, *, where: str, others_allowed: bool = False
) -> Settings:
    """The dataclass that a JSON object describes; what is not stored takes its default.

    Args:
        settings_type: fields of int, float, bool, str, a Literal, dict, None, tuples and unions
            of them.
        stored: what JSON gave.
        where: what the object is, as messages begin.
        others_allowed: whether keys that are no fields are passed over.

    Raises:
        ValueError: one sentence, if it is no object, or a key is unknown, missing, of another
            type or out of range.
    """
    if not isinstance(stored, dict):
        raise ValueError(f"{where} must be a JSON object, got {_short(stored)}")
    assert dataclasses.is_dataclass(settings_type)
    hints = get_type_hints(settings_type)
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
    """Equal; of settings by name, all that both name, for a later version may know more of them."""
    if not (isinstance(held, dict) and isinstance(wanted, dict)):
        return held == wanted
    shared = held.keys() & wanted.keys()
    one_knows_all = len(shared) == min(len(held), len(wanted))
    return one_knows_all and all(held[name] == wanted[name] for name in shared)


def converted(value: object, hint: Any, name: str) -> Any:
    """A value of JSON, which knows lists only, as a type needs it.

    Args:
        value: what JSON gave.
        hint: the type, of those that `read_settings` knows.
        name: what the value is, as messages begin.

    Raises:
        ValueError: if it does not fit.
    """
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(converted(item, get_args(hint)[0], name) for item in value)
    if not _fits(value, hint):
        raise ValueError(f"{name} must be {_described(hint)}, got {_short(value)}")
    return value


def _fits(value: object, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint) and not isinstance(value, bool)
    if origin in (Union, types.UnionType):
        return any(_fits(value, choice) for choice in get_args(hint))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return hint is Any or isinstance(value, origin or hint)


def _described(hint: Any) -> str:
    origin = get_origin(hint)
    if origin is Literal:
        return f"one of {', '.join(map(repr, get_args(hint)))}"
    if origin in (Union, types.UnionType):
        return " or ".join(_described(choice) for choice in get_args(hint))
    words: dict[Any, str] = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a text",
        dict: "an object",
        tuple: "a list",
        type(None): "null",
    }
    return words.get(origin or hint, str(hint))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
