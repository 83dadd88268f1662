"""A family for every way to break a promise, each with one fault."""
# ruff: noqa: ARG002 - families do not use all arguments

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from sound_families import REACH, OwnBatch, Walk
from torch import Tensor

from metarl.envs.simulators.tensor import TensorBatch, Transition
from metarl.seeding import numpy_generator
from metarl.tasks.family import Step
from metarl.tasks.spaces import Tasks


class SmallSpace(Walk):
    observation_space = spaces.Box(-0.1, 0.1, (1,), np.float32)


class OtherInWorkers(Walk):
    """Its worker processes move half as far."""

    stride = 0.5

    def without_workers(self) -> Walk:
        return Walk()


class DoubleRewards(Walk):
    def reward(self, states: Tensor, goals: Tensor) -> Tensor:
        return super().reward(states, goals).double()


class ExpectsTooMuch(Walk):
    """Rewards are noisy, and declared to be a little higher than they are."""

    def transition(
        self, states: Tensor, actions: Tensor, parameters: Any, generator: torch.Generator
    ) -> Transition:
        step = super().transition(states, actions, parameters, generator)
        noise = torch.randn(step.rewards.shape, generator=generator)
        return step._replace(rewards=step.rewards + noise, expected_rewards=step.rewards + 0.5)


class FarActions(Walk):
    """Its actions lie far from 0, which policies act around with this divisor."""

    action_space = spaces.Box(9.0, 11.0, (1,), np.float32)
    action_divisor = 1.0

    def transition(
        self, states: Tensor, actions: Tensor, parameters: Any, generator: torch.Generator
    ) -> Transition:
        return super().transition(states, (actions - 10) * REACH, parameters, generator)

    def best_actions(self, states: Tensor, parameters: Any, time: Tensor) -> Tensor | None:
        best = super().best_actions(states, parameters, time)
        return None if best is None else best / REACH + 10


class OneMoreNumber(Walk):
    def observe(self, states: Tensor) -> Tensor:
        return states


class IgnoresTheSeed(Walk):
    def sample_tasks(self, num_tasks: int, *, split: str = "train", seed: int) -> Tasks:
        return super().sample_tasks(num_tasks, split=split, seed=0)


class SeedsTheGlobalGenerator(Walk):
    """Its tasks are correct, but it changes the random numbers of other code."""

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        np.random.seed(1337)  # noqa: NPY002
        return super()._sample_tasks(num_tasks, split, rng)


class IgnoresTheSplit(Walk):
    def sample_tasks(self, num_tasks: int, *, split: str = "train", seed: int) -> Tasks:
        return self._sample_tasks(num_tasks, split, numpy_generator(seed, "tasks"))


class TakesAnyTask(Walk):
    def check_tasks(self, tasks: object) -> Tasks:
        return np.array(tasks, np.float64)


class WarmBatch(TensorBatch):
    """Begins its second run a little off where it began the first."""

    num_resets = 0

    def reset(self, generator: torch.Generator, env_mask: Tensor | None = None) -> Tensor:
        observations = super().reset(generator, env_mask)
        self.num_resets += 1
        if self.num_resets == 2 and env_mask is None:
            self._states = self._states.clone()
            self._states[0, 0, 0] += 1e-3
            observations = self._family.observe(self._states)
        return observations

    def set_tasks(self, tasks: Tasks) -> None:
        super().set_tasks(tasks)
        self.num_resets = 0


class Warm(OwnBatch):
    batch = WarmBatch


class Crowded(Walk):
    """All environments are pushed by the actions of all."""

    def transition(
        self, states: Tensor, actions: Tensor, parameters: Any, generator: torch.Generator
    ) -> Transition:
        pushed = actions + 1e-3 * actions.mean((0, 1))
        return super().transition(states, pushed, parameters, generator)


class RewardDependsOnTime(OwnBatch):
    """The reward of a step depends on a count that is not observed."""

    def reward(self, states: Tensor, goals: Tensor) -> Tensor:
        return super().reward(states, goals) - 0.01 * states[..., 1]


class ForgetfulBatch(TensorBatch):
    """A partial reset clears the hidden count of all environments."""

    def reset(self, generator: torch.Generator, env_mask: Tensor | None = None) -> Tensor:
        observations = super().reset(generator, env_mask)
        self._states = self._states * torch.tensor([1.0, 0.0])
        return observations


class Forgetful(RewardDependsOnTime):
    batch = ForgetfulBatch


class IncompleteResetBatch(TensorBatch):
    """A partial reset does not clear the hidden count."""

    def reset(self, generator: torch.Generator, env_mask: Tensor | None = None) -> Tensor:
        before = self._states
        observations = super().reset(generator, env_mask)
        if env_mask is not None and not env_mask.all():
            self._states = torch.cat([self._states[..., :1], before[..., 1:]], -1)
        return observations


class IncompleteReset(RewardDependsOnTime):
    batch = IncompleteResetBatch


class FasterAlone(Walk):
    """Starts at 0; a single environment moves faster than one of many."""

    start_width = 0.0

    def transition(
        self, states: Tensor, actions: Tensor, parameters: Any, generator: torch.Generator
    ) -> Transition:
        stride = 1 + 0.1 / actions.shape[0]
        return super().transition(states, stride * actions, parameters, generator)


class Squeezed(Walk):
    """Loses its axes if there is one task or one environment."""

    def reward(self, states: Tensor, goals: Tensor) -> Tensor:
        return -(states[..., :1] - goals).abs().squeeze()


class ContextNeverArrives(Walk):
    def reward(self, states: Tensor, goals: Tensor) -> Tensor:
        return super().reward(states, torch.zeros_like(goals))

    def best_actions(self, states: Tensor, parameters: Any, time: Tensor) -> Tensor | None:
        return (-states[..., :1]).clamp(-REACH, REACH)


class LosesItsStepSize(Walk):
    """After unpickling it has the defaults of its class."""

    def __init__(self) -> None:
        self.stride = 0.5

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.stride = 1.0


class LosesItsTasks(Walk):
    """Its tasks come from a list that does not survive pickling."""

    def __init__(self, goals: tuple[float, ...] = (-0.8, -0.2, 0.3, 0.9)) -> None:
        self.goals = goals

    def __reduce__(self) -> Any:
        return LosesItsTasks, ((-0.7, -0.1, 0.4, 1.0),)

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        near = rng.choice(self.goals, (num_tasks, 1))
        return (near + rng.uniform(0, 0.01, (num_tasks, 1))).clip(-1, 1)


class Unpicklable(Walk):
    def __init__(self) -> None:
        self.listeners = [lambda: None]


class IgnoresNewTasksBatch(TensorBatch):
    """Takes other tasks only before its first reset."""

    def set_tasks(self, tasks: Tasks) -> None:
        if self._states is None:
            super().set_tasks(tasks)


class IgnoresNewTasks(OwnBatch):
    batch = IgnoresNewTasksBatch


class LateBatch(TensorBatch):
    def step(self, actions: Tensor) -> Step:
        return super().step(actions)._replace(truncated=self._time > self.horizon)


class Late(OwnBatch):
    batch = LateBatch


class OneClockBatch(TensorBatch):
    """One clock for all environments, which any reset sets to 0."""

    ticks = 0

    def reset(self, generator: torch.Generator, env_mask: Tensor | None = None) -> Tensor:
        self.ticks = 0
        return super().reset(generator, env_mask)

    def step(self, actions: Tensor) -> Step:
        self.ticks += 1
        over = torch.full_like(self._never, self.ticks >= self.horizon)
        return super().step(actions)._replace(truncated=over)


class OneClock(OwnBatch):
    batch = OneClockBatch
    horizon = 60  # beyond the short runs of other promises


class NotFiniteInTheEnd(Walk):
    horizon = 60

    def reward(self, states: Tensor, goals: Tensor) -> Tensor:
        late = states[..., 1] > self.horizon
        return torch.where(late, torch.nan, super().reward(states, goals))


class WalksAway(Walk):
    name = "WalksAway"

    def best_actions(self, states: Tensor, parameters: Any, time: Tensor) -> Tensor | None:
        return -super().best_actions(states, parameters, time)


class StillImage(Walk):
    def render_state(
        self, state: NDArray[np.float64], task: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        return np.zeros((8, 8, 3), np.uint8)


class GrayImage(Walk):
    def render_state(
        self, state: NDArray[np.float64], task: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        return super().render_state(state, task)[..., 0]


class Pearl(Walk):
    """The tasks of pearl: the global generator is seeded with a constant and sampled from."""

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        np.random.seed(1337)  # noqa: NPY002
        return np.random.uniform(-1, 1, (num_tasks, 1))  # noqa: NPY002


class BatchSamplesTasks(Walk):
    """The batch samples its tasks itself, as a worker process might."""

    def make_batch(self, tasks: Tasks, *, num_envs: int, device: Any = "cpu") -> TensorBatch:
        rows = np.random.uniform(-1, 1, self.check_tasks(tasks).shape)  # noqa: NPY002
        return TensorBatch(self, rows, num_envs, torch.device(device))


class ResetsAllBatch(TensorBatch):
    def reset(self, generator: torch.Generator, env_mask: Tensor | None = None) -> Tensor:
        return super().reset(generator)


class ResetsAll(OwnBatch):
    batch = ResetsAllBatch


class StepsUseTheGlobalGenerator(Walk):
    def transition(
        self, states: Tensor, actions: Tensor, parameters: Any, generator: torch.Generator
    ) -> Transition:
        return super().transition(states, actions + 0.01 * torch.rand(1), parameters, generator)


class Counts(Walk):
    """Behaves differently each time it is used."""

    calls = 0

    def transition(
        self, states: Tensor, actions: Tensor, parameters: Any, generator: torch.Generator
    ) -> Transition:
        self.calls += 1
        return super().transition(states, actions / (1 + self.calls), parameters, generator)


class OnlySaysAll(Walk):
    shared_tasks = "all"


class OnlySaysSome(Walk):
    shared_tasks = "some"


class SaysSomeOfAll(Walk):
    shared_tasks = "some"

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        return rng.choice([-0.5, 0.0, 0.5], (num_tasks, 1))


class OneTask(Walk):
    shared_tasks = "all"

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        return np.zeros((num_tasks, 1))


class NoTrainSplit(Walk):
    splits = ("easy", "hard")


class Raises(Walk):
    def best_actions(self, states: Tensor, parameters: Any, time: Tensor) -> Tensor | None:
        raise ZeroDivisionError("in my oracle")
