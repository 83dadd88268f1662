"""Reference algorithms for Bernoulli bandits with p ~ U(0, 1).

Each counts the successes and failures of every arm and pulls the first arm with the highest score.
Parameters that Duan et al. 2016 tuned for every number of pulls and arms are arguments; their grids
are in the code of the paper (rllab, `sandbox/rocky`). The exact optimum is in `bandit_optima`.

Rules also explore if deterministic actions are requested.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from metarl.planning.gittins import discounted_indices, finite_horizon_indices
from metarl.planning.posteriors import sample_beta
from metarl.planning.selection import explore, random_argmax
from metarl.rollouts.episodes import Episodes
from metarl.rollouts.trials import ActorInput
from metarl.tasks.family import TaskFamily
from metarl.tasks.structure import BernoulliBandit
from metarl.validation import require_at_least, require_between

from .structures import require_structure

__all__ = [
    "UCB1",
    "ArmCounts",
    "BanditReference",
    "EpsilonGreedy",
    "FiniteHorizonGittins",
    "Gittins",
    "Greedy",
    "OptimisticThompsonSampling",
    "ThompsonSampling",
]

_MAX_FINITE_HORIZON = 200  # the size of the table is the cube of this


class ArmCounts(NamedTuple):
    """Results of the pulls of a trial so far; leading axes [tasks, envs]."""

    successes: Tensor  # [N, E, k] float64
    failures: Tensor  # [N, E, k] float64
    total: int  # pulls per environment

    @property
    def pulls(self) -> Tensor:
        """Number of pulls of each arm. Shape [N, E, k]."""
        return self.successes + self.failures

    @property
    def means(self) -> Tensor:
        """Posterior mean of each arm, (s + 1) / (n + 2). Shape [N, E, k]."""
        return (self.successes + 1) / (self.pulls + 2)


class BanditReference(ABC):
    """A rule that maps counts to the next arm."""

    title: ClassVar[str]
    remembers = True

    def __init__(self, family: TaskFamily, *, num_episodes: int = 1) -> None:
        """
        Args:
            family: a Bernoulli bandit.
            num_episodes: episodes of a trial; an episode has `family.horizon` pulls.

        Raises:
            ValueError: if the family is not a Bernoulli bandit or a number is out of range.
        """
        require_at_least("num_episodes", num_episodes, 1)
        self.num_arms = require_structure(self.title, family, BernoulliBandit).num_arms
        self.num_pulls = num_episodes * family.horizon

    def play(self, num_tasks: int, num_envs: int, generator: torch.Generator) -> BanditPlayer:
        """Create an actor without any pulls."""
        return BanditPlayer(self, (num_tasks, num_envs), generator)

    @abstractmethod
    def choose(self, counts: ArmCounts, generator: torch.Generator) -> Tensor:
        """The next arm of each environment, [N, E] int64."""


class BanditPlayer:
    """Counts the results of a rule's arms and applies the rule."""

    def __init__(
        self, rule: BanditReference, batch_shape: tuple[int, int], generator: torch.Generator
    ) -> None:
        self._rule, self._generator = rule, generator
        zeros = torch.zeros(
            *batch_shape, rule.num_arms, dtype=torch.float64, device=generator.device
        )
        self._counts = ArmCounts(zeros, zeros, 0)

    def act(self, actor_input: ActorInput) -> Tensor:
        """Count the previous rewards and return the next arms.

        Raises:
            ValueError: if the trial is longer than specified.
        """
        if actor_input.previous_actions is not None:
            successes, failures, total = self._counts
            arms = actor_input.previous_actions.unsqueeze(-1)
            rewards = actor_input.previous_rewards.to(successes).unsqueeze(-1)
            successes = successes.scatter_add(-1, arms, rewards)
            self._counts = ArmCounts(
                successes, failures.scatter_add(-1, arms, 1 - rewards), total + 1
            )
        if self._counts.total >= self._rule.num_pulls:
            raise ValueError(
                f"num_episodes must match the trial: {self._rule.title} was created for "
                f"{self._rule.num_pulls} pulls, but the trial has more"
            )
        return self._rule.choose(self._counts, self._generator)

    def adapt(self, episodes: Episodes) -> None:
        """Do nothing: the actor learns while acting."""


class Greedy(BanditReference):
    """Pulls the arm with the highest posterior mean, (s + 1) / (n + 2).

    Arms with equal means may have different counts, so ties matter: a random choice explores more
    than the first arm, which may be an arm with failures, listed before untried arms. The source
    uses the first.

    Source: Duan et al. 2016 (arXiv:1611.02779), sec. 3.1.
    """

    title = "greedy"

    def __init__(
        self, family: TaskFamily, *, random_ties: bool = False, num_episodes: int = 1
    ) -> None:
        """Arguments of `BanditReference`, and whether ties are broken at random."""
        super().__init__(family, num_episodes=num_episodes)
        self._random_ties = random_ties

    def choose(self, counts: ArmCounts, generator: torch.Generator) -> Tensor:
        if self._random_ties:
            return random_argmax(counts.means, generator)
        return counts.means.argmax(-1)


class EpsilonGreedy(BanditReference):
    """Pulls the arm with the highest posterior mean, or a uniform one with probability ε.

    Source: Duan et al. 2016, sec. 3.1, where ε is the best of 0, .1, …, 1 for each setting.
    """

    title = "ε-greedy"

    def __init__(self, family: TaskFamily, *, epsilon: float = 0.1, num_episodes: int = 1) -> None:
        """Arguments of `BanditReference`, and ε in [0, 1]."""
        super().__init__(family, num_episodes=num_episodes)
        require_between("epsilon", epsilon, 0, 1)
        self._epsilon = epsilon

    def choose(self, counts: ArmCounts, generator: torch.Generator) -> Tensor:
        best = counts.means.argmax(-1)
        return explore(best, self.num_arms, self._epsilon, generator)


class UCB1(BanditReference):
    """Pulls the arm with the highest upper confidence bound.

        (s + b) / (n + 2b) + c √(2 ln t / (n + 2b))

    with t pulls of all arms so far (at least 1), and b additional successes and failures of each
    arm. With b = 0 and c = 1 this is Auer's rule, which first pulls every arm once.

    Source: Auer et al. 2002, fig. 1; c and b = 1 from Duan et al. 2016, sec. 3.1, where c is the
    best of 0, .1, …, 1 for each setting. The default 0.2 is the best or nearly so in all.
    """

    title = "UCB1"

    def __init__(
        self, family: TaskFamily, *, c: float = 0.2, prior_count: int = 1, num_episodes: int = 1
    ) -> None:
        """Arguments of `BanditReference`, and c and b (`prior_count`), both 0 or more."""
        super().__init__(family, num_episodes=num_episodes)
        require_between("c", c, 0, float("inf"), open_high=True)
        require_at_least("prior_count", prior_count, 0)
        self._c, self._prior_count = c, prior_count

    def choose(self, counts: ArmCounts, generator: torch.Generator) -> Tensor:
        del generator
        pulls = counts.pulls + 2 * self._prior_count
        log_total = torch.tensor(max(counts.total, 1), dtype=torch.float32).log()
        width = self._c * (2 * log_total / pulls).sqrt()
        bounds = (counts.successes + self._prior_count) / pulls + width
        return torch.where(pulls > 0, bounds, torch.inf).argmax(-1)


class ThompsonSampling(BanditReference):
    """Pulls the arm that is best in one sample from the posterior, Beta(s + 1, f + 1) for each arm.

    Source: Thompson 1933; Chapelle & Li 2011, algorithm 2.
    """

    title = "Thompson sampling"

    def choose(self, counts: ArmCounts, generator: torch.Generator) -> Tensor:
        samples = sample_beta(counts.successes + 1, counts.failures + 1, generator)
        return samples.argmax(-1)


class OptimisticThompsonSampling(BanditReference):
    """Pulls the arm that is best in the most likely of M samples from the posterior of all arms.

        argmax_a p_a^(j),   j = argmax_j Σ_a ln Beta(p_a^(j); s_a + 1, f_a + 1)

    Source: Duan et al. 2016, sec. 3.1, "samples N times from the posterior, and takes the one with
    the highest probability", M the best of 1 … 20 for each setting. The name is
    also theirs; the rule of May et al. 2012, which they cite, instead uses the mean as lower bound.
    """

    title = "optimistic Thompson sampling"

    def __init__(self, family: TaskFamily, *, num_samples: int = 20, num_episodes: int = 1) -> None:
        """Arguments of `BanditReference`, and M (`num_samples`), 1 or more."""
        super().__init__(family, num_episodes=num_episodes)
        require_at_least("num_samples", num_samples, 1)
        self._num_samples = num_samples

    def choose(self, counts: ArmCounts, generator: torch.Generator) -> Tensor:
        shape = (self._num_samples, *counts.successes.shape)
        successes, failures = counts.successes.expand(shape), counts.failures.expand(shape)
        samples = sample_beta(successes + 1, failures + 1, generator)  # [M, N, E, k]
        # The Beta function is a constant of the density.
        density = torch.xlogy(successes, samples) + torch.special.xlog1py(failures, -samples)
        likeliest = density.sum(-1).argmax(0)  # [N, E]
        picked = likeliest[None, ..., None].expand(1, *counts.successes.shape)
        return samples.gather(0, picked)[0].argmax(-1)


class Gittins(BanditReference):
    """Pulls the arm with the highest Gittins index over an infinite horizon discounted by γ.

    Source: Gittins 1979; Duan et al. 2016, sec. 3.1, who report the best of several
    approximations for each setting. One is a table for γ = .9, .99, .999 and .9999, but their code
    always uses the last of these, and reads it one success and one failure too far; for few pulls,
    their column is therefore below ours.
    """

    title = "Gittins index"

    def __init__(
        self, family: TaskFamily, *, discount: float | None = None, num_episodes: int = 1
    ) -> None:
        """Arguments of `BanditReference`, and γ in [0, 1), by default 1 − 1 / pulls."""
        super().__init__(family, num_episodes=num_episodes)
        self._discount = 1 - 1 / self.num_pulls if discount is None else discount
        require_between("discount", self._discount, 0, 1, open_high=True)

    def choose(self, counts: ArmCounts, generator: torch.Generator) -> Tensor:
        del generator
        device = counts.successes.device
        table = _discounted_table(self._discount, self.num_pulls, device)
        return table[counts.pulls.long(), counts.successes.long()].argmax(-1)


class FiniteHorizonGittins(BanditReference):
    """Pulls the arm with the highest undiscounted index for the remaining pulls.

    Source: Kaufmann 2018 (arXiv:1601.01190), sec. 3.2, there FH-Gittins; Niño-Mora 2011.
    """

    title = "finite-horizon Gittins index"

    def __init__(self, family: TaskFamily, *, num_episodes: int = 1) -> None:
        """Arguments of `BanditReference`, for trials of at most 200 pulls."""
        super().__init__(family, num_episodes=num_episodes)
        if self.num_pulls > _MAX_FINITE_HORIZON:
            raise ValueError(
                f"{self.title} needs a trial of at most {_MAX_FINITE_HORIZON} pulls, got "
                f"{self.num_pulls}; use the discounted index instead"
            )

    def choose(self, counts: ArmCounts, generator: torch.Generator) -> Tensor:
        del generator
        tables = _finite_table(self.num_pulls, counts.successes.device)
        table = tables[self.num_pulls - counts.total]
        return table[counts.pulls.long(), counts.successes.long()].argmax(-1)


@lru_cache(maxsize=8)
def _discounted_table(discount: float, num_pulls: int, device: torch.device) -> Tensor:
    return discounted_indices(discount, num_pulls).to(device)


@lru_cache(maxsize=2)
def _finite_table(horizon: int, device: torch.device) -> Tensor:
    return finite_horizon_indices(horizon).to(device)
