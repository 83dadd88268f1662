"""Families of a user that declare a structure, correctly or not."""
# ruff: noqa: ARG002 - families leave some arguments unused

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from sound_families import Walk
from torch import Tensor

from metarl.envs.simulators.tensor import TensorFamily, Transition
from metarl.tasks.family import uniform_tasks
from metarl.tasks.spaces import Tasks
from metarl.tasks.structure import BernoulliBandit, HiddenGoalGrid, InformativeArm, TabularMDP


class OwnFamily(TensorFamily):
    """Observes a constant and has two actions."""

    name: ClassVar[str] = "Own"
    variant = "plain"
    task_description, observation_description, source = "two numbers", "nothing", "these tests"
    horizon = 20
    task_space = spaces.Box(0.0, 1.0, (2,), np.float64)
    observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space: spaces.Space[Any] = spaces.Discrete(2)

    def initial_states(
        self, parameters: Any, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        return torch.zeros(*shape, 1)

    def transition(
        self, states: Tensor, actions: Tensor, parameters: Any, generator: torch.Generator
    ) -> Transition:
        chances = self.probabilities(states, parameters.squeeze(1).gather(1, actions))
        rewards = (torch.rand(actions.shape, generator=generator) < chances).float()
        return Transition(self.moved(states, rewards), rewards)

    def probabilities(self, states: Tensor, chances: Tensor) -> Tensor:
        return chances

    def moved(self, states: Tensor, rewards: Tensor) -> Tensor:
        return states

    def observe(self, states: Tensor) -> Tensor:
        return torch.zeros_like(states)

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        return uniform_tasks(self.task_space, num_tasks, rng)


class Lookalike(OwnFamily):
    """Not a bandit, with the spaces of one: the rewards are any numbers, and depend on time."""

    def transition(
        self, states: Tensor, actions: Tensor, parameters: Any, generator: torch.Generator
    ) -> Transition:
        return Transition(states + 1, -parameters[..., 0] * states.squeeze(-1) - actions)


class OwnBandit(OwnFamily):
    structure = BernoulliBandit(2, "uniform")


class DecayingBandit(OwnBandit):
    """Arms get worse with every pull."""

    def probabilities(self, states: Tensor, chances: Tensor) -> Tensor:
        return chances * 0.9 ** states.squeeze(-1)

    def moved(self, states: Tensor, rewards: Tensor) -> Tensor:
        return states + 1


class SatiatedBandit(OwnBandit):
    """Arms get worse with every reward."""

    def probabilities(self, states: Tensor, chances: Tensor) -> Tensor:
        return chances * 0.7 ** states.squeeze(-1)

    def moved(self, states: Tensor, rewards: Tensor) -> Tensor:
        return states + rewards.unsqueeze(-1)


class SwappedBandit(OwnBandit):
    """The task's probabilities are swapped between the arms."""

    def transition(
        self, states: Tensor, actions: Tensor, parameters: Any, generator: torch.Generator
    ) -> Transition:
        return super().transition(states, 1 - actions, parameters, generator)


class ObservedBandit(OwnBandit):
    """The last reward is observed."""

    def moved(self, states: Tensor, rewards: Tensor) -> Tensor:
        return rewards.unsqueeze(-1)

    def observe(self, states: Tensor) -> Tensor:
        return states.clone()


class LargeRewards(OwnBandit):
    def transition(
        self, states: Tensor, actions: Tensor, parameters: Any, generator: torch.Generator
    ) -> Transition:
        step = super().transition(states, actions, parameters, generator)
        return step._replace(rewards=2 * step.rewards)


class MirroredBandit(OwnFamily):
    structure = BernoulliBandit(2, "mirrored")
    task_space = spaces.Box(0.0, 1.0, (1,), np.float64)

    def prepare(self, tasks: Tensor) -> Tensor:
        return torch.cat([tasks, 1 - tasks], dim=1).unsqueeze(1)


class NotMirrored(OwnFamily):
    structure = BernoulliBandit(2, "mirrored")


class OtherBandit(OwnFamily):
    """Bernoulli arms with a prior without a known optimum."""

    structure = BernoulliBandit(2)


class NotABandit(Walk):
    structure = BernoulliBandit(3)


class NotInformative(OwnFamily):
    structure = InformativeArm(2, 0.1)


class NotTabular(OwnFamily):
    structure = TabularMDP(1, 2)


class SmallGrid(OwnFamily):
    """A 3 × 3 grid whose goal lies on one of two cells."""

    goals: ClassVar[tuple[tuple[int, int], ...]] = ((2, 2), (0, 2))
    moves: ClassVar[tuple[tuple[int, int], ...]] = ((0, 1), (1, 0), (0, -1), (-1, 0))
    structure = HiddenGoalGrid(3, (1, 1), moves, goals)
    task_space = spaces.Discrete(2)
    observation_space = spaces.Box(0.0, 2.0, (2,), np.float32)
    action_space = spaces.Discrete(4)
    goal_reward = 1.0

    def initial_states(
        self, parameters: Any, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        return torch.ones(*shape, 2)

    def transition(
        self, states: Tensor, actions: Tensor, parameters: Any, generator: torch.Generator
    ) -> Transition:
        cells = (states + torch.tensor(self.moves)[actions]).clamp(0, 2)
        goals = torch.tensor(self.goals)[parameters.long().squeeze(-1)]
        return Transition(cells, self.goal_reward * (cells == goals).all(-1))

    def observe(self, states: Tensor) -> Tensor:
        return states.clone()


class UnrewardedGrid(SmallGrid):
    goal_reward = -1.0


class TurnedGrid(SmallGrid):
    structure = HiddenGoalGrid(3, (1, 1), SmallGrid.moves[::-1], SmallGrid.goals)


class OtherGoals(SmallGrid):
    structure = HiddenGoalGrid(3, (1, 1), SmallGrid.moves, SmallGrid.goals[::-1])


class MovedStart(SmallGrid):
    structure = HiddenGoalGrid(3, (0, 0), SmallGrid.moves, SmallGrid.goals)


class DiagonalGrid(SmallGrid):
    """Moves along the diagonals only."""

    moves = ((1, 1), (-1, -1), (1, -1), (-1, 1))
    structure = HiddenGoalGrid(3, (1, 1), moves, SmallGrid.goals)
