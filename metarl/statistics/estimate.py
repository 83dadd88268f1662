"""A statistic with its confidence interval."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, TypeAlias

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

    @property
    def has_interval(self) -> bool:
        """Whether both ends are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)
