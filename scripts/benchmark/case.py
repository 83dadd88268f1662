"""A benchmark case: set up once, then run repeatedly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Case"]


@dataclass(frozen=True)
class Case:
    """A computation to time."""

    set_up: Callable[..., Callable[[], None]]
    """Function of the comparison's options that returns the function to time."""
    work: float | Callable[[dict[str, Any]], float]
    """Work of one run in the unit of its comparison, or a function of the options."""
    takes_device: bool = False
    """Whether `set_up` has an option `device` for policy and updates."""

    def amount(self, options: dict[str, Any]) -> float:
        """The work of one run under these options."""
        return self.work(options) if callable(self.work) else self.work
