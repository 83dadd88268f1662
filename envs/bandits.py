"""Bandits: pull arms and find the one that pays best. One episode is all the pulls of a task.

The observation says nothing, so a policy learns of an arm only from the rewards it gave.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.tasks.actions import require_action_indices
from metarl.tasks.family import uniform_tasks
from metarl.tasks.spaces import Tasks, TaskSpace
from metarl.tasks.structure import BernoulliBandit, InformativeArm
from metarl.validation import lookup

from .simulators.tensor import TensorFamily, Transition

__all__ = ["Bandit", "DependentBandit", "ElevenArmBandit"]

_WANG = "Wang et al. 2016 (arXiv:1611.05763)"


def _set_pulls(family: TensorFamily, pulls: int, arms: int) -> None:
    family.horizon, family.behaviour = pulls, "choices"
    family.observation_description = "nothing, a constant 0"
    # Gymnasium warns of a Box whose ends are equal, so this one is wider than its one point.
    family.observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
    family.action_space = spaces.Discrete(arms)


# Methods that the families below share: each names those it takes.


def _constant_states(
    family: TensorFamily, parameters: Tensor, shape: tuple[int, int], generator: torch.Generator
) -> Tensor:
    """The state, as the observation, is a constant 0. Shape [N, E, 1]."""
    del family, generator
    return parameters.new_zeros(*shape, 1)


def _pull(
    family: TensorFamily,
    states: Tensor,
    actions: Tensor,
    parameters: Tensor,
    generator: torch.Generator,
) -> Transition:
    """Pays 1 with the probability of the arm pulled, else 0; actions [N, E], parameters [N, k]."""
    del family
    require_action_indices(actions, states.shape[:2])
    uniform = torch.rand(actions.shape, generator=generator, device=actions.device)
    chances = parameters.gather(1, actions)
    rewards = (uniform < chances).to(parameters.dtype)
    return Transition(states, rewards, expected_rewards=chances)


def _best_arms(family: TensorFamily, states: Tensor, parameters: Tensor, time: Tensor) -> Tensor:
    """The arm that pays best [N, E], the first of several; parameters [N, k]."""
    del family, states
    return parameters.argmax(dim=1, keepdim=True).expand_as(time)


class Bandit(TensorFamily):
    """Arms that pay 1 with a hidden probability of their own, else 0.

        r ~ Bernoulli(p_a),   p_1 … p_k ~ U(0, 1) independently

    Task: the probabilities, shape [k]. Observation: a constant 0, [1]. Action: the arm. A variant
    "n100-k5" has episodes of 100 pulls and 5 arms. An arm that does not exist ends in torch's
    own error, as it does in the other families of this module.

    Source: Duan et al. 2016 (arXiv:1611.02779), sec. 3.1.
    """

    name: ClassVar[str] = "Bandit"
    _sizes: ClassVar[dict[str, tuple[int, int]]] = {
        f"n{pulls}-k{arms}": (pulls, arms) for pulls in (10, 100, 500) for arms in (5, 10, 50)
    }
    variants: ClassVar[tuple[str, ...]] = tuple(_sizes)
    source = "Duan et al. 2016 (arXiv:1611.02779)"
    warning = "published returns are the best of a training run, not its last"

    initial_states = _constant_states
    transition = _pull
    best_actions = _best_arms

    def __init__(self, variant: str) -> None:
        pulls, arms = lookup("variant of Bandit", variant, self._sizes)
        self.variant = variant
        self.task_description = f"{arms} arms, each pays 1 with a probability U(0, 1)"
        self.task_space = spaces.Box(0.0, 1.0, (arms,), np.float64)
        self.structure = BernoulliBandit(arms, "uniform")
        _set_pulls(self, pulls, arms)

    def prepare(self, tasks: Tensor) -> Tensor:
        """Probability of each arm, shape [N, k]."""
        return tasks

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        del split  # train and test probabilities come from one distribution
        return uniform_tasks(self.task_space, num_tasks, rng)


@dataclass(frozen=True)
class _Pair:
    """How the probabilities (p_1, p_2) of two arms follow from a task."""

    task_space: TaskSpace
    task_description: str
    better: float | None = None  # probability of the better arm, where it is one of two numbers


def _two_tasks(worse: float, better: float) -> _Pair:
    text = f"which of two arms pays 1 with probability {better:g}, the other with {worse:g}"
    return _Pair(spaces.Discrete(2), text, better)


_PAIRS = {
    "independent": _Pair(
        spaces.Box(0.0, 1.0, (2,), np.float64), "two arms, each pays 1 with a probability U(0, 1)"
    ),
    "uniform": _Pair(
        spaces.Box(0.0, 1.0, (1,), np.float64),
        "two arms, one pays 1 with probability p ~ U(0, 1), the other with 1 − p",
    ),
    "easy": _two_tasks(0.1, 0.9),
    "medium": _two_tasks(0.25, 0.75),
    "hard": _two_tasks(0.4, 0.6),
}


class DependentBandit(TensorFamily):
    """Two arms that pay 1 with probabilities p_1 and p_2 = 1 − p_1, else 0; 100 pulls.

    Task: the better arm (0 or 1) for easy, medium and hard; p_1 for uniform, shape [1]; both
    probabilities for independent, which has no such bond, [2]. Observation: a constant 0, [1].
    Action: the arm. As all variants observe and act alike, a policy trained on one can be
    evaluated on another, which is what the source does.

    Source: Wang et al. 2016 (arXiv:1611.05763), sec. 3.1.
    """

    name: ClassVar[str] = "DependentBandit"
    variants: ClassVar[tuple[str, ...]] = tuple(_PAIRS)
    source = _WANG

    initial_states = _constant_states
    transition = _pull
    best_actions = _best_arms

    def __init__(self, variant: str) -> None:
        self._pair = pair = lookup("variant of DependentBandit", variant, _PAIRS)
        self.variant = variant
        self.task_description, self.task_space = pair.task_description, pair.task_space
        self.same_tasks_in_splits = pair.better is not None
        self.structure = BernoulliBandit(2, "uniform" if variant == "independent" else "mirrored")
        _set_pulls(self, 100, 2)

    def prepare(self, tasks: Tensor) -> Tensor:
        """Probability of each arm, shape [N, 2]."""
        if self.variant == "independent":
            return tasks
        better = self._pair.better
        first = tasks if better is None else torch.where(tasks == 0, better, 1 - better)
        return torch.cat([first, 1 - first], dim=1)

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        del split  # both come from one distribution
        return uniform_tasks(self.task_space, num_tasks, rng)


class ElevenArmBandit(TensorFamily):
    """Eleven arms that always pay the same; the last one pays little, but tells which pays most.

        r(target) = 5,   r(other arms 0 … 9) = 1.1,   r(arm 10) = 0.1 (target + 1)

    Task: the target, 0 … 9, shape [1]. Observation: a constant 0, [1]. Action: the arm. An agent
    that knows how such bandits are made pulls arm 10 once and the target four times: 20.55 on
    average. The oracle knows the target: 25.

    Source: Wang et al. 2016 (arXiv:1611.05763), sec. 3.1; the numbers as in Lecat's
    gym-bandit-environments. Some accounts pay 1 for the other arms; with 1.1 the informative arm
    pays less than any other, whatever the target.
    """

    name: ClassVar[str] = "ElevenArmBandit"
    _sources: ClassVar[dict[str, str]] = {"wang16": _WANG}
    variants: ClassVar[tuple[str, ...]] = tuple(_sources)
    same_tasks_in_splits = True
    warning = "some accounts pay 1, not 1.1, for arms that are not the target"
    task_description = "which of ten arms pays 5, the others pay 1.1, an eleventh tells which"
    structure = InformativeArm(num_targets=10, reward_step=0.1)

    initial_states = _constant_states
    best_actions = _best_arms

    def __init__(self, variant: str) -> None:
        self.source = lookup("variant of ElevenArmBandit", variant, self._sources)
        self.variant = variant
        self.task_space = spaces.Discrete(10)
        _set_pulls(self, 5, 11)

    def prepare(self, tasks: Tensor) -> Tensor:
        """What each arm pays, shape [N, 11]."""
        others = tasks.new_full((len(tasks), 10), 1.1)
        payoffs = others.scatter(1, tasks.to(torch.int64), 5.0)
        return torch.cat([payoffs, 0.1 * (tasks + 1)], dim=1)

    def transition(
        self, states: Tensor, actions: Tensor, parameters: Tensor, generator: torch.Generator
    ) -> Transition:
        del generator  # every arm is sure
        require_action_indices(actions, states.shape[:2])
        return Transition(states, parameters.gather(1, actions))

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        del split  # there are ten tasks
        return uniform_tasks(self.task_space, num_tasks, rng)
