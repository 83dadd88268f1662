"""Range checks: what passes, what fails, and with which words.

The sentence about an unknown name.
"""

import math

import numpy as np
import pytest

from metarl.validation import lookup, require_at_least, require_between, unknown_name


@pytest.mark.parametrize("value", [2, 3, 10**9, np.int64(5)])
def test_counts_at_or_above_the_bound_pass(value):
    require_at_least("num_tasks", value, 2)


def test_a_count_below_the_bound_is_refused():
    with pytest.raises(ValueError, match="num_tasks must be 2 or more, got 1"):
        require_at_least("num_tasks", 1, 2)


@pytest.mark.parametrize("value", [2.5, 3.0, True, "3", None])
def test_a_count_that_is_no_whole_number_is_refused(value):
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
def test_a_number_outside_the_interval_is_refused_with_the_interval(
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


def test_nothing_is_suggested_where_nothing_is_near():
    assert "did you mean" not in unknown_name("split", "walrus", ["train", "test"])


def test_choices_may_come_from_an_iterator_that_is_read_once():
    sentence = unknown_name("split", "tran", (name for name in ("train", "test")))
    assert sentence == "split must be one of train, test, got 'tran'; did you mean 'train'?"


def test_a_known_name_gives_what_it_names():
    assert lookup("variant", "far", {"near": 1, "far": 2}) == 2


def test_an_unknown_name_is_an_error_with_that_sentence():
    message = "^variant must be one of near, far, got 'fra'; did you mean 'far'\\?$"
    with pytest.raises(ValueError, match=message):
        lookup("variant", "fra", {"near": 1, "far": 2})
