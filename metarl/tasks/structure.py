"""Structures that a task family can declare, so that reference algorithms apply to it.

`metarl check` tests that a declaration is true.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["BernoulliBandit", "Cell", "HiddenGoalGrid", "InformativeArm", "Structure", "TabularMDP"]

Cell: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class BernoulliBandit:
    """Arms of a bandit, each of which gives reward 1 with a fixed probability, else 0.

    Actions are the arms, `Discrete(num_arms)`; each step is one pull, and its reward depends on
    the arm and the task only. Observations are constant, and episodes end at the horizon only.
    """

    num_arms: int
    prior: Literal["uniform", "mirrored", "other"] = "other"
    """uniform: the task is the k probabilities, each U(0, 1) and independent. mirrored: two arms of
    p and 1 − p, where p and 1 − p have the same distribution; the task determines p."""


@dataclass(frozen=True)
class InformativeArm:
    """Arms with fixed rewards, the last of which reveals the best one.

    The task is the target t in `Discrete(num_targets)`. Arm t gives the highest reward, and arm
    `num_targets` gives `reward_step` · (t + 1). Observations are constant, and episodes end at the
    horizon only.
    """

    num_targets: int
    reward_step: float


@dataclass(frozen=True)
class TabularMDP:
    """S states, observed one-hot, and A actions; every episode starts in state 0.

    The task holds the mean reward of each pair (s, a), shape [S · A], then the transition
    probabilities, shape [S · A · S], both row by row. Rewards are the mean plus N(0, 1) noise.
    Episodes end at the horizon only.
    """

    num_states: int
    num_actions: int


@dataclass(frozen=True)
class HiddenGoalGrid:
    """A walker on a square grid that observes its cell (x, y) and seeks a hidden goal.

    The task is the goal's index in `goals`. Rewards are above 0 in steps that lead to the goal,
    or stay on it, and 0 or less in others. Moves off the grid leave a coordinate as it is.
    Episodes end at the horizon only.
    """

    size: int
    """Cells per side."""
    start: Cell
    moves: tuple[Cell, ...]
    """Displacement of each action."""
    goals: tuple[Cell, ...]


Structure: TypeAlias = BernoulliBandit | InformativeArm | TabularMDP | HiddenGoalGrid
