"""What a benchmark case is: set up once, then run repeatedly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Case"]


@dataclass(frozen=True)
class Case:
    """Something to time."""

    set_up: Callable[..., Callable[[], None]]
    """Takes the comparison's options and gives the function that is timed."""
    work: float | Callable[[dict[str, Any]], float]
    """How much one run does, in the unit of its comparison, or that as a function of options."""
    takes_device: bool = False
    """Whether `set_up` has an option `device`, where policy and updates are computed."""

    def amount(self, options: dict[str, Any]) -> float:
        """The work of one run under these options."""
        return self.work(options) if callable(self.work) else self.work
