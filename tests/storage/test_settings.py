"""Settings read from JSON: valid ones are unchanged, everything else is one sentence."""

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pytest

from metarl.agents import MAMLTRPOConfig
from metarl.fewshot import MAMLConfig
from metarl.storage.settings import read_settings, settings_agree
from metarl.validation import Settings, WholeNumber


@dataclass(frozen=True)
class Example(Settings):
    """A field of each kind."""

    name: str
    count: WholeNumber = 1
    rate: float = 0.5
    sizes: tuple[int, ...] = (4,)
    kind: Literal["a", "b"] = "a"
    limit: int | None = None
    flag: bool = False
    rest: dict[str, Any] = field(default_factory=dict)


@pytest.mark.parametrize(
    "config", [MAMLTRPOConfig(), MAMLTRPOConfig(chunk_size=None), MAMLConfig()]
)
def test_stored_settings_of_an_agent_are_read_unchanged(config):
    stored = json.loads(json.dumps(asdict(config)))
    assert read_settings(type(config), stored, source="x") == config


def test_missing_settings_take_their_defaults():
    stored = {"name": "n", "sizes": [], "limit": 3, "rate": 2}
    assert read_settings(Example, stored, source="x") == Example("n", sizes=(), limit=3, rate=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "x: name must be text, got 3"),
        ({"count": "1"}, "x: count must be a whole number, 0 or more, got '1'"),
        ({"count": 1.0}, r"x: count must be a whole number, 0 or more, got 1\.0"),
        ({"count": True}, "x: count must be a whole number, 0 or more, got True"),
        ({"rate": "fast"}, "x: rate must be a number, got 'fast'"),
        ({"rate": None}, "x: rate must be a number, got None"),
        ({"rate": False}, "x: rate must be a number, got False"),
        ({"sizes": 4}, "x: sizes must be a list, got 4"),
        ({"sizes": ["4"]}, "x: sizes must be a whole number, got '4'"),
        ({"kind": "c"}, "x: kind must be one of a, b, got 'c'"),
        ({"kind": ["a"]}, r"x: kind must be one of a, b, got \['a'\]"),
        ({"limit": "3"}, "x: limit must be a whole number or null, got '3'"),
        ({"flag": 1}, "x: flag must be true or false, got 1"),
        ({"rest": []}, r"x: rest must be an object, got \[\]"),
        ({"count": -1}, "x: count must be 0 or more, got -1"),
        ({"cuont": 1}, "x has a setting 'cuont', which this version does not know"),
        ({"name": 10**80}, r"x: name must be text, got 10{56}\.\.\."),
    ],
)
def test_invalid_arguments_are_rejected(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        read_settings(Example, {"name": "n", **change}, source="x")


@pytest.mark.parametrize("stored", [None, [], "x", 3, math.nan])
def test_other_values_than_objects_are_rejected(stored):
    with pytest.raises(ValueError, match="x must be a JSON object, got"):
        read_settings(Example, stored, source="x")


def test_settings_without_a_default_are_required():
    with pytest.raises(ValueError, match="x lacks 'name'"):
        read_settings(Example, {}, source="x")


def test_other_keys_can_be_ignored():
    assert (
        read_settings(Example, {"name": "n", "z": 1}, source="x", others_allowed=True).name == "n"
    )


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"a": 1}, {"a": 1, "new": 2}, True),
        ({"a": 1, "new": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 2, "new": 2}, False),
        ({"a": 1, "b": 1}, {"a": 1, "new": 2}, False),
        (3, 3, True),
        (3, {"a": 3}, False),
    ],
)
def test_settings_agree_if_one_version_has_more_of_them(one, other, expected):
    assert settings_agree(one, other) is expected
