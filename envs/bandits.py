"""Bandits: pull arms and find the best one. One episode contains all pulls of a task.

The observation is constant, so a policy can learn about an arm only from its rewards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.tasks.actions import require_action_indices
from metarl.tasks.spaces import TaskSpace
from metarl.tasks.structure import BernoulliBandit, InformativeArm
from metarl.validation import lookup

from .simulators.tensor import TensorFamily, Transition

__all__ = ["Bandit", "DependentBandit", "ElevenArmBandit"]

_WANG = "Wang et al. 2016 (arXiv:1611.05763)"


def _set_bandit_spaces(family: TensorFamily, pulls: int, arms: int) -> None:
    family.horizon, family.behavior = pulls, "choices"
    family.observation_description = "a constant 0"
    # Gymnasium warns about a Box with equal bounds, so this one is wider than the constant 0.
    family.observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
    family.action_space = spaces.Discrete(arms)


# These functions are assigned as methods to the families below.


def _constant_states(
    family: TensorFamily, parameters: Tensor, shape: tuple[int, int], generator: torch.Generator
) -> Tensor:
    """The state is a constant 0, as is the observation. Shape [N, E, 1]."""
    del family, generator
    return parameters.new_zeros(*shape, 1)


def _pull(
    family: TensorFamily,
    states: Tensor,
    actions: Tensor,
    parameters: Tensor,
    generator: torch.Generator,
) -> Transition:
    """Reward 1 with the pulled arm's probability, else 0; actions [N, E], parameters [N, k]."""
    del family
    require_action_indices(actions, states.shape[:2])
    uniform = torch.rand(
        actions.shape, generator=generator, device=actions.device, dtype=torch.float32
    )
    probabilities = parameters.gather(1, actions)
    rewards = (uniform < probabilities).to(parameters.dtype)
    return Transition(states, rewards, expected_rewards=probabilities)


def _best_arms(family: TensorFamily, states: Tensor, parameters: Tensor, time: Tensor) -> Tensor:
    """The first arm with the highest expected reward [N, E]; parameters [N, k]."""
    del family, states
    return parameters.argmax(dim=1, keepdim=True).expand_as(time)


class Bandit(TensorFamily):
    """Independent arms, each of which gives reward 1 with a hidden probability, else 0.

        r ~ Bernoulli(p_a),   p_1 … p_k ~ U(0, 1) independently

    Task: the probabilities, shape [k]. Observation: a constant 0, [1]. Action: the arm. A variant
    "n100-k5" has episodes of 100 pulls and 5 arms. An arm that does not exist raises torch's
    IndexError on the CPU, also in the other families of this module.

    Source: Duan et al. 2016 (arXiv:1611.02779), sec. 3.1.
    """

    name: ClassVar[str] = "Bandit"
    _sizes: ClassVar[dict[str, tuple[int, int]]] = {
        f"n{pulls}-k{arms}": (pulls, arms) for pulls in (10, 100, 500) for arms in (5, 10, 50)
    }
    variants: ClassVar[tuple[str, ...]] = tuple(_sizes)
    source = "Duan et al. 2016 (arXiv:1611.02779)"
    warning = "published returns are the best of a training run, not the final ones"

    initial_states = _constant_states
    transition = _pull
    best_actions = _best_arms

    def __init__(self, variant: str) -> None:
        pulls, arms = lookup("variant of Bandit", variant, self._sizes)
        self.variant = variant
        self.task_description = f"{arms} arms with reward probabilities U(0, 1)"
        self.task_space = spaces.Box(0.0, 1.0, (arms,), np.float64)
        self.structure = BernoulliBandit(arms, "uniform")
        _set_bandit_spaces(self, pulls, arms)

    def prepare(self, tasks: Tensor) -> Tensor:
        """Probability of each arm, shape [N, k]."""
        return tasks


@dataclass(frozen=True)
class _Pair:
    """Task space of two arms, and how a task determines their probabilities (p_1, p_2)."""

    task_space: TaskSpace
    task_description: str
    better: float | None = None  # probability of the better arm, if the same in both tasks


def _two_tasks(worse: float, better: float) -> _Pair:
    text = f"which of two arms has reward probability {better:g}; the other has {worse:g}"
    return _Pair(spaces.Discrete(2), text, better)


_PAIRS = {
    "independent": _Pair(
        spaces.Box(0.0, 1.0, (2,), np.float64), "two arms with reward probabilities U(0, 1)"
    ),
    "uniform": _Pair(
        spaces.Box(0.0, 1.0, (1,), np.float64),
        "two arms with reward probabilities p ~ U(0, 1) and 1 − p",
    ),
    "easy": _two_tasks(0.1, 0.9),
    "medium": _two_tasks(0.25, 0.75),
    "hard": _two_tasks(0.4, 0.6),
}


class DependentBandit(TensorFamily):
    """Two arms that give reward 1 with hidden probabilities p_1 and p_2, else 0; 100 pulls.

    p_2 = 1 − p_1 except in the variant "independent".

    Task: the better arm (0 or 1) for easy, medium and hard; p_1 for uniform, shape [1]; p_1 and
    p_2 for independent, shape [2]. Observation: a constant 0, [1]. Action: the arm. All variants
    share their observation and action spaces, so a policy trained on one can be evaluated on
    another, as in the source.

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
        self.shared_tasks = "none" if pair.better is None else "all"
        self.structure = BernoulliBandit(2, "uniform" if variant == "independent" else "mirrored")
        _set_bandit_spaces(self, 100, 2)

    def prepare(self, tasks: Tensor) -> Tensor:
        """Probability of each arm, shape [N, 2]."""
        if self.variant == "independent":
            return tasks
        better = self._pair.better
        first = tasks if better is None else torch.where(tasks == 0, better, 1 - better).to(tasks)
        return torch.cat([first, 1 - first], dim=1)


class ElevenArmBandit(TensorFamily):
    """Eleven arms with fixed rewards; the last one gives little but reveals the best arm.

        r(target) = 5,   r(other arms 0 … 9) = 1.1,   r(arm 10) = 0.1 (target + 1)

    Task: the target, 0 … 9, shape [1]. Observation: a constant 0, [1]. Action: the arm. An agent
    that knows this structure pulls arm 10 once and the target four times, for a mean return of
    20.55. The oracle knows the target; its return is 25.

    Source: Wang et al. 2016 (arXiv:1611.05763), sec. 3.1; rewards as in Lecat's
    gym-bandit-environments. Some implementations use reward 1 for the other arms; with 1.1 the
    informative arm gives less than any other, for every target.
    """

    name: ClassVar[str] = "ElevenArmBandit"
    _sources: ClassVar[dict[str, str]] = {"wang16": _WANG}
    variants: ClassVar[tuple[str, ...]] = tuple(_sources)
    shared_tasks = "all"
    warning = "some implementations use reward 1, not 1.1, for arms other than the target"
    task_description = (
        "which of ten arms gives reward 5; the others give 1.1, and an eleventh reveals it"
    )
    structure = InformativeArm(num_targets=10, reward_step=0.1)

    initial_states = _constant_states
    best_actions = _best_arms

    def __init__(self, variant: str) -> None:
        self.source = lookup("variant of ElevenArmBandit", variant, self._sources)
        self.variant = variant
        self.task_space = spaces.Discrete(10)
        _set_bandit_spaces(self, 5, 11)

    def prepare(self, tasks: Tensor) -> Tensor:
        """Reward of each arm, shape [N, 11]."""
        others = tasks.new_full((len(tasks), 10), 1.1)
        rewards = others.scatter(1, tasks.to(torch.int64), 5.0)
        return torch.cat([rewards, 0.1 * (tasks + 1)], dim=1)

    def transition(
        self, states: Tensor, actions: Tensor, parameters: Tensor, generator: torch.Generator
    ) -> Transition:
        del generator  # rewards are deterministic
        require_action_indices(actions, states.shape[:2])
        return Transition(states, parameters.gather(1, actions))
