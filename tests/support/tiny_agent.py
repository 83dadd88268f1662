"""A minimal agent of a user: one action for all tasks, changed by an arbitrary rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metarl.envs.navigation.goals import Navigation2D
from metarl.optim.optimizer import NamedOptimizer
from metarl.parameters import State
from metarl.rl.agent import Agent, Iteration
from metarl.rl.players import Player
from metarl.rollouts.episodes import Episodes, collect
from metarl.rollouts.trials import ActorInput
from metarl.seeding import torch_generator
from metarl.tasks.family import TaskFamily
from metarl.tasks.spaces import Tasks


@dataclass(frozen=True)
class TinyConfig:
    meta_batch_size: int = 3
    step_size: float = 0.1
    action_divisor: float | None = None


class TinyPlayer:
    """Acts with one action per task plus noise; each batch of episodes adds its mean return."""

    def __init__(self, action: Tensor, num_tasks: int, generator: torch.Generator) -> None:
        self.actions = action.expand(num_tasks, 1, 2)
        self.generator = generator

    def act(self, inputs: ActorInput) -> Tensor:
        actions = self.actions.expand(*inputs.deterministic.shape, 2)
        noise = torch.randn(actions.shape, generator=self.generator)
        return torch.where(inputs.deterministic.unsqueeze(-1), actions, actions + noise)

    def adapt(self, episodes: Episodes) -> None:
        self.actions = self.actions + episodes.returns.mean(1).view(-1, 1, 1)


class TinyAgent(Agent[TinyConfig]):
    name, config_type = "tiny", TinyConfig
    metrics: Mapping[str, str] = {"rollout/return": "mean return", "meta/step": "length of a step"}
    score = "rollout/return"
    shown_metrics = ("rollout/return", "meta/step")

    def __init__(self, family: TaskFamily, config: Any = None, **settings: Any) -> None:
        super().__init__(family, config, **settings)
        first = torch.randn(2, generator=torch_generator(self.seed, "parameters"))
        self.params = {"action": first}
        self.optimizer = NamedOptimizer(self.params, rate=self.config.step_size)
        self.fail: BaseException | None = None
        self.changed_metrics: dict[str, Any] | None = None

    def _iterate(self, tasks: Tasks) -> Iteration:
        noise = torch_generator(self.seed, "actions", self.num_iterations)
        with self._training_envs(tasks, num_envs=2) as env:
            acting = self.params["action"].clone()
            resets = torch_generator(self.seed, "resets", self.num_iterations)
            shape = (3, 2, 2)
            episodes = collect(env, lambda _: acting + torch.randn(shape, generator=noise), resets)
        self.optimizer.step({"action": -episodes.actions.mean((0, 1, 2))})
        if self.fail is not None:
            raise self.fail
        metrics = {"rollout/return": float(episodes.returns.mean())}
        extra = {"meta/step": 0.5} if self.changed_metrics is None else self.changed_metrics
        return Iteration(metrics | extra, episodes.num_steps)

    def play(self, num_tasks: int, num_envs: int, generator: torch.Generator) -> Player:
        del num_envs
        return TinyPlayer(self.params["action"], num_tasks, generator)

    def _state(self) -> State:
        return {**super()._state(), "optimizer": self.optimizer.tensors()}

    def _set_state(self, state: State) -> None:
        super()._set_state(state)
        self.optimizer.restore(state["optimizer"])


def tiny(*, seed: int = 0, **settings: Any) -> TinyAgent:
    return TinyAgent(Navigation2D("maml17"), TinyConfig(**settings), seed=seed)


def episodes_of(family: TaskFamily, *, num_tasks: int = 2, seed: int = 0) -> Episodes:
    """Three random episodes of each task."""
    env = family.make_batch(family.sample_tasks(num_tasks, seed=seed), num_envs=3)
    noise = torch.Generator().manual_seed(seed)
    shape = (num_tasks, 3, 2)
    return collect(env, lambda _: torch.randn(shape, generator=noise), torch.Generator())
