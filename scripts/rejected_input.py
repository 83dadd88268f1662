"""Sentences about input that tyro rejects, and rules for reading numbers.

The events come from tyro's hook `on_parse_error` in `tyro._errors`, which is not part of its public
interface: pyproject.toml limits the versions, and a test checks each event that is used here.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

from tyro._errors import (
    BadValue,
    InstantiationFailure,
    InvalidChoice,
    MissingArgs,
    ParseErrorEvent,
    UnrecognizedArgs,
)
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from metarl.validation import short_repr, unknown_name

__all__ = ["CommandLine", "number_constructors", "sentence"]


@dataclass(frozen=True)
class CommandLine:
    """Facts about a command line that the sentences use."""

    program: str
    """The command's name in its help."""
    options: Sequence[str]
    """All options, each with its two dashes."""
    unread: list[tuple[str, str]] = field(default_factory=list)
    """For each word that is not a valid number, in order: what was needed, and the word."""


@singledispatch
def sentence(event: ParseErrorEvent, line: CommandLine) -> str:
    """Describe rejected input in one sentence.

    Args:
        event: the error that tyro reports.
        line: the command line.
    """
    del event
    return f"the command line must follow {line.program} --help"


@sentence.register
def _(event: UnrecognizedArgs, line: CommandLine) -> str:
    return _unrecognized(event.tokens, line)


@sentence.register
def _(event: MissingArgs, line: CommandLine) -> str:
    if event.unrecognized_tokens:
        return _unrecognized(event.unrecognized_tokens, line)
    names = " and ".join(context.arg.display_name() for context in event.missing_arguments)
    return f"{names} must be given; {line.program} --help lists the options"


@sentence.register
def _(event: InvalidChoice, line: CommandLine) -> str:
    del line
    return unknown_name(event.argument.display_name(), event.value, event.choices)


@sentence.register
def _(event: BadValue, line: CommandLine) -> str:
    del line
    return f"{event.argument.display_name()} must be followed by {event.argument.lowered.metavar}"


@sentence.register
def _(event: InstantiationFailure, line: CommandLine) -> str:
    if event.argument is None:  # raised by the configuration's own checks
        return event.message
    option = event.argument.display_name()
    if not line.unread:
        return f"{option} must be given as described by --help: {event.message.rstrip('.')}"
    needed, word = line.unread[-1]
    alternative = " or None" if "None" in str(event.argument.lowered.metavar) else ""
    return f"{option} must be {needed}{alternative}, got {short_repr(word)}"


def _unrecognized(tokens: Sequence[str], line: CommandLine) -> str:
    options = [token for token in tokens if token.startswith("--")]
    if not options:
        return f"{line.program} does not accept {' '.join(tokens)}; --help lists the options"
    given = options[0].split("=")[0]
    near = difflib.get_close_matches(given.replace("_", "-"), line.options, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else "; --help lists the options"
    return f"there is no option {given}{hint}"


_INT64 = 1 << 63
_READERS: dict[Any, tuple[Callable[[str], Any], str]] = {
    int: (int, "a whole number"),
    float: (float, "a number"),
}


def number_constructors(unread: list[tuple[str, str]]) -> ConstructorRegistry:
    """Return rules that accept only 64-bit integers and finite numbers.

    Args:
        unread: list to which each rejected word is appended, as (what was needed, word), because
            within a sequence or a union tyro drops the message of the exception.
    """
    defaults: dict[Any, Any] = {
        kind: ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(kind, set()))
        for kind in _READERS
    }
    registry = ConstructorRegistry()

    @registry.primitive_rule
    def number_rule(type_info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        if type_info.type not in _READERS:
            return None
        read, needed = _READERS[type_info.type]

        def number(words: list[str]) -> Any:
            try:
                return _bounded(read(words[0]))
            except ValueError as error:
                unread.append(
                    (str(error) if isinstance(error, _OutOfBoundsError) else needed, words[0])
                )
                raise

        spec: PrimitiveConstructorSpec[Any] = defaults[type_info.type]
        return dataclasses.replace(spec, instance_from_str=number)

    return registry


class _OutOfBoundsError(ValueError):
    """A number that is valid but too large; the message states the accepted range."""


def _bounded(number: float) -> float:
    if isinstance(number, int):
        if not -_INT64 <= number < _INT64:
            raise _OutOfBoundsError("a whole number of at most 64 bits")
    elif not math.isfinite(number):
        raise _OutOfBoundsError("a finite number")
    return number
