"""Evaluation protocols: how much data an agent gets, and how it is scored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from metarl.validation import Count, NumSteps, Seed, Settings, lookup

__all__ = ["PRESETS", "EvaluationProtocol", "ProtocolFacts", "preset", "without_adaptation"]

ProtocolFacts: TypeAlias = dict[str, str | int | float | bool]
"""The facts of a few-shot benchmark that decide its scores, by name; stored with every result."""


@dataclass(frozen=True)
class EvaluationProtocol(Settings):
    """Number of episodes that an agent adapts to, and selection of the scored episodes.

    Stage s is the agent after s adaptation steps, each on K exploration episodes; an agent with a
    memory is at stage s after s · K episodes of its trial. At each stage, evaluation episodes are
    collected and scored. If there are as many evaluation as exploration episodes and actions are
    sampled, the evaluation episodes of a stage are also the data of the next adaptation step.
    """

    num_tasks: Count = 40
    """Number of tasks."""
    split: str = "test"
    """Split that the tasks are sampled from: test, train, or one of the family's other splits."""
    exploration_episodes: Count = 20
    """Episodes of each task that each adaptation step uses."""
    adaptation_steps: NumSteps = 3
    """Number of adaptation steps; 0 evaluates the agent without adaptation."""
    evaluation_episodes: Count = 20
    """Episodes of each task that are scored before adaptation and after each step."""
    deterministic: bool = False
    """Take the most likely action in evaluation episodes; exploration always samples actions."""
    reported: Literal["mean", "last"] = "mean"
    """Score of a task: the mean over its evaluation episodes, or the last episode."""
    seed: Seed = 0
    """Seed of tasks, initial states and actions; independent of the seeds in training."""

    @property
    def shares_episodes(self) -> bool:
        """Whether the evaluation episodes of a stage are the data of the next adaptation step."""
        return self.exploration_episodes == self.evaluation_episodes and not self.deterministic

    @property
    def is_one_trial(self) -> bool:
        """Whether the stages of an agent with a memory are the successive episodes of one trial."""
        return self.evaluation_episodes == 1 and self.shares_episodes

    @property
    def num_stages(self) -> int:
        """Number of stages, including the stage before adaptation."""
        return self.adaptation_steps + 1

    @property
    def episodes_together(self) -> int:
        """Environments of each task that run in parallel, for agents without a memory."""
        evaluated = self.evaluation_episodes
        return max(self.exploration_episodes, evaluated) if self.adaptation_steps else evaluated

    def episodes_before(self, stage: int) -> int:
        """Number of episodes of each task that the agent has learned from at a stage."""
        return stage * self.exploration_episodes

    def describe(self) -> str:
        """A one-line description for the title of a table."""
        count, kind = self.evaluation_episodes, "most likely" if self.deterministic else "sampled"
        scored = "1 episode" if count == 1 else f"{self.reported} of {count} episodes"
        explored = self.exploration_episodes
        per_step = "1 episode" if explored == 1 else f"{explored} episodes"
        data = f", {per_step} of data per step" if self.adaptation_steps else ""
        return (
            f"{self.num_tasks} {self.split} tasks, {scored} with {kind} actions{data}, "
            f"seed {self.seed}"
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
"""Protocols of published results.

maml: mean return of 20 episodes with sampled actions, after 1, 2 and 3 gradient steps on 20
episodes each (Finn et al. 2017, arXiv:1703.03400, and its reference code). pearl: return of the
last of 3 episodes, of which the first 2 explore (Rakelly et al. 2019, arXiv:1903.08254); differs:
exploration samples actions from the policy. varibad: return of each episode of a trial (Zintgraf
et al. 2020, arXiv:1910.08348). metaworld: success in 3 episodes after 10 episodes of data (Yu et
al. 2019, arXiv:1910.10897; `metaworld.evaluation`).
"""


def without_adaptation(protocol: EvaluationProtocol) -> EvaluationProtocol:
    """The protocol with the stage before adaptation only."""
    return replace(protocol, adaptation_steps=0)


def preset(name: str) -> EvaluationProtocol:
    """The protocol of a preset.

    Raises:
        ValueError: if the name is unknown; the message suggests the nearest one.
    """
    return lookup("preset", name, PRESETS)
