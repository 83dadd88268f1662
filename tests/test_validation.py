"""Range checks: valid values, invalid values, and messages.

The sentence about an unknown name.
"""

import json
import math
import re
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest
from annotated_types import Interval

from metarl.validation import (
    Count,
    NonNegative,
    NumSteps,
    Positive,
    Seed,
    Settings,
    Share,
    SmallCount,
    UnitInterval,
    WholeNumber,
    as_path,
    lookup,
    require_at_least,
    require_between,
    unknown_name,
)


@dataclass(frozen=True)
class Example(Settings):
    """A field of each kind."""

    count: Count = 1
    seed: Seed = 0
    first: WholeNumber = 0
    steps: NumSteps = 0
    passes: SmallCount = 1
    limit: Count | None = None
    rate: Positive = 0.5
    weight: NonNegative = 0
    gamma: UnitInterval = 1
    share: Share = 1
    ratio: Annotated[float, Interval(gt=0, lt=1)] = 0.5
    offset: float = 0.0
    index: int = 0
    frames: Annotated[int, Interval(ge=1, le=1000)] = 1
    sizes: tuple[Count, ...] = ()
    bounds: tuple[float, float] = (0.0, 1.0)
    kind: Literal["near", "far"] = "near"
    flag: bool = False
    name: str | None = None

    def check_consistency(self) -> None:
        if self.flag and self.kind == "far":
            raise ValueError("flag must be False with kind far, got True")


@pytest.mark.parametrize(
    "change",
    [
        {"count": np.int64(3), "limit": 10**9, "seed": 2**63 - 1},
        {"rate": 1, "weight": 0, "share": 1, "gamma": 0, "offset": np.float32(-2)},
        {"sizes": (1, 2), "bounds": (-1, 2.5), "name": "x", "flag": True},
    ],
)
def test_settings_that_fit_are_kept_as_given(change):
    settings = Example(**change)
    assert {name: getattr(settings, name) for name in change} == change


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"count": np.int64(3)}, {"count": 3}),
        ({"offset": np.float32(-2), "rate": Fraction(1, 2)}, {"offset": -2.0, "rate": 0.5}),
        ({"sizes": [1, np.int32(2)]}, {"sizes": (1, 2)}),
        ({"sizes": np.array([1, 2])}, {"sizes": (1, 2)}),
        ({"bounds": np.array([1.0, 2.0])}, {"bounds": (1.0, 2.0)}),
        ({"flag": np.bool_(True)}, {"flag": True}),
    ],
)
def test_numbers_and_arrays_of_other_libraries_become_python_numbers(change, kept):
    settings = Example(**change)
    assert {name: getattr(settings, name) for name in kept} == kept
    assert json.loads(json.dumps(asdict(settings)))["count"] == settings.count


@pytest.mark.parametrize(
    ("value", "error"), [(None, TypeError), (3, TypeError), ("", ValueError), ("a\0b", ValueError)]
)
def test_invalid_paths_are_rejected(value, error):
    with pytest.raises(error, match=r"^out must be a path"):
        as_path("out", value)
    assert as_path("out", "a b") == Path("a b")


@pytest.mark.parametrize("name", [None, 3, ["maml"]])
def test_a_name_that_is_not_a_string_is_unknown(name):
    assert unknown_name("agent", name, ["a"]) == f"agent must be one of a, got {name!r}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "count must be 1 or more, got 0"),
        ({"count": True}, "count must be a whole number, 1 or more, got True"),
        ({"count": 2.0}, "count must be a whole number, 1 or more, got 2.0"),
        ({"count": 2**63}, "count must fit into 64 bits, got 9223372036854775808"),
        ({"index": -(2**63)}, "index must fit into 64 bits, got -9223372036854775808"),
        ({"index": "3"}, "index must be a whole number, got '3'"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"frames": 1001}, "frames must be at most 1,000, got 1001"),
        ({"count": 10**9 + 1}, "count must be at most 1,000,000,000, got 1000000001"),
        ({"sizes": (4, 2**40)}, "sizes must be at most 1,000,000,000, got 1099511627776"),
        ({"first": 2**32}, "first must be at most 1,000,000,000, got 4294967296"),
        ({"seed": 2**63}, "seed must fit into 64 bits, got 9223372036854775808"),
        ({"steps": 10**6}, "steps must be at most 100,000, got 1000000"),
        ({"passes": 0}, "passes must be 1 or more, got 0"),
        ({"passes": 10**9}, "passes must be at most 100,000, got 1000000000"),
        ({"frames": 0}, "frames must be 1 or more, got 0"),
        ({"limit": 0}, "limit must be 1 or more, got 0"),
        ({"limit": "x"}, "limit must be a whole number or null, got 'x'"),
        ({"rate": 0}, "rate must lie in (0, ∞), got 0.0"),
        ({"rate": math.nan}, "rate must lie in (0, ∞), got nan"),
        ({"rate": "fast"}, "rate must be a number, got 'fast'"),
        ({"rate": None}, "rate must be a number, got None"),
        (
            {"rate": 10**400},
            "rate must be at most 3.4e38, the largest number of float32, got 10000",
        ),
        ({"rate": 1e300}, "rate must be at most 3.4e38, the largest number of float32, got 1e+300"),
        (
            {"rate": 10**9000},
            "rate must be at most 3.4e38, the largest number of float32, got a number of "
            "thousands of digits",
        ),
        ({"weight": math.inf}, "weight must lie in [0, ∞), got inf"),
        ({"gamma": 1.5}, "gamma must lie in [0, 1], got 1.5"),
        ({"share": 0}, "share must lie in (0, 1], got 0.0"),
        ({"ratio": 1}, "ratio must lie in (0, 1), got 1.0"),
        ({"offset": math.inf}, "offset must be a finite number, got inf"),
        ({"sizes": (4, 0)}, "sizes must be 1 or more, got 0"),
        ({"sizes": {4}}, "sizes must be a tuple, got {4}"),
        ({"bounds": (1.0,)}, "bounds must have 2 entries, got (1.0,)"),
        ({"bounds": (1.0, "x")}, "bounds must be a number, got 'x'"),
        ({"kind": "fra"}, "kind must be one of near, far, got 'fra'; did you mean 'far'?"),
        ({"kind": 3}, "kind must be one of near, far, got 3"),
        ({"flag": 1}, "flag must be true or false, got 1"),
        ({"name": 3}, "name must be text or null, got 3"),
        ({"kind": "far", "flag": True}, "flag must be False with kind far, got True"),
    ],
)
def test_settings_that_do_not_fit_are_rejected_in_one_sentence(change, message):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        Example(**change)


@pytest.mark.parametrize("value", [2, 3, 10**9, np.int64(5)])
def test_counts_at_or_above_the_bound_pass(value):
    require_at_least("num_tasks", value, 2)


def test_a_count_below_the_bound_is_rejected():
    with pytest.raises(ValueError, match="num_tasks must be 2 or more, got 1"):
        require_at_least("num_tasks", 1, 2)


@pytest.mark.parametrize("value", [2.5, 3.0, True, "3", None])
def test_a_count_that_is_not_a_whole_number_is_rejected(value):
    with pytest.raises(ValueError, match=f"num_tasks must be a whole number, 2 or .*got {value!r}"):
        require_at_least("num_tasks", value, 2)


@pytest.mark.parametrize("value", [0, 0.5, 1])
def test_a_closed_interval_holds_its_ends(value):
    require_between("gamma", value, 0, 1)


def test_an_open_interval_holds_what_lies_between_its_ends():
    require_between("ratio", 1e-12, 0, 1, open_low=True, open_high=True)
    require_between("ratio", 1 - 1e-12, 0, 1, open_low=True, open_high=True)


@pytest.mark.parametrize(
    ("value", "low", "high", "ends", "interval"),
    [
        (-0.1, 0, 1, {}, r"\[0, 1\]"),
        (1.1, 0, 1, {}, r"\[0, 1\]"),
        (0, 0, 1, {"open_low": True}, r"\(0, 1\]"),
        (1, 0, 1, {"open_high": True}, r"\[0, 1\)"),
        (0, 0, 1, {"open_low": True, "open_high": True}, r"\(0, 1\)"),
        (1, 0, 1, {"open_low": True, "open_high": True}, r"\(0, 1\)"),
        (-1, 0.25, math.inf, {}, r"\[0\.25, ∞\)"),
        (math.inf, 0, math.inf, {}, r"\[0, ∞\)"),
        (math.nan, 0, 1, {}, r"\[0, 1\]"),
    ],
)
def test_a_number_outside_the_interval_is_rejected_with_the_interval(
    value, low, high, ends, interval
):
    with pytest.raises(ValueError, match=rf"ratio must lie in {interval}, got {value}$"):
        require_between("ratio", value, low, high, **ends)


def test_the_sentence_names_the_kind_all_choices_and_what_came():
    sentence = unknown_name("split", "zzz", ["train", "test"])
    assert sentence == "split must be one of train, test, got 'zzz'"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("HalfCheetaVel", "HalfCheetahVel"),
        ("halfcheetahvel", "HalfCheetahVel"),
        ("NAVIGATION2D", "Navigation2D"),
        ("Navigation", "Navigation2D"),
    ],
)
def test_the_nearest_choice_is_suggested_whatever_the_case(typed, meant):
    sentence = unknown_name("environment", typed, ("Navigation2D", "HalfCheetahVel"))
    assert sentence.endswith(f"got {typed!r}; did you mean {meant!r}?")


def test_nothing_is_suggested_if_nothing_is_near():
    assert "did you mean" not in unknown_name("split", "walrus", ["train", "test"])


def test_choices_may_come_from_an_iterator_that_is_read_once():
    sentence = unknown_name("split", "tran", (name for name in ("train", "test")))
    assert sentence == "split must be one of train, test, got 'tran'; did you mean 'train'?"


def test_lookup_returns_the_choice_of_a_name():
    assert lookup("variant", "far", {"near": 1, "far": 2}) == 2


def test_an_unknown_name_is_an_error_with_that_sentence():
    message = "^variant must be one of near, far, got 'fra'; did you mean 'far'\\?$"
    with pytest.raises(ValueError, match=message):
        lookup("variant", "fra", {"near": 1, "far": 2})


def test_a_count_of_a_function_must_fit_into_64_bits():
    require_at_least("num_envs", 2**63 - 1, 1)
    with pytest.raises(ValueError, match="num_envs must fit into 64 bits, got a number of"):
        require_at_least("num_envs", 10**9000, 1)
