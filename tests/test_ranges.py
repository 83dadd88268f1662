"""Range checks: what passes, what fails, and with which words."""

import math

import numpy as np
import pytest

from metarl.ranges import require_at_least, require_between


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
