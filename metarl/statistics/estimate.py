"""A statistic with its confidence interval."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, TypeAlias

from metarl.statistics.numbers import decimals, distinct_decimals, number_text, signed_text

__all__ = ["Estimate", "Unit"]

Unit: TypeAlias = Literal["runs and tasks", "runs", "tasks"]


class Estimate(NamedTuple):
    """A statistic, its confidence interval, and the units that the interval is over.

    Both ends are infinite if the data give no interval: see `mean_interval`.
    """

    value: float
    low: float
    high: float
    over: Unit

    def __str__(self) -> str:
        """The value and its interval, such as "−7.25 [−7.88, −6.60]".

        >>> print(Estimate(-7.25, -7.88, -6.6, "tasks"))
        −7.25 [−7.88, −6.60]
        """
        if not self.has_interval:
            return number_text(self.value)
        numbers = self[:3]
        digits = distinct_decimals(numbers, decimals(max(map(abs, numbers))))
        value, low, high = (signed_text(number, digits) for number in numbers)
        return f"{value} [{low}, {high}]"

    @property
    def has_interval(self) -> bool:
        """Whether both ends are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)
