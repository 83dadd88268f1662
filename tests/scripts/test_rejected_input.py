"""The interface of tyro that the sentences rely on, which is not public: its events and fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest
import tyro
from tyro import _errors

from metarl.scripts.rejected_input import CommandLine, sentence


@dataclass(frozen=True)
class Settings:
    """Some settings."""

    out: str
    size: int = 1
    mode: Literal["fast", "slow"] = "fast"


EVENTS: list[tuple[str, type[_errors.ParseErrorEvent], dict[str, Any]]] = [
    ("", _errors.MissingArgs, {"unrecognized_tokens": []}),
    ("--zzz", _errors.MissingArgs, {"unrecognized_tokens": ["--zzz"]}),
    ("--out a --zzz b", _errors.UnrecognizedArgs, {"tokens": ["--zzz", "b"]}),
    (
        "--out a --mode x",
        _errors.InvalidChoice,
        {"value": "x", "choices": ("fast", "slow")},
    ),
    ("--out a --size", _errors.BadValue, {}),
    ("--out a --size x", _errors.InstantiationFailure, {}),
]


@pytest.mark.parametrize(("line", "kind", "fields"), EVENTS, ids=[line for line, _, _ in EVENTS])
def test_tyro_reports_rejected_input_as_an_event(line, kind, fields):
    events: list[Any] = []
    with pytest.raises(SystemExit), _errors.on_parse_error(events.append):
        tyro.cli(Settings, args=line.split(), prog="go")
    (event,) = events
    assert type(event) is kind
    assert {name: getattr(event, name) for name in fields} == fields
    argument = getattr(event, "argument", None)
    if argument is not None:
        name = "--mode" if "--mode" in line else "--size"
        assert argument.display_name() == name
        assert argument.lowered.metavar == ("{fast,slow}" if name == "--mode" else "INT")
    for context in getattr(event, "missing_arguments", ()):
        assert context.arg.display_name() == "--out"


def test_an_event_of_a_later_version_still_gives_one_sentence():
    event = _errors.ParseErrorEvent(prog="go")
    expected = "the command line must follow go --help"
    assert sentence(event, CommandLine("go", ["--out"])) == expected
