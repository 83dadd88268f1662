"""Benchmark cases of learning: collection and updates, and their counterparts.

The counterparts are written as users would write them, and not slowed down on purpose.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from metarl.agents import MAMLTRPO, MAMLTRPOConfig
from metarl.bilevel.adaptation import adapt
from metarl.bilevel.inner_loop import PerStep
from metarl.console import plain_console
from metarl.envs import make_family
from metarl.parameters import flatten, unflatten
from metarl.rl.objectives import PolicyBatch, mean_kl
from metarl.rollouts.episodes import collect
from metarl.runs.directory import RunDirectory
from metarl.runs.loop import TrainingPlan, run_training
from metarl.scripts.benchmark.case import Case
from metarl.seeding import torch_generator

__all__ = ["LEARNING_CASES"]

_NAVIGATION = "Navigation2D:maml17"


def navigation_collect() -> Callable[[], None]:
    """Our collection with a policy: 40 tasks × 20 environments × 100 steps."""
    family = make_family(_NAVIGATION)
    agent = _navigation_agent()
    env = family.make_batch(family.sample_tasks(40, seed=0), num_envs=20)
    player, resets = agent.play(40, 20, _rng()), _rng()
    player.params = {name: p.contiguous() for name, p in player.params.items()}
    return lambda: _discard(collect(env, player.actor, resets))


def navigation_sync() -> Callable[[], None]:
    """The same collection with 800 NumPy environments in Gymnasium's SyncVectorEnv."""
    goals = make_family(_NAVIGATION).sample_tasks(40, seed=0).repeat(20, axis=0)
    env = gymnasium.vector.SyncVectorEnv([partial(_Navigation, goal) for goal in goals])
    agent = _navigation_agent()
    act = agent.play(40, 20, _rng()).actor

    def run() -> None:
        observations, _ = env.reset(seed=0)
        for _ in range(100):
            actions = act(torch.from_numpy(observations).view(40, 20, 2)).view(800, 2).numpy()
            observations, *_ = env.step(actions)

    return run


class _Navigation(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """2D navigation in plain NumPy."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-0.1, 0.1, (2,), np.float32)

    def __init__(self, goal: NDArray[np.float64]) -> None:
        self._goal = goal.astype(np.float32)
        self._position = np.zeros(2, np.float32)
        self._time = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._position, self._time = np.zeros(2, np.float32), 0
        return self._position, {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self._position = self._position + np.clip(action, -0.1, 0.1)
        self._time += 1
        offset = self._position - self._goal
        reward = -float(np.linalg.norm(offset))
        terminated = bool((np.abs(offset) < 0.01).all())
        return self._position, reward, terminated, self._time >= 100, {}


def navigation_iteration() -> Callable[[], None]:
    """One iteration of MAML-TRPO with 40 tasks × 20 environments × 100 steps."""
    agent = _navigation_agent()
    return lambda: _discard(agent.iterate())


def default_iteration() -> Callable[[], None]:
    """One iteration of `metarl train maml-trpo --env Navigation2D:maml17`."""
    agent = MAMLTRPO(make_family(_NAVIGATION))
    return lambda: _discard(agent.iterate())


def training_without_iterations() -> Callable[[], None]:
    """100 iterations of that command without learning: metrics, TensorBoard, checkpoints."""
    agent = MAMLTRPO(make_family(_NAVIGATION))
    metrics = agent.iterate()
    settings = asdict(agent.config)
    facts = {"agent": "maml-trpo", "environment": _NAVIGATION, "seed": 0, "agent_config": settings}
    plan = TrainingPlan(iterations=100, checkpoint_every=10)

    def run() -> None:
        with TemporaryDirectory() as parent:
            run_directory = RunDirectory.create(Path(parent) / "run", facts, save=agent.save)
            with run_directory.writing(), open(os.devnull, "w") as nowhere:
                console = plain_console(file=nowhere)
                run_training(_Replayed(agent, metrics), run_directory, plan, console)

    return run


class _Replayed:
    """An agent whose iterations return stored metrics."""

    score: str = "rollout/query_return"
    higher_is_better: bool = True
    axis: str = "time/env_steps"

    def __init__(self, agent: MAMLTRPO, metrics: dict[str, float]) -> None:
        self._agent, self._metrics = agent, metrics
        self.num_iterations = 0

    def iterate(self) -> dict[str, float]:
        self.num_iterations += 1
        return {**self._metrics, "time/env_steps": self.num_iterations}

    def progress(self, metrics: Mapping[str, float]) -> str:
        return f"return {metrics[self.score]:.1f}"

    def save(self, path: Path) -> None:
        self._agent.num_iterations = self.num_iterations
        self._agent.save(path)


def navigation_textbook() -> Callable[[], None]:
    """The same iteration with the textbook Fisher product on all states."""
    agent = _TextbookTRPO(
        make_family(_NAVIGATION),
        MAMLTRPOConfig(hidden_sizes=(64, 64), activation="tanh", chunk_size=None),
    )
    return lambda: _discard(agent.iterate())


class _TextbookTRPO(MAMLTRPO):
    """MAML-TRPO whose Fisher product differentiates the KL twice through adaptation."""

    def _fisher_product(
        self, supports: Sequence[PolicyBatch], query: PolicyBatch
    ) -> Callable[[Tensor], Tensor]:
        leaves = {name: p.detach().requires_grad_() for name, p in self.params.items()}
        adapted = adapt(leaves, PerStep(supports), self._inner)
        old = self.policy.distribution(adapted, query.observations).detach()
        kl = mean_kl(self.policy, adapted, query, old).mean()
        first = torch.autograd.grad(kl, list(leaves.values()), create_graph=True)

        def product(vector: Tensor) -> Tensor:
            along = unflatten(vector, leaves).values()
            slope = torch.stack([(g * v).sum() for g, v in zip(first, along, strict=True)]).sum()
            second = torch.autograd.grad(slope, list(leaves.values()), retain_graph=True)
            return flatten(dict(zip(leaves, second, strict=True)))

        return product


def cheetah_sampling() -> Callable[[], None]:
    """Sampling of one cheetah iteration: two phases of 40 × 20 × 200 steps with a policy."""
    family = make_family("HalfCheetahVel:promp")
    agent = _cheetah_agent()
    env = family.make_batch(family.sample_tasks(40, seed=0), num_envs=20)
    noise, resets = _rng(), _rng()

    def run() -> None:
        for _ in range(2):
            collect(env, agent.play(40, 20, noise).actor, resets)

    return run


def cheetah_update() -> Callable[[], None]:
    """The meta-update on such a batch."""
    agent = _cheetah_agent()
    env = agent.family.make_batch(agent.family.sample_tasks(40, seed=0), num_envs=20)
    player, resets = agent.play(40, 20, _rng()), _rng()
    episodes = collect(env, player.actor, resets)
    support = agent._process(player.params, episodes)
    player.adapt(episodes)
    adapted = player.params
    query = agent._process(adapted, collect(env, player.actor, resets))
    initial = agent.params

    def run() -> None:
        agent.params = initial
        agent._update([support], query, adapted)

    return run


def _navigation_agent() -> MAMLTRPO:
    config = MAMLTRPOConfig(hidden_sizes=(64, 64), activation="tanh")
    return MAMLTRPO(make_family(_NAVIGATION), config)


def _cheetah_agent() -> MAMLTRPO:
    config = MAMLTRPOConfig(hidden_sizes=(64, 64), activation="tanh")
    return MAMLTRPO(make_family("HalfCheetahVel:promp"), config)


def _rng() -> torch.Generator:
    return torch_generator(0, "benchmark")


def _discard(_: object) -> None:
    return None


LEARNING_CASES: dict[str, Case] = {
    "navigation collect": Case(navigation_collect, 80_000),
    "navigation sync": Case(navigation_sync, 80_000),
    "navigation iteration": Case(navigation_iteration, 1),
    "default iteration": Case(default_iteration, 1),
    "training without iterations": Case(training_without_iterations, 100),
    "navigation textbook": Case(navigation_textbook, 1),
    "cheetah sampling": Case(cheetah_sampling, 1),
    "cheetah update": Case(cheetah_update, 1),
}
