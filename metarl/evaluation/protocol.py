"""How adaptation is measured: every number that makes two published returns differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from metarl.validation import Count, Settings, WholeNumber, lookup

__all__ = ["PRESETS", "EvaluationProtocol", "ProtocolFacts", "preset"]

ProtocolFacts: TypeAlias = dict[str, str | int | float | bool]
"""What decides a benchmark's numbers, by name: printed and stored with every few-shot result."""


@dataclass(frozen=True)
class EvaluationProtocol(Settings):
    """How much an agent may see of a task before it is measured, and what is measured.

    Stage s is the agent after s adaptation steps, each on K exploration episodes. An agent that
    learns while it acts has no steps; for it stage s comes after s · K episodes of its trial. At
    every stage the evaluation episodes are played from there. Where as many are evaluated as
    explored, stochastically, the episodes evaluated at a stage are also the data of the next.
    """

    num_tasks: Count = 40
    """Tasks."""
    split: str = "test"
    """Where the tasks come from."""
    exploration_episodes: Count = 20
    """K: episodes of each task before each adaptation step."""
    adaptation_steps: WholeNumber = 3
    """Adaptation steps; 0 measures the agent as it is."""
    evaluation_episodes: Count = 20
    """Episodes of each task that are measured at each stage."""
    deterministic: bool = False
    """Take the most likely action in evaluation episodes; exploration is always stochastic."""
    reported: Literal["mean", "last"] = "mean"
    """Which evaluation episode counts: the mean of all, or the last."""
    seed: WholeNumber = 0
    """Of tasks, initial states and actions; independent of the streams of training."""

    @property
    def shares_episodes(self) -> bool:
        """Whether the episodes evaluated at a stage are the data of the next."""
        return self.exploration_episodes == self.evaluation_episodes and not self.deterministic

    @property
    def is_one_trial(self) -> bool:
        """Whether the stages of an agent with a memory are the episodes of one trial, in turn."""
        return self.evaluation_episodes == 1 and self.shares_episodes

    @property
    def num_stages(self) -> int:
        """Stages that are measured, that before any adaptation counted."""
        return self.adaptation_steps + 1

    @property
    def episodes_together(self) -> int:
        """Environments of each task side by side, for agents without a memory."""
        measured = self.evaluation_episodes
        return max(self.exploration_episodes, measured) if self.adaptation_steps else measured

    def episodes_before(self, stage: int) -> int:
        """Episodes of each task that the agent has learnt from at a stage."""
        return stage * self.exploration_episodes

    def describe(self) -> str:
        """One line for a table's title."""
        count, kind = self.evaluation_episodes, "most likely" if self.deterministic else "drawn"
        scored = "1 episode" if count == 1 else f"{self.reported} of {count} episodes"
        explored = self.exploration_episodes
        per_step = "1 episode" if explored == 1 else f"{explored} episodes"
        return (
            f"{self.num_tasks} {self.split} tasks, {scored} with {kind} actions, "
            f"{per_step} of data per step, seed {self.seed}"
        )


PRESETS = {
    "maml": EvaluationProtocol(),
    "pearl": EvaluationProtocol(
        num_tasks=30,
        exploration_episodes=2,
        adaptation_steps=1,
        evaluation_episodes=1,
        deterministic=True,
        reported="last",
    ),
    "varibad": EvaluationProtocol(
        exploration_episodes=1, adaptation_steps=1, evaluation_episodes=1
    ),
    "metaworld": EvaluationProtocol(
        num_tasks=50,
        exploration_episodes=10,
        adaptation_steps=1,
        evaluation_episodes=3,
        deterministic=True,
    ),
}
"""What published numbers mean.

maml: stochastic return after 1, 2, 3 gradient steps on 20 episodes each, the mean of 20 (Finn et
al. 2017, arXiv:1703.03400; its reference code). pearl: the last of 3 trajectories, 2 of which
explore (Rakelly et al. 2019, arXiv:1903.08254); differs: the two explore stochastically. varibad:
the return of each episode in turn (Zintgraf et al. 2020, arXiv:1910.08348). metaworld: success in
3 episodes after 10 (Yu et al. 2019, arXiv:1910.10897; metaworld.evaluation).
"""


def preset(name: str) -> EvaluationProtocol:
    """The protocol of a preset.

    Raises:
        ValueError: if there is none of the name, with the nearest.
    """
    return lookup("preset", name, PRESETS)
