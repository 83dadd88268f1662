"""Numbers have suitable decimals and a true minus sign."""

import pytest

from metarl.report.numbers import interval_text, number_text
from metarl.statistics.estimate import Estimate


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
