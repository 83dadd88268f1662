"""The promise that policies can reach a family's actions; it names unusual ranges."""

from __future__ import annotations

import numpy as np

from metarl.soundness.probe import NotApplicableError, Trial, require
from metarl.tasks.actions import ActionLayout, BoxColumns

__all__ = ["actions_are_in_reach"]

_USUAL_HALF_WIDTHS = (1e-3, 1e3)


def actions_are_in_reach(trial: Trial) -> str:
    """An untrained policy, whose outputs are near 0, acts inside the boxes of the action space."""
    family = trial.family
    boxes = [p for p in ActionLayout(family.action_space).parts if isinstance(p, BoxColumns)]
    if not boxes:
        raise NotApplicableError("every action is a choice")
    low, high, center, half_width = (
        np.concatenate([getattr(box, name) for box in boxes])
        for name in ("low", "high", "center", "half_width")
    )
    scale = family.action_scale
    if scale is not None:
        outside = np.flatnonzero((low > 0) | (high < 0))
        for k in outside[:1]:
            require(
                False,
                f"action_scale must be None if 0 is no action: number {k} of an action lies in "
                f"[{low[k]:g}, {high[k]:g}], and policies act around 0",
            )
        return f"policies act around 0, their outputs divided by {scale:g}"
    smallest, largest = _USUAL_HALF_WIDTHS
    usual = np.isfinite(low) & np.isfinite(high) & (np.abs(center) < 1e-6 * half_width)
    usual &= (half_width >= smallest) & (half_width <= largest)
    unusual = np.flatnonzero(~usual)
    if not len(unusual):
        return "policies act around 0 in units of the boxes' half-widths"
    k = unusual[0]
    others = f" (and {len(unusual) - 1} more)" if len(unusual) > 1 else ""
    return (
        f"unusual range of number {k} of an action{others}, [{low[k]:g}, {high[k]:g}]: policies "
        f"act around {center[k]:g} in units of {half_width[k]:g}"
    )
