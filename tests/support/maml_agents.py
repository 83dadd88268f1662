"""Small agents of MAML-TRPO, their metrics, and one task's adaptation written out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metarl.agents import MAMLTRPO, MAMLTRPOConfig
from metarl.envs.navigation.goals import Navigation2D
from metarl.parameters import Params
from metarl.rl.objectives import PolicyBatch, policy_batch
from metarl.rollouts.episodes import Episodes, collect

NAVIGATION = Navigation2D("maml17")
SMALL: dict[str, Any] = {
    "meta_batch_size": 3,
    "num_episodes": 4,
    "hidden_sizes": (8,),
    "activation": "tanh",
    "chunk_size": 2,
}


def agent(*, seed: int = 0, family: Any = NAVIGATION, **settings: Any) -> MAMLTRPO:
    return MAMLTRPO(family, MAMLTRPOConfig(**{**SMALL, **settings}), seed=seed)


def trained(num_iterations: int, **settings: Any) -> MAMLTRPO:
    return agent(**settings).learn(num_iterations)


def copied(params: Params) -> Params:
    return {name: p.clone() for name, p in params.items()}


def unadapted(learner: MAMLTRPO, num_tasks: int = 3) -> Params:
    """The shared parameters for each task, [tasks, ...]."""
    return learner.play(num_tasks, 4, torch.Generator()).params


def equal(one: Params, other: Params) -> bool:
    """Bitwise equality."""
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def untimed(metrics: dict[str, float]) -> dict[str, float]:
    """Metrics without times."""
    measured = ("time/env_steps_per_second", "time/sampling_seconds", "time/update_seconds")
    return {name: value for name, value in metrics.items() if name not in measured}


def history(learner: MAMLTRPO, num_iterations: int) -> list[dict[str, float]]:
    """The metrics of further iterations."""
    seen: list[dict[str, float]] = []
    learner.learn(num_iterations, callback=lambda _, metrics: seen.append(untimed(metrics)))
    return seen


def batch_of(learner: MAMLTRPO, state: Params, episodes: Episodes) -> PolicyBatch:
    """The data of a phase, collected with per-task parameters."""
    behavior = learner.policy.distribution(state, episodes.observations[:, :, :-1])
    return policy_batch(
        episodes,
        behavior.log_prob(episodes.actions),
        gamma=0.99,
        gae_lambda=1.0,
        baseline="linear",
        normalize=True,
        bootstrap_truncated=False,
    )


def torch_normal(learner: MAMLTRPO, params: Params, observations: Tensor) -> Any:
    """π(· | observations) of one task, as torch's own distribution."""
    ours = learner.policy.distribution(params, observations)
    spread = ours.log_std.exp().expand_as(ours.mean)
    return torch.distributions.Independent(torch.distributions.Normal(ours.mean, spread), 1)


def adapted(learner: MAMLTRPO, shared: Params, support: PolicyBatch, task: int) -> Params:
    """One step of gradient descent on −mean log π(a | s) A of one task."""
    leaves = {name: p.clone().requires_grad_() for name, p in shared.items()}
    counts = support.mask[task]
    log_probs = torch_normal(learner, leaves, support.observations[task][counts]).log_prob(
        support.actions[task][counts]
    )
    loss = -(log_probs * support.advantages[task][counts]).mean()
    grads = torch.autograd.grad(loss, list(leaves.values()))
    moved = zip(shared.items(), grads, strict=True)
    return {name: p - learner.config.inner_lr * grad for (name, p), grad in moved}


def episodes_of(learner: MAMLTRPO, state: Params, *, seed: int = 0) -> Episodes:
    """Four episodes of each of three tasks with per-task parameters."""
    env = NAVIGATION.make_batch(NAVIGATION.sample_tasks(3, seed=1), num_envs=4)
    noise = torch.Generator().manual_seed(seed)
    player = learner.play(3, 4, noise)
    player.params = state
    return collect(env, player.actor, torch.Generator())
