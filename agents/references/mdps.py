"""Reference algorithms for tabular Markov decision processes.

Each has a conjugate belief about rewards and transitions, plans from it once per episode by dynamic
programming for all tasks and environments together, and takes the action with the highest value;
ties are broken at random.

Formulas and default priors are from the table of Duan et al. 2016: their code (rllab,
`sandbox/rocky`) uses Osband's TabulaRL with different priors, whose mean reward is 0, although the
tasks' mean is 1. `TRUE_PRIOR` is the tasks' distribution. The choice matters: over 10 episodes, BEB
and greedy planning have higher returns with it, PSRL lower ones. Transitions of an episode's last
step are not learned, because they are not observed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from metarl.planning.dynamic_programming import (
    action_values,
    bonus_action_values,
    extended_action_values,
)
from metarl.planning.posteriors import (
    MDPPosterior,
    MDPPrior,
    mean_mdp,
    sample_mdp,
    update_posterior,
)
from metarl.planning.selection import explore, random_argmax
from metarl.rollouts.episodes import Episodes
from metarl.rollouts.trials import ActorInput
from metarl.tasks.family import TaskFamily
from metarl.tasks.structure import TabularMDP
from metarl.validation import require_at_least, require_between

from .structures import require_structure

__all__ = [
    "BEB",
    "DUAN_PRIOR",
    "FLAT_PRIOR",
    "PSRL",
    "TRUE_PRIOR",
    "UCRL2",
    "EpsilonGreedyPlanning",
    "GreedyPlanning",
    "MDPBaseline",
    "OptimisticPSRL",
    "informed_beb",
    "informed_greedy",
]

TRUE_PRIOR = MDPPrior()
DUAN_PRIOR = MDPPrior(reward_mean=0.0)
FLAT_PRIOR = MDPPrior(reward_mean=0.0, reward_precision=1e-4, concentration=1e-4)
"""A nearly flat prior; the expected reward of untried actions is 0."""
UCRL2_PRIOR = MDPPrior(reward_mean=0.0, reward_precision=1e-4, concentration=1e-5)


class TabularShape(NamedTuple):
    """Sizes of a tabular Markov decision process."""

    num_states: int
    num_actions: int
    horizon: int  # steps of an episode


class MDPBaseline(ABC):
    """An algorithm that plans each episode from its belief."""

    title: ClassVar[str]
    remembers = True
    epsilon = 0.0
    """Probability of a uniform action."""

    def __init__(self, family: TaskFamily, prior: MDPPrior, *, num_episodes: int = 1) -> None:
        """
        Args:
            family: a tabular Markov decision process.
            prior: belief about rewards and transitions before any data.
            num_episodes: episodes of a trial; it has no effect because plans end with the episode.

        Raises:
            ValueError: if the family is not such a process or a number is out of range.
        """
        require_at_least("num_episodes", num_episodes, 1)
        structure = require_structure(self.title, family, TabularMDP)
        self.shape = TabularShape(structure.num_states, structure.num_actions, family.horizon)
        self.prior = prior

    def play(self, num_tasks: int, num_envs: int, generator: torch.Generator) -> MDPActor:
        """Create an actor with the prior as belief."""
        return MDPActor(self, (num_tasks, num_envs), generator)

    @abstractmethod
    def plan(self, belief: MDPPosterior, episode: Tensor, generator: torch.Generator) -> Tensor:
        """Compute action values Q_t [N, E, T, S, A] at the start of episodes.

        Args:
            belief: leading axes [N, E].
            episode: number of earlier episodes, int64. Shape [N, E].
            generator: random generator on the belief's device.
        """


class MDPActor:
    """Updates the belief about each environment, and acts by the plan for its episode."""

    def __init__(
        self, reference: MDPBaseline, batch_shape: tuple[int, int], generator: torch.Generator
    ) -> None:
        self._reference, self._generator = reference, generator
        states, actions, _ = reference.shape
        self._belief = reference.prior.posterior(batch_shape, states, actions, generator.device)
        self._episode = torch.zeros(batch_shape, dtype=torch.int64, device=generator.device)
        self._time = torch.zeros_like(self._episode)
        self._states = torch.zeros_like(self._episode)
        self._values: Tensor | None = None  # [N, E, T, S, A]

    def act(self, actor_input: ActorInput) -> Tensor:
        """Learn from the previous transitions and return the actions with the highest values."""
        states = actor_input.observations.argmax(-1)
        if actor_input.previous_actions is not None:
            self._learn(actor_input, states)
        self._states = states
        if self._values is None:
            self._values = self._plan()
        elif bool(actor_input.episode_ended.any()):
            begins = actor_input.episode_ended[..., None, None, None]
            self._values = torch.where(begins, self._plan(), self._values)
        *_, num_actions = self._values.shape
        rows = (self._time * self._values.shape[-2] + states)[..., None, None]
        scores = self._values.flatten(-3, -2).gather(-2, rows.expand(*rows.shape[:-1], num_actions))
        best = random_argmax(scores.squeeze(-2), self._generator)
        return explore(best, num_actions, self._reference.epsilon, self._generator)

    def adapt(self, episodes: Episodes) -> None:
        """Do nothing: the actor learns while acting."""

    def _learn(self, actor_input: ActorInput, states: Tensor) -> None:
        actions, ended = actor_input.previous_actions, actor_input.episode_ended
        assert actions is not None
        self._belief = update_posterior(
            self._belief,
            self._states,
            actions,
            actor_input.previous_rewards,
            next_states=states,
            continues=~ended,
        )
        self._episode = self._episode + ended
        last = self._reference.shape.horizon - 1
        self._time = torch.where(ended, 0, self._time + 1).clamp(max=last)

    def _plan(self) -> Tensor:
        return self._reference.plan(self._belief, self._episode, self._generator)


class PSRL(MDPBaseline):
    """Acts optimally for a process sampled from the posterior at the start of each episode.

    Source: Strens 2000; Osband et al. 2013 (arXiv:1306.0940), algorithm 1.
    """

    title = "PSRL"

    def __init__(
        self, family: TaskFamily, *, prior: MDPPrior = DUAN_PRIOR, num_episodes: int = 1
    ) -> None:
        super().__init__(family, prior, num_episodes=num_episodes)

    def plan(self, belief: MDPPosterior, episode: Tensor, generator: torch.Generator) -> Tensor:
        del episode
        return action_values(*sample_mdp(belief, generator), self.shape.horizon)


class OptimisticPSRL(MDPBaseline):
    """Acts by the highest value of each action in M processes sampled from the posterior.

        Q_t(s, a) = max_j Q_t^(j)(s, a)

    Source: TabulaRL's `OptimisticPSRL`, as Duan et al. 2016 used it, M the best of 1 … 20 for
    each number of episodes; the idea is in Osband & Van Roy 2017 (arXiv:1607.00215).
    """

    title = "optimistic PSRL"

    def __init__(
        self,
        family: TaskFamily,
        *,
        num_samples: int = 8,
        prior: MDPPrior = DUAN_PRIOR,
        num_episodes: int = 1,
    ) -> None:
        """Arguments of `MDPBaseline`, and M (`num_samples`) 1 or more."""
        super().__init__(family, prior, num_episodes=num_episodes)
        require_at_least("num_samples", num_samples, 1)
        self._num_samples = num_samples

    def plan(self, belief: MDPPosterior, episode: Tensor, generator: torch.Generator) -> Tensor:
        del episode
        horizon = self.shape.horizon
        best = action_values(*sample_mdp(belief, generator), horizon)
        for _ in range(self._num_samples - 1):  # in a loop, to save memory
            best = best.maximum(action_values(*sample_mdp(belief, generator), horizon))
        return best


class UCRL2(MDPBaseline):
    """Acts optimally for the best process within confidence sets around the empirical one.

        δ_r = w √(4 L / max(n, 1)),   δ_P = w √(4 S L / max(n, 1)),   L = ln(2 S A (i + 1) / δ)

    in the i-th episode, i = 1, 2, …, after n observed rewards (δ_r) or transitions (δ_P) of (s, a);
    δ = 0.05.

    Source: Jaksch et al. 2010, sec. 3, with the constants of TabulaRL's `UCRL2`, as Duan et al.
    2016 used it, w the best of 21 from 10⁻⁴ to 1, evenly in the logarithm. Differs: TabulaRL
    modifies the model during planning, so optimism accumulates over the steps of an episode.
    """

    title = "UCRL2"

    def __init__(
        self,
        family: TaskFamily,
        *,
        scaling: float = 0.3,
        failure_probability: float = 0.05,
        prior: MDPPrior = UCRL2_PRIOR,
        num_episodes: int = 1,
    ) -> None:
        """Arguments of `MDPBaseline`, and w (`scaling`) 0 or more and δ in (0, 1)."""
        super().__init__(family, prior, num_episodes=num_episodes)
        require_between("scaling", scaling, 0, math.inf, open_high=True)
        require_between(
            "failure_probability", failure_probability, 0, 1, open_low=True, open_high=True
        )
        self._scaling, self._delta = scaling, failure_probability

    def plan(self, belief: MDPPosterior, episode: Tensor, generator: torch.Generator) -> Tensor:
        del generator
        states, actions, horizon = self.shape
        rewards, transitions = mean_mdp(belief)
        log_term = (2 * states * actions * (episode + 2) / self._delta).log()[..., None, None]
        observations = belief.reward_precisions - self.prior.reward_precision
        reward_slack = self._scaling * (4 * log_term / observations.clamp(min=1)).sqrt()
        arrivals = belief.concentrations.sum(-1) - states * self.prior.concentration
        slack = self._scaling * (4 * states * log_term / arrivals.clamp(min=1)).sqrt()
        return extended_action_values(rewards, transitions, reward_slack, slack, horizon)


class BEB(MDPBaseline):
    """Acts optimally for the expected process with a bonus for rarely tried actions.

        r(s, a) + 1 / (1 + τ) + (T − 1 − t) 2 w T³ / (1 + Σ α)

    at step t of T, with τ and α from the belief about (s, a).

    Source: Kolter & Ng 2009, sec. 4 (bonus β / (1 + n)), as in TabulaRL's `BEB`, which Duan et
    al. 2016 used, w the best of 21 from 10⁻⁴ to 1, evenly in the logarithm.
    """

    title = "BEB"

    def __init__(
        self,
        family: TaskFamily,
        *,
        scaling: float = 1e-3,
        prior: MDPPrior = DUAN_PRIOR,
        num_episodes: int = 1,
    ) -> None:
        """Arguments of `MDPBaseline`, and w (`scaling`) 0 or more."""
        super().__init__(family, prior, num_episodes=num_episodes)
        require_between("scaling", scaling, 0, math.inf, open_high=True)
        self._scaling = scaling

    def plan(self, belief: MDPPosterior, episode: Tensor, generator: torch.Generator) -> Tensor:
        del episode, generator
        horizon = self.shape.horizon
        beta = 2 * self._scaling * horizon**3
        return bonus_action_values(
            *mean_mdp(belief),
            1 / (1 + belief.reward_precisions),
            beta / (1 + belief.concentrations.sum(-1)),
            horizon,
        )


class GreedyPlanning(MDPBaseline):
    """Acts optimally for the expected process under a nearly flat prior.

    Source: Duan et al. 2016, sec. 3.2: ε-greedy with ε = 0.
    """

    title = "greedy planning"

    def __init__(
        self, family: TaskFamily, *, prior: MDPPrior = FLAT_PRIOR, num_episodes: int = 1
    ) -> None:
        super().__init__(family, prior, num_episodes=num_episodes)

    def plan(self, belief: MDPPosterior, episode: Tensor, generator: torch.Generator) -> Tensor:
        del episode, generator
        return action_values(*mean_mdp(belief), self.shape.horizon)


class EpsilonGreedyPlanning(GreedyPlanning):
    """Greedy planning, with a uniform action with probability ε.

    Source: TabulaRL's `EpsilonGreedy`, as Duan et al. 2016 used it, ε the best of .1, .2, …, 1.
    """

    title = "ε-greedy planning"

    def __init__(
        self,
        family: TaskFamily,
        *,
        epsilon: float = 0.1,
        prior: MDPPrior = FLAT_PRIOR,
        num_episodes: int = 1,
    ) -> None:
        """Arguments of `MDPBaseline`, and ε in [0, 1]."""
        super().__init__(family, prior=prior, num_episodes=num_episodes)
        require_between("epsilon", epsilon, 0, 1)
        self.epsilon = epsilon


def informed_greedy(family: TaskFamily, *, num_episodes: int = 1) -> GreedyPlanning:
    """Create greedy planning with the tasks' prior, to measure the value of Bayes' rule alone."""
    return GreedyPlanning(family, prior=TRUE_PRIOR, num_episodes=num_episodes)


def informed_beb(family: TaskFamily, *, num_episodes: int = 1) -> BEB:
    """Create BEB with the tasks' prior and w = 3 · 10⁻⁴, the best in our tests on 10 episodes."""
    return BEB(family, scaling=3e-4, prior=TRUE_PRIOR, num_episodes=num_episodes)
