"""What references can tell of a family from its spaces, and one sentence where they do not fit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from gymnasium import spaces

from metarl.tasks.family import TaskFamily

__all__ = [
    "BanditShape",
    "TabularShape",
    "is_eleven_arm",
    "is_mirrored_pair",
    "require_bandit",
    "require_tabular",
]


class BanditShape(NamedTuple):
    """Bernoulli arms."""

    num_arms: int
    horizon: int  # pulls of an episode


class TabularShape(NamedTuple):
    """A tabular Markov decision process."""

    num_states: int
    num_actions: int
    horizon: int  # steps of an episode


def require_bandit(reference: str, family: TaskFamily) -> BanditShape:
    """The shape of a bandit whose tasks are its arms' probabilities, or of a mirrored pair.

    Raises:
        ValueError: if the family is no such bandit.
    """
    arms = _num_arms(family)
    if arms is None or not (_is_probabilities(family, arms) or is_mirrored_pair(family)):
        raise ValueError(
            f"{reference} needs a Bernoulli bandit (a constant observed, tasks the probabilities "
            f"of the arms), got {family.id}"
        )
    return BanditShape(arms, family.horizon)


def is_mirrored_pair(family: TaskFamily) -> bool:
    """Two arms of probabilities p and 1 − p, a task one number: p, or which arm is better."""
    one_of_two = isinstance(family.task_space, spaces.Discrete) and family.task_space.n == 2
    return _num_arms(family) == 2 and (one_of_two or _is_probabilities(family, 1))


def is_eleven_arm(family: TaskFamily) -> bool:
    """Eleven arms, a task which of the first ten is the target."""
    space = family.task_space
    return _num_arms(family) == 11 and isinstance(space, spaces.Discrete) and space.n == 10


def require_tabular(reference: str, family: TaskFamily) -> TabularShape:
    """The shape of a tabular process: one-hot states, a task its rewards and transitions.

    Raises:
        ValueError: if the family is no such process.
    """
    actions, task = family.action_space, family.task_space
    states = family.observation_space.shape[0]
    if isinstance(actions, spaces.Discrete) and isinstance(task, spaces.Box):
        shape = TabularShape(states, int(actions.n), family.horizon)
        if task.shape == (shape.num_states * shape.num_actions * (1 + shape.num_states),):
            return shape
    raise ValueError(
        f"{reference} needs a tabular Markov decision process (one-hot states observed, tasks "
        f"its mean rewards and transitions), got {family.id}"
    )


def _num_arms(family: TaskFamily) -> int | None:
    """Arms, if nothing but a constant is observed."""
    actions = family.action_space
    if isinstance(actions, spaces.Discrete) and family.observation_space.shape == (1,):
        return int(actions.n)
    return None


def _is_probabilities(family: TaskFamily, count: int) -> bool:
    space = family.task_space
    return (
        isinstance(space, spaces.Box)
        and space.shape == (count,)
        and bool(np.all(space.low == 0) and np.all(space.high == 1))
    )
