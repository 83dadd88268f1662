"""Settings of MAML and its variants: conversion of the form that earlier versions stored.

In earlier versions all variants had the same settings, and `differentiation`, `adapted` and `rates`
determined the algorithm, whatever the learner's name. Now the name determines it. This module maps
these settings to the name of the algorithm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["MigratedLearner", "migrate_learner", "reject_other_algorithm"]

_ALGORITHM_SETTINGS = {"differentiation": "unrolled", "adapted": "all", "rates": "fixed"}
"""Settings that determined the algorithm, with their former defaults."""
_LEARNED_RATES = {
    "per-parameter": "meta-sgd",
    "per-layer-per-step": "maml++",
    "momentum": "learned-momentum",
}
_VARIANTS = ("maml", "fomaml", "boil", *_LEARNED_RATES.values())


class MigratedLearner(NamedTuple):
    """A stored learner in the form of this version."""

    name: str
    """The present name of its algorithm."""
    settings: dict[str, Any]
    """Settings of that learner, converted from the stored ones."""


def migrate_learner(name: str, stored: Mapping[str, Any]) -> MigratedLearner:
    """The present name and settings of a stored learner.

    Settings of this version, and of learners other than MAML's variants, are returned unchanged.

    Args:
        name: the stored name.
        stored: the stored settings by name.
    """
    settings = dict(stored)
    if name in _VARIANTS and settings.get("batch_norm") == "per-step":
        settings.setdefault("query_slot", "next")  # the only meaning before this setting
    if name not in _VARIANTS or not _is_old(name, stored):
        return MigratedLearner(name, settings)
    decided = {key: settings.pop(key, default) for key, default in _ALGORITHM_SETTINGS.items()}
    present = _algorithm(**decided)
    if present != "fomaml":
        settings["differentiation"] = decided["differentiation"]
    if present == "boil":
        settings["rates"] = decided["rates"]
    if decided["differentiation"] == "first_order":  # it had no effect then
        settings.pop("first_order_iterations", None)
    return MigratedLearner(present, settings)


def reject_other_algorithm(name: str, config: object, given: Mapping[str, Any]) -> None:
    """Reject a setting that the learner's name determines.

    Args:
        name: the learner.
        config: any settings of its type.
        given: settings by name.

    Raises:
        ValueError: naming the first such setting, and the learner that has the given value.
    """
    for key, value in given.items():
        if name not in _VARIANTS or key not in _ALGORITHM_SETTINGS:
            continue
        decided = {each: getattr(config, each) for each in _ALGORITHM_SETTINGS}
        other = _algorithm(**{**decided, key: value})
        remedy = "leave it out" if other == name else f"use the learner {other} for that value"
        raise ValueError(
            f"{key} must be left out for {name}, whose {key} is always {decided[key]!r}, "
            f"got {value!r}; {remedy}"
        )


def _is_old(name: str, stored: Mapping[str, Any]) -> bool:
    """Whether settings are in the form that all variants shared."""
    return "adapted" in stored or (name in ("maml", "fomaml") and "differentiation" in stored)


def _algorithm(differentiation: str, adapted: str, rates: str) -> str:
    """The learner whose algorithm these settings describe."""
    if adapted == "body":
        return "boil"
    if rates != "fixed":
        return _LEARNED_RATES.get(rates, "maml")
    return "fomaml" if differentiation == "first_order" else "maml"
