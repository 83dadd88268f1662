"""The promise that policies can reach the actions of a family; unusual ranges are reported."""

from __future__ import annotations

import numpy as np

from metarl.soundness.probe import BrokenPromiseError, NotApplicableError, Probe
from metarl.tasks.actions import ActionLayout, BoxColumns

__all__ = ["actions_are_in_reach"]

_USUAL_HALF_WIDTHS = (1e-3, 1e3)


def actions_are_in_reach(probe: Probe) -> str:
    """An untrained policy, with outputs near 0, acts within the boxes of the action space."""
    family = probe.family
    boxes = [p for p in ActionLayout(family.action_space).parts if isinstance(p, BoxColumns)]
    if not boxes:
        raise NotApplicableError("all actions are discrete")
    low, high, center, half_width = (
        np.concatenate([getattr(box, name) for box in boxes])
        for name in ("low", "high", "center", "half_width")
    )
    divisor = family.action_divisor
    if divisor is not None:
        without_zero = np.flatnonzero((low > 0) | (high < 0))
        if len(without_zero):
            k = without_zero[0]
            raise BrokenPromiseError(
                "action_divisor must be None if the actions do not include 0, around which "
                f"policies then act: action component {k} is in [{low[k]:g}, {high[k]:g}]"
            )
        return f"policies act around 0, their outputs divided by {divisor:g}"
    smallest, largest = _USUAL_HALF_WIDTHS
    usual = np.isfinite(low) & np.isfinite(high) & (np.abs(center) < 1e-6 * half_width)
    usual &= (half_width >= smallest) & (half_width <= largest)
    unusual = np.flatnonzero(~usual)
    if not len(unusual):
        return "policies act around 0 in units of the boxes' half-widths"
    k = unusual[0]
    others = f" (and {len(unusual) - 1} more)" if len(unusual) > 1 else ""
    return (
        f"unusual range of action component {k}{others}, [{low[k]:g}, {high[k]:g}]: policies "
        f"act around {center[k]:g} in units of {half_width[k]:g}"
    )
