"""The estimators by name, with the facts that an agent needs about each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from metarl.estimators.surrogates import (
    Surrogate,
    dice,
    dr,
    loaded_dice,
    log_prob,
    lvc,
    taypo2,
    tmaml,
    tmaml_fixed,
)

__all__ = ["ESTIMATORS", "Estimator", "EstimatorName"]

EstimatorName: TypeAlias = Literal[
    "log_prob",
    "lvc",
    "dice",
    "loaded_dice",
    "taypo2",
    "dr",
    "tmaml",
    "tmaml_fixed",
    "first_order",
]


@dataclass(frozen=True)
class Estimator:
    """An estimator of the derivative of one policy-gradient step."""

    surrogate: Surrogate
    """One term per step, to be ascended; its gradient is the inner step."""
    is_first_order: bool = False
    """Ignore the derivative of the inner step."""
    counts_sampling: bool = False
    """The Hessian holds ∇ℓ ∇ℓᵀ, the effect of the parameters on which actions are sampled. The
    sampling credit would count this effect a second time."""
    needs_values: bool = False
    """Without a baseline it would equal DiCE."""


ESTIMATORS: dict[EstimatorName, Estimator] = {
    "log_prob": Estimator(log_prob),
    "lvc": Estimator(lvc, counts_sampling=True),
    "dice": Estimator(dice, counts_sampling=True),
    "loaded_dice": Estimator(loaded_dice, counts_sampling=True),
    "taypo2": Estimator(taypo2, counts_sampling=True),
    "dr": Estimator(dr, counts_sampling=True),
    "tmaml": Estimator(tmaml, counts_sampling=True, needs_values=True),
    "tmaml_fixed": Estimator(tmaml_fixed, counts_sampling=True, needs_values=True),
    "first_order": Estimator(log_prob, is_first_order=True),
}
