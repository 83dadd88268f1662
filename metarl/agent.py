"""What training and evaluation need of an agent; the agents themselves are in metarl.agents."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch

from metarl.episodes import Actor, Episodes
from metarl.tasks import TaskFamily

__all__ = ["AdaptiveAgent", "TrainableAgent"]


class AdaptiveAgent(Protocol):
    """Something that acts and adapts, for all tasks at once.

    A state is whatever the agent knows of each task; its meaning is the agent's own.
    """

    def initial_state(self, num_tasks: int) -> Any:
        """The state before any data of the tasks."""

    def actor(
        self, state: Any, generator: torch.Generator, *, deterministic: bool = False
    ) -> Actor:
        """The policies of all tasks as one function of observations, in environment units."""

    def adapt_step(self, state: Any, episodes: Episodes, *, step: int = 0) -> Any:
        """The state after one more adaptation step on episodes of each task; `step` came before."""


class TrainableAgent(AdaptiveAgent, Protocol):
    """An agent that a script can train, save and resume."""

    family: TaskFamily
    config: Any
    device: torch.device
    num_iterations: int
    num_env_steps: int

    def iterate(self) -> dict[str, float]:
        """One training iteration; what happened, by name."""

    def close(self) -> None:
        """Free the training environments."""

    def save(self, path: Path | str) -> None:
        """Write a checkpoint."""
