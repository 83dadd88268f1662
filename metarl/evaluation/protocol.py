"""Evaluation protocols: how much data an agent gets, and how it is scored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from metarl.validation import Count, NumSteps, Seed, Settings, lookup

__all__ = [
    "PRESETS",
    "Deterministic",
    "EvaluationProtocol",
    "ProtocolFacts",
    "preset",
    "stored_deterministic",
    "without_adaptation",
]

ProtocolFacts: TypeAlias = dict[str, str | int | float | bool]
"""The facts of a few-shot benchmark that decide its scores, by name; stored with every result."""

Deterministic: TypeAlias = Literal["never", "evaluation", "always"]


@dataclass(frozen=True)
class EvaluationProtocol(Settings):
    """Number of episodes that an agent adapts to, and selection of the scored episodes.

    Stage s is the agent after s adaptation steps, each on K exploration episodes, and M evaluation
    episodes are scored at each stage. An agent without a memory runs them in parallel. An agent
    with a memory has M independent trials of each task; the score of stage s in a trial is the
    episode that follows s · K exploration episodes.
    """

    num_tasks: Count = 40
    """Number of tasks."""
    split: str = "test"
    """Split that the tasks are sampled from: test, train, or one of the family's other splits."""
    exploration_episodes: Count = 20
    """K, episodes of each task that each adaptation step uses."""
    adaptation_steps: NumSteps = 3
    """Number of adaptation steps; 0 evaluates the agent without adaptation."""
    evaluation_episodes: Count = 20
    """M, episodes of each task that are scored before adaptation and after each step."""
    deterministic: Deterministic = "never"
    """Episodes in which the agent takes the most likely action instead of a sampled one: never;
    evaluation, in evaluation episodes but not in exploration; or always. An agent without a memory
    always explores with sampled actions, because its adaptation steps need their probabilities."""
    task_score: Literal["mean", "last"] = "mean"
    """Score of a task: the mean over its evaluation episodes, or the last episode."""
    paired: bool = False
    """Give all runs the same tasks and random numbers. By default each run has its own tasks and
    random numbers, so that the variation between runs includes theirs."""
    seed: Seed = 0
    """Seed of tasks, initial states and actions; independent of the seeds in training."""

    @property
    def shares_episodes(self) -> bool:
        """Whether the scored episodes of a stage are the data of the next adaptation step.

        This concerns agents without a memory.
        """
        sampled = self.deterministic == "never"
        return sampled and self.exploration_episodes == self.evaluation_episodes

    @property
    def is_one_trial(self) -> bool:
        """Whether all stages of an agent with a memory can be read from the same trials."""
        return self.deterministic != "evaluation"

    @property
    def stages_are_episodes(self) -> bool:
        """Whether the stages of an agent with a memory are the successive episodes of a trial."""
        return self.exploration_episodes == 1 and self.is_one_trial

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

    def num_exploratory(self, stage: int) -> int | None:
        """Episodes of a trial before the actions become deterministic; None: they never do."""
        if self.deterministic == "never":
            return None
        return 0 if self.deterministic == "always" else self.episodes_before(stage)

    def describe(self, tasks: str | None = None) -> str:
        """A one-line description for the title of a table.

        Args:
            tasks: the tasks in words; None: their number and split.
        """
        count, explored = self.evaluation_episodes, self.exploration_episodes
        scored = "1 episode" if count == 1 else f"{self.task_score} of {count} episodes"
        per_step = "1 episode" if explored == 1 else f"{explored} episodes"
        kind = {
            "never": "sampled actions",
            "evaluation": "most likely actions (sampled in exploration)",
            "always": "most likely actions",
        }[self.deterministic]
        data = f"{per_step} of data per step, " if self.adaptation_steps else ""
        paired = "paired runs, " if self.paired else ""
        return (
            f"{tasks or f'{self.num_tasks} {self.split} tasks'}, {scored} with {kind}, "
            f"{data}{paired}seed {self.seed}"
        )


def stored_deterministic(value: object) -> object:
    """The current value of `deterministic`, from a value that earlier versions stored."""
    if isinstance(value, bool):
        return "evaluation" if value else "never"
    return "evaluation" if value == "measured" else value


PRESETS = {
    "maml": EvaluationProtocol(),
    "pearl": EvaluationProtocol(
        num_tasks=30,
        exploration_episodes=2,
        adaptation_steps=1,
        evaluation_episodes=1,
        deterministic="always",
        task_score="last",
    ),
    "rl2": EvaluationProtocol(exploration_episodes=1, adaptation_steps=1, evaluation_episodes=1),
    "varibad": EvaluationProtocol(
        exploration_episodes=1,
        adaptation_steps=1,
        evaluation_episodes=1,
        deterministic="always",
    ),
    "metaworld": EvaluationProtocol(
        num_tasks=50,
        exploration_episodes=10,
        adaptation_steps=1,
        evaluation_episodes=3,
        deterministic="evaluation",
    ),
}
"""Protocols of published results, each as in the code of its source.

maml (Finn et al. 2017, arXiv:1703.03400): 40 tasks; mean return of 20 episodes with sampled
actions, before and after 1, 2 and 3 gradient steps, each on the 20 episodes that were measured
before it. Source: cbfinn/maml_rl, commit 9c8e2eb, maml_examples/test_maml_cheetah.py, lines 26 (40
tasks), 56 (4 iterations) and 74–75 (4,000 steps in episodes of 200). The step size is halved after
the first step (line 79), which is a setting of the agent here (`extra_step_lr_factor`).

pearl (Rakelly et al. 2019, arXiv:1903.08254): the last of 3 episodes, all with most likely
actions; the first 2 are the context. Source: katerakelly/oyster, commit 44e20fd,
rlkit/core/rl_algorithm.py, lines 356–362 and 387, with configs/default.py, lines 24 and 28 (600
steps in episodes of 200). Differs: PEARL explores by sampling its latent variable again in each
episode, which only an agent with a latent variable can do; it averages `num_evals` repetitions,
which `evaluation_episodes` cannot express together with `task_score="last"`.

rl2 (Duan et al. 2016, arXiv:1611.02779): the return of each episode of a trial, with sampled
actions. The authors published no code; actions are sampled as in training. This is the default for
agents with a memory, with as many episodes as in training.

varibad (Zintgraf et al. 2020, arXiv:1910.08348): the return of each episode of a trial, with most
likely actions from the first step. Source: lmzintgraf/varibad, commit 57e1795, utils/evaluation.py,
lines 61–95. Differs: the source measures as many tasks as it has processes, 16 by default.

metaworld (Yu et al. 2019, arXiv:1910.10897): success in 3 episodes with `eval_action` after 10
episodes with `adapt_action`. Source: Farama-Foundation/Metaworld, commit 7ea2b501,
metaworld/evaluation.py, lines 106–170. Differs: the source ends measured episodes at the first
success (line 54), which changes the return but not success; here they run to the horizon. An
agent decides itself whether `eval_action` is deterministic; here it is.
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
