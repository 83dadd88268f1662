"""Exact Bayes-optimal agents for some bandits, as references for an evaluation."""

from __future__ import annotations

import torch
from torch import Tensor

from metarl.planning.bandits import optimal_bandit_plan
from metarl.planning.selection import random_argmax
from metarl.rl.players import AdaptiveAgent
from metarl.rollouts.episodes import Episodes
from metarl.rollouts.trials import ActorInput
from metarl.tasks.family import TaskFamily
from metarl.tasks.structure import BernoulliBandit, InformativeArm
from metarl.validation import require_at_least

from .bandits import ArmCounts, BanditReference
from .structures import require_structure

__all__ = ["InformativeArmOptimum", "IndependentOptimum", "MirroredOptimum", "bayes_optimal"]


def bayes_optimal(family: TaskFamily, *, num_episodes: int = 1) -> AdaptiveAgent:
    """Create the Bayes-optimal agent of a bandit.

    Args:
        family: independent arms with p ~ U(0, 1), if the number of states is small (2 arms and 100
            pulls, or 10 pulls of any number of arms); a mirrored pair; or a bandit with an
            informative arm.
        num_episodes: episodes of a trial.

    Raises:
        ValueError: if the family is none of these, or has too many states.
    """
    if isinstance(family.structure, InformativeArm):
        return InformativeArmOptimum(family, num_episodes=num_episodes)
    bandit = require_structure("the Bayes optimum", family, BernoulliBandit)
    if bandit.prior == "mirrored":
        return MirroredOptimum(family, num_episodes=num_episodes)
    return IndependentOptimum(family, num_episodes=num_episodes)


class IndependentOptimum(BanditReference):
    """Maximizes the expected sum of rewards of a trial, by dynamic programming over counts.

    `value` is its mean return: 6.660 for 10 pulls of 5 arms, 6.714 for 10 or 50 arms.
    """

    title = "the Bayes optimum"

    def __init__(self, family: TaskFamily, *, num_episodes: int = 1) -> None:
        super().__init__(family, num_episodes=num_episodes)
        prior = require_structure(self.title, family, BernoulliBandit).prior
        if prior != "uniform":
            raise ValueError(
                f"{self.title} is only known for arms with p ~ U(0, 1) and mirrored pairs, but "
                f"{family.id} declares the prior {prior!r}"
            )
        self._plan = optimal_bandit_plan(self.num_arms, self.num_pulls)

    @property
    def value(self) -> float:
        """Expected sum of rewards of a trial."""
        return self._plan.value

    def choose(self, counts: ArmCounts, generator: torch.Generator) -> Tensor:
        del generator
        plan = self._plan = self._plan.to(counts.successes.device)
        return plan.arms(counts.successes, counts.failures)


class MirroredOptimum(BanditReference):
    """Pulls the arm that is more likely the better of two with reward probabilities p and 1 − p.

        d = s_1 + f_2 − f_1 − s_2;   arm 1 if d > 0, arm 2 if d < 0, either at 0

    A success of one arm gives the same information as a failure of the other, so exploration has no
    value, and the best arm for the next pull is optimal. It depends only on d.
    This holds for every distribution of p that is symmetric about ½.
    """

    title = "the Bayes optimum"

    def choose(self, counts: ArmCounts, generator: torch.Generator) -> Tensor:
        balance = counts.successes - counts.failures  # [N, E, 2]
        first = balance[..., 0] - balance[..., 1]
        return random_argmax(torch.stack([first, -first], dim=-1), generator)


class InformativeArmOptimum:
    """Pulls the informative arm, then the target; the return is 0.1 (target + 1) + 4 · 5.

    Source: Wang et al. 2016 (arXiv:1611.05763), sec. 3.1. The informative arm is the
    last one; the return is for 5 pulls.
    """

    remembers = True
    value = 20.55
    """Mean return of the first episode in Wang et al.'s bandit."""

    def __init__(self, family: TaskFamily, *, num_episodes: int = 1) -> None:
        """
        Args:
            family: a bandit with an informative arm.
            num_episodes: episodes of a trial; the rule does not depend on it.

        Raises:
            ValueError: if the family declares another structure or a number is out of range.
        """
        require_at_least("num_episodes", num_episodes, 1)
        self._structure = require_structure("the informed optimum", family, InformativeArm)

    def play(
        self, num_tasks: int, num_envs: int, generator: torch.Generator
    ) -> _InformativeArmActor:
        """Create an actor that does not know the target."""
        return _InformativeArmActor(self._structure, (num_tasks, num_envs), generator.device)


class _InformativeArmActor:
    def __init__(
        self, structure: InformativeArm, batch_shape: tuple[int, int], device: torch.device
    ) -> None:
        self._informative, self._reward_step = structure.num_targets, structure.reward_step
        self._arms = torch.full(batch_shape, self._informative, device=device)

    def act(self, actor_input: ActorInput) -> Tensor:
        """The informative arm first, then the target."""
        if actor_input.previous_actions is not None:
            revealed = (actor_input.previous_rewards / self._reward_step).round().to(
                torch.int64
            ) - 1
            was_revealed = actor_input.previous_actions == self._informative
            self._arms = torch.where(was_revealed, revealed, self._arms)
        return self._arms

    def adapt(self, episodes: Episodes) -> None:
        """Do nothing: the actor learns while acting."""
