"""Numbers have suitable decimals and a true minus sign."""

import math

import pytest

from metarl.report.numbers import (
    half_text,
    interval_text,
    percent_text,
    share_interval_text,
    share_text,
)
from metarl.statistics.estimate import Estimate
from metarl.statistics.numbers import number_text


@pytest.mark.parametrize(
    ("value", "largest", "text"),
    [(-7.246, None, "−7.25"), (38.04, None, "38.0"), (-431.97, None, "−432"), (0.5, 200, "0")],
)
def test_numbers_have_suitable_decimals(value, largest, text):
    assert number_text(value, largest=largest) == text


def test_an_interval_has_the_decimals_of_its_largest_number():
    estimate = Estimate(9.0, -1.25, 12.5, "runs")
    assert interval_text(estimate) == ("9.0", "−1.2 … 12.5")
    assert interval_text(estimate, signed=True)[0] == "+9.0"
    assert interval_text(Estimate(-9.0, -10.0, -8.0, "runs"), signed=True)[0] == "−9.0"


def test_shares_are_percent():
    assert [share_text(share) for share in (None, 0.5, -0.25)] == ["", "50%", "−25%"]
    assert share_interval_text(Estimate(0.5, -0.1, 1.0, "tasks")) == ("50%", "−10% … 100%")
    assert percent_text(Estimate(0.5, 0.1, 1.0, "tasks")) == ("50", "10 … 100")
    assert share_interval_text(Estimate(0.5, -math.inf, math.inf, "tasks")) == ("50%", "—")


def test_an_interval_never_looks_as_if_it_had_no_width():
    assert interval_text(Estimate(400.2, 400.1, 400.3, "runs")) == ("400.2", "400.1 … 400.3")
    assert percent_text(Estimate(0.999, 0.998, 0.9995, "runs")) == ("99.9", "99.8 … 100.0")
    assert half_text(Estimate(1e-5, 0.8e-5, 1.2e-5, "runs"), 1, 3) == "0.000002"


def test_zero_has_no_sign():
    assert number_text(-0.001) == "0.00"
