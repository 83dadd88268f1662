"""Learning-rate schedules, and the names of the optimizers."""

from __future__ import annotations

import math
from typing import Literal

__all__ = ["OptimizerName", "ScheduleName", "scheduled_rate"]

OptimizerName = Literal["adam", "sgd"]
ScheduleName = Literal["constant", "linear", "cosine", "halving"]

_LAST_FACTOR = 0.01  # factor of the rate at the end of the cosine schedule


def scheduled_rate(
    schedule: ScheduleName, rate: float, iteration: int, decay_iterations: int
) -> float:
    """Learning rate of an iteration.

        linear  α (1 − t/T);   cosine  α (0.01 + 0.99 (1 + cos(π t/T)) / 2);   halving  α 2^−⌊t/T⌋

    Args:
        schedule: name of the schedule; after T, linear and cosine keep their last rate.
        rate: α.
        iteration: t, counted from 0.
        decay_iterations: T.
    """
    share = min(iteration / decay_iterations, 1.0)
    if schedule == "linear":
        return rate * (1 - share)
    if schedule == "cosine":
        return rate * (_LAST_FACTOR + (1 - _LAST_FACTOR) * (1 + math.cos(math.pi * share)) / 2)
    if schedule == "halving":
        return float(rate * 0.5 ** (iteration // decay_iterations))
    return rate
