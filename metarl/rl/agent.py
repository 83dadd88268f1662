"""What training and evaluation need of an agent; the agents themselves are in metarl.agents."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch

from metarl.rollouts.episodes import Episodes
from metarl.rollouts.trials import TrialActor
from metarl.tasks.family import TaskFamily

__all__ = ["AdaptiveAgent", "Player", "TrainableAgent"]


class Player(TrialActor, Protocol):
    """An agent at work on tasks it knows nothing of at first, all tasks at once."""

    def adapt(self, episodes: Episodes) -> None:
        """Learn from a batch of episodes of each task, [tasks, envs, ...], before the next act.

        One whose memory learns while it acts has nothing to do here, and is never asked to.
        """


class AdaptiveAgent(Protocol):
    """Something that acts and adapts: all that an evaluation knows of it."""

    @property
    def remembers(self) -> bool:
        """Whether it learns while it acts, so that a task's episodes must follow one another.

        One that does not learns in `adapt` alone, from episodes that may be played side by side.
        """

    def play(self, num_tasks: int, num_envs: int, generator: torch.Generator) -> Player:
        """Begin with tasks it knows nothing of.

        Args:
            num_tasks: N.
            num_envs: E, environments of each task; each has a memory of its own, if any.
            generator: of the actions, on the agent's device.
        """


class TrainableAgent(AdaptiveAgent, Protocol):
    """An agent that a script can train, save and resume."""

    family: TaskFamily
    config: Any
    seed: int
    device: torch.device
    num_iterations: int
    num_env_steps: int

    @property
    def score(self) -> str:
        """The metric whose highest mean marks the best checkpoint."""

    def iterate(self) -> dict[str, float]:
        """One training iteration; what happened, by name."""

    def close(self) -> None:
        """Free the training environments."""

    def save(self, path: Path | str) -> None:
        """Write a checkpoint."""
