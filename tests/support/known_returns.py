"""A family and agents whose returns are known exactly, and their evaluation."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from torch import Tensor

from metarl.evaluation.evaluator import evaluate
from metarl.evaluation.protocol import EvaluationProtocol
from metarl.evaluation.results import Evaluation
from metarl.parameters import Params
from metarl.rl.players import PolicyPlayer
from metarl.rollouts.episodes import Episodes
from metarl.rollouts.trials import ActorInput
from metarl.tasks.family import Step, TaskFamily
from metarl.tasks.spaces import Tasks

HORIZON = 3
NUM_TASKS, NUM_EPISODES = 4, 5


class Slope(TaskFamily):
    """One number v a task; the reward is v · action, so the best action is the sign of v.

    v is above zero in the train split and below in the test split. Observations are random.
    """

    name: ClassVar[str] = "Slope"
    variant, horizon, source = "one", HORIZON, "this test"
    task_description, observation_description = "slope v", "random numbers"
    task_space = spaces.Box(-1, 1, (1,), np.float64)
    observation_space = spaces.Box(0, 1, (1,))
    action_space = spaces.Box(-1, 1, (1,))

    def __init__(self, *, has_oracle: bool = True, has_success: bool = False) -> None:
        self.has_oracle, self.has_success = has_oracle, has_success
        self.batches: list[SlopeBatch] = []

    def make_batch(self, tasks: Tasks, *, num_envs: int, device: object = "cpu") -> SlopeBatch:
        assert str(device) == "cpu"
        slopes = torch.as_tensor(self.check_tasks(tasks))
        self.batches.append(SlopeBatch(slopes, num_envs, self))
        return self.batches[-1]

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        return rng.uniform(0.1, 1, (num_tasks, 1)) * (1 if split == "train" else -1)


class SlopeBatch:
    """All environments in float64; optionally, slopes change sign at every step.

    A step succeeds if its reward is above .2.
    """

    autoreset_mode: ClassVar[AutoresetMode] = AutoresetMode.DISABLED
    horizon, flip = HORIZON, False
    observation_space, action_space = Slope.observation_space, Slope.action_space

    def __init__(self, slopes: Tensor, num_envs: int, family: Slope) -> None:
        self.num_tasks, self.num_envs = len(slopes), num_envs
        self._slopes, self._family, self.closed = slopes, family, False

    def reset(self, generator: torch.Generator, env_mask: Tensor | None = None) -> Tensor:
        assert not self.closed
        assert env_mask is None
        self._time, shape = 0, (self.num_tasks, self.num_envs, 1)
        self._observations = torch.rand(shape, generator=generator, dtype=torch.float64)
        return self._observations

    def step(self, actions: Tensor) -> Step:
        rewards = self._present_slopes() * actions.squeeze(-1)
        self._time += 1
        never = torch.zeros_like(rewards, dtype=torch.bool)
        success = rewards > 0.2 if self._family.has_success else None
        return Step(self._observations, rewards, never, never | (self._time >= HORIZON), success)

    def set_tasks(self, tasks: Tasks) -> None:  # noqa: ARG002
        raise AssertionError("an evaluation has one set of tasks")

    def oracle_actions(self) -> Tensor | None:
        best = self._present_slopes().sign().unsqueeze(1)
        return best.expand(-1, self.num_envs, 1) if self._family.has_oracle else None

    def close(self) -> None:
        self.closed = True

    def _present_slopes(self) -> Tensor:  # [N, 1]
        return -self._slopes if self.flip and self._time % 2 else self._slopes


class Diver:
    """Acts with one number per task; every adaptation step lowers it by .25.

    The noise is the observation plus a sampled number; deterministic actions have none.
    """

    remembers = False

    def __init__(self, noise: float = 0.0) -> None:
        self.noise = noise
        self.adapted_on: list[Episodes] = []
        self.steps: list[int] = []
        self.requested: list[bool] = []

    def play(self, num_tasks: int, num_envs: int, generator: torch.Generator) -> PolicyPlayer:
        self.num_envs = num_envs
        start = {"state": torch.zeros((), dtype=torch.float64)}
        return PolicyPlayer(self, start, num_tasks, generator, self.adapt_step)

    def init(self, generator: torch.Generator) -> Params:
        raise NotImplementedError

    def distribution(self, params: Params, observations: Tensor) -> Any:
        return _Dive(self, params["state"].view(-1, 1, 1), observations)

    def adapt_step(self, params: Params, episodes: Episodes, *, step: int) -> Params:
        self.steps.append(step)
        self.adapted_on.append(episodes)
        return {"state": params["state"] - 0.25}


class _Dive(NamedTuple):
    """The diver's actions at some observations."""

    diver: Diver
    state: Tensor
    observations: Tensor

    def mode(self) -> Tensor:
        self.diver.requested.append(True)
        return self.state + torch.zeros_like(self.observations)

    def sample(self, generator: torch.Generator) -> Tensor:
        self.diver.requested.append(False)
        sampled = torch.randn(self.observations.shape, generator=generator, dtype=torch.float64)
        noise = self.diver.noise * (sampled + self.observations)
        return self.state + noise + torch.zeros_like(self.observations)


class Sinker:
    """Has a memory: acts with −.25 for each past episode; noise as in `Diver`."""

    remembers = True

    def __init__(self, noise: float = 0.0) -> None:
        self.noise = noise
        self.players: list[SinkerPlayer] = []

    def play(self, num_tasks: int, num_envs: int, generator: torch.Generator) -> SinkerPlayer:
        self.players.append(SinkerPlayer(self, (num_tasks, num_envs), generator))
        return self.players[-1]


class SinkerPlayer:
    def __init__(self, agent: Sinker, shape: tuple[int, int], generator: torch.Generator) -> None:
        self._agent, self._generator = agent, generator
        self.lived = torch.zeros(shape, dtype=torch.float64)
        self.requested: list[bool] = []

    def act(self, actor_input: ActorInput) -> Tensor:
        self.lived = self.lived + actor_input.episode_ended
        self.requested.append(bool(actor_input.deterministic.all()))
        assert self.requested[-1] == bool(actor_input.deterministic.any())
        shape = actor_input.observations.shape
        sampled = torch.randn(shape, generator=self._generator, dtype=torch.float64)
        noise = self._agent.noise * (sampled + actor_input.observations)
        keep = ~actor_input.deterministic.unsqueeze(-1)
        return -0.25 * self.lived.unsqueeze(-1) + noise * keep

    def adapt(self, _: Episodes) -> None:
        raise AssertionError("an agent with a memory does not adapt")


def protocol(**settings: object) -> EvaluationProtocol:
    """A small protocol with shared episodes."""
    sizes = {"exploration_episodes": NUM_EPISODES, "evaluation_episodes": NUM_EPISODES}
    return EvaluationProtocol(
        **{"num_tasks": NUM_TASKS, "adaptation_steps": 2, **sizes, **settings}
    )


def measured(agent: object, family: Slope | None = None, **settings: object) -> Evaluation:
    return evaluate(agent, family or Slope(), protocol(**settings))


def returns(got: Evaluation) -> np.ndarray:
    """Returns of the only run, [stages, tasks, episodes]."""
    return got.measured.returns[0]
