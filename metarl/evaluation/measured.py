"""Returns and success of measured episodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Measured", "Metric", "Scores", "require_shape"]

Scores: TypeAlias = NDArray[np.float64]
Metric: TypeAlias = Literal["return", "success"]


@dataclass(frozen=True)
class Measured:
    """Returns and success of episodes; the leading axes depend on the use."""

    returns: Scores  # [..., N, M], undiscounted
    success: Scores | None = None  # [..., N, M], 1 if the episode succeeded at any step, else 0

    def metric(self, name: Metric) -> Scores:
        """The returns or the success.

        Raises:
            ValueError: if `name` is "success" and the family does not define it.
        """
        if name == "return":
            return self.returns
        if self.success is None:
            raise ValueError("metric must be 'return', since this family does not define success")
        return self.success

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise ValueError if returns or success have another shape or are not finite."""
        require_shape(f"returns of {name}", self.returns, shape)
        if self.success is not None:
            require_shape(f"success of {name}", self.success, shape)

    def to_json(self) -> dict[str, Any]:
        """Returns and success as JSON values."""
        success = None if self.success is None else self.success.tolist()
        return {"returns": self.returns.tolist(), "success": success}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Measured:
        """The inverse of `to_json`."""
        success = raw["success"]
        return cls(
            np.array(raw["returns"], dtype=np.float64),
            None if success is None else np.array(success, dtype=np.float64),
        )


def require_shape(name: str, values: Scores, shape: tuple[int, ...]) -> None:
    """Raise ValueError if scores have another shape, are empty or not finite."""
    if values.shape != shape or not len(values):
        raise ValueError(f"{name} must have shape {shape}, got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite")
