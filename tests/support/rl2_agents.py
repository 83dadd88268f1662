"""Small agents of RL², each variant on a lock or a robot, and their trials."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tiny_environments import Lock
from torch import Tensor

from metarl.agents import RL2, RL2Config
from metarl.envs.navigation.sparse_goals import SparsePointRobot
from metarl.rl.distributions import Distribution
from metarl.rollouts.trials import ActorInput, Trials, collect_trials
from metarl.tasks.family import TaskFamily

LOCK, ROBOT = Lock(), SparsePointRobot("pearl")
ROBOT.horizon = 4  # keeps the tests short
SMALL: dict[str, Any] = {
    "num_episodes": 2,
    "meta_batch_size": 4,
    "memory_size": 8,
    "value_hidden_sizes": (4,),
    "num_epochs": 2,
    "num_minibatches": 2,
    "learning_rate": 1e-2,
    "cg_iterations": 3,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "gru": {},
    "lstm": {"memory": "lstm", "encoder_sizes": (6,)},
    "transformer": {"memory": "transformer"},
    "none": {"memory": "none", "hidden_sizes": (6,)},
    "hypernetwork": {"head": "hypernetwork", "hidden_sizes": (5,)},
    "trpo": {"optimizer": "trpo"},
    "trpo transformer": {"optimizer": "trpo", "memory": "transformer"},
    "cleared": {"clear_each_episode": True},
    "cleared transformer": {"clear_each_episode": True, "memory": "transformer"},
    "truncated": {"backprop_steps": 3},
    "all options": {
        "normalize_observations": True, "privileged_critic": True, "anneal_iterations": 5,
        "value_clip": 0.2, "clear_each_episode": True,
    },
}  # fmt: skip
variants = pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
few = pytest.mark.parametrize(
    "settings", [{}, {"memory": "transformer"}], ids=["gru", "transformer"]
)
CASES = [(LOCK, name) for name in VARIANTS] + [(ROBOT, n) for n in ("gru", "trpo", "all options")]
cases = pytest.mark.parametrize(
    ("family", "settings"),
    [(family, VARIANTS[name]) for family, name in CASES],
    ids=[f"{name} {'lock' if family is LOCK else 'robot'}" for family, name in CASES],
)


def agent(*, family: TaskFamily = LOCK, seed: int = 0, **settings: Any) -> RL2:
    return RL2(family, RL2Config(**{**SMALL, **settings}), seed=seed)


def make_generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shaken(learner: RL2) -> RL2:
    """The agent with parameters far from the initial ones, so that the policy is not uniform."""
    with torch.no_grad():
        for k, p in enumerate(learner.params.values()):
            p.add_(torch.randn(p.shape, generator=make_generator(k)), alpha=0.3)
    return learner


def everything(learner: RL2) -> dict[str, Tensor]:
    """The content of a checkpoint."""
    state = learner._state()
    return {
        f"{group}/{n}": t.detach().clone() for group, ts in state.items() for n, t in ts.items()
    }


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Bitwise equality."""
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def untimed(metrics: dict[str, float]) -> dict[str, float]:
    """Metrics without times."""
    measured = ("time/env_steps_per_second", "time/sampling_seconds", "time/update_seconds")
    return {name: value for name, value in metrics.items() if name not in measured}


def history(learner: RL2, num_iterations: int) -> list[dict[str, float]]:
    seen: list[dict[str, float]] = []
    learner.learn(num_iterations, callback=lambda _, metrics: seen.append(untimed(metrics)))
    return seen


def trials_of(learner: RL2, *, num_tasks: int = 4, num_envs: int = 1, **settings: Any) -> Trials:
    """Trials of the learner."""
    tasks = learner.family.sample_tasks(num_tasks, seed=7)
    env = learner.family.make_batch(tasks, num_envs=num_envs)
    player = learner.play(num_tasks, num_envs, make_generator(1))
    settings.setdefault("num_episodes", learner.config.num_episodes)
    return collect_trials(env, player, make_generator(2), **settings)


def actor_inputs(trials: Trials) -> Iterator[ActorInput]:
    """The inputs of the agent that acted in these trials."""
    never = torch.zeros_like(trials.mask[..., 0])
    yield ActorInput(trials.observations[:, :, 0], None, torch.zeros(never.shape), never, never)
    for t in range(1, trials.mask.shape[-1]):
        yield ActorInput(
            trials.observations[:, :, t], trials.actions[:, :, t - 1], trials.rewards[..., t - 1],
            trials.episode_ends[..., t - 1], never,
        )  # fmt: skip


def stepwise(learner: RL2, trials: Trials) -> list[Distribution]:
    """The policy at each input of these trials, by the acting path."""
    state, found = None, []
    for actor_input in actor_inputs(trials):
        distribution, state = learner.policy_at(actor_input, state)
        found.append(distribution)
    return found
