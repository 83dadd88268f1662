"""Adaptation to unseen tasks: returns before and after each step, beside the references.

The protocol is that of Finn et al. 2017: the return after k steps is the mean over stochastic
episodes of the policy after k steps, and the same episodes are the data of step k + 1.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.agent import AdaptiveAgent
from metarl.episodes import Actor, collect
from metarl.seeding import derive_seed, torch_generator
from metarl.statistics import Interval, mean_interval
from metarl.tasks import BatchEnv, TaskFamily, Tasks

__all__ = ["Evaluation", "evaluate_adaptation", "random_actor"]

Returns = NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """Raw returns of every task, from which all statistics come."""

    environment: str
    split: str
    seed: int
    num_episodes: int  # per task and step
    tasks: Tasks  # [N, D]
    returns: Returns  # [steps + 1, N], mean over episodes; row k is after k steps
    random: Returns  # [N], actions uniform over the action space
    oracle: Returns | None  # [N], an actor that knows the tasks

    @property
    def num_steps(self) -> int:
        """Adaptation steps."""
        return len(self.returns) - 1

    def interval(self, values: Returns) -> Interval:
        """Mean over tasks with a 95 % bootstrap interval."""
        return mean_interval(values, seed=self.seed)

    def gain(self, step: int) -> Interval:
        """Return after `step` steps minus the return before, task by task."""
        return self.interval(self.returns[step] - self.returns[0])

    def gap_closed(self, step: int) -> float | None:
        """Share of the gap between the return before adaptation and the oracle's.

        None without an oracle, or where the policy is as good as the oracle before adapting.
        """
        if self.oracle is None:
            return None
        gap = float(self.oracle.mean() - self.returns[0].mean())
        return float(self.returns[step].mean() - self.returns[0].mean()) / gap if gap > 0 else None

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON can hold it: per-task returns and the statistics made from them."""
        steps = [
            {
                "step": k,
                "returns": self.returns[k].tolist(),
                "mean": self.interval(self.returns[k])._asdict(),
                "gain": self.gain(k)._asdict(),
                "gap_closed": self.gap_closed(k),
            }
            for k in range(self.num_steps + 1)
        ]
        return {
            "environment": self.environment,
            "split": self.split,
            "seed": self.seed,
            "protocol": {
                "num_tasks": len(self.tasks),
                "num_steps": self.num_steps,
                "episodes_per_step": self.num_episodes,
                "policy": "stochastic",
                "return": "undiscounted sum of rewards, mean over episodes",
                "interval": "95 % percentile bootstrap over tasks",
            },
            "tasks": self.tasks.tolist(),
            "steps": steps,
            "random": self._reference(self.random),
            "oracle": None if self.oracle is None else self._reference(self.oracle),
        }

    def _reference(self, returns: Returns) -> dict[str, Any]:
        return {"returns": returns.tolist(), "mean": self.interval(returns)._asdict()}


def evaluate_adaptation(
    agent: AdaptiveAgent,
    family: TaskFamily,
    *,
    num_tasks: int = 40,
    num_steps: int = 3,
    num_episodes: int = 20,
    split: str = "test",
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Evaluation:
    """Adapt an agent to tasks it was not trained on and measure it before and after each step.

    Args:
        agent: acts and adapts for all tasks at once.
        family: where the tasks come from.
        num_tasks: N.
        num_steps: adaptation steps.
        num_episodes: per task, before each step and after the last.
        split: of the tasks.
        seed: of tasks, initial states and actions; independent of the training seed's streams.
        device: the agent's device.

    Returns:
        Per-task returns of the agent, of random actions, and of the oracle if there is one.

    Raises:
        ValueError: if a number is out of range or the split unknown.
    """
    if num_steps < 0:
        raise ValueError(f"num_steps must be 0 or more, got {num_steps}")
    tasks = family.sample_tasks(num_tasks, split=split, seed=derive_seed(seed, "evaluation"))
    env = family.make_batch(tasks, num_envs=num_episodes, device=device)
    resets = torch_generator(seed, "evaluation", "resets")
    noise = torch_generator(seed, "evaluation", "actions", device=device)
    state = agent.initial_state(num_tasks)
    returns = []
    with closing(env):
        for step in range(num_steps + 1):
            episodes = collect(env, agent.actor(state, noise), resets)
            returns.append(_per_task(episodes.returns))
            if step < num_steps:
                state = agent.adapt_step(state, episodes, step=step)
        random = _returns(env, random_actor(env, noise), resets)
        best = _oracle_returns(env, resets)
    return Evaluation(family.id, split, seed, num_episodes, tasks, np.stack(returns), random, best)


def random_actor(env: BatchEnv, generator: torch.Generator) -> Actor:
    """Actions uniform over the action space.

    Raises:
        TypeError: if the action space is neither a bounded Box nor Discrete.
    """
    space = env.action_space
    if isinstance(space, gymnasium.spaces.Discrete):
        count, first = int(space.n), int(space.start)
        return lambda observations: (
            first
            + torch.randint(
                count, observations.shape[:2], generator=generator, device=observations.device
            )
        )
    if not isinstance(space, gymnasium.spaces.Box) or not space.is_bounded():
        raise TypeError(f"action_space must be Discrete or a bounded Box, got {space}")
    low, high = torch.as_tensor(space.low), torch.as_tensor(space.high)

    def act(observations: Tensor) -> Tensor:
        shape = (*observations.shape[:2], *space.shape)
        uniform = torch.rand(shape, generator=generator, device=observations.device)
        return low.to(uniform) + (high - low).to(uniform) * uniform

    return act


def _oracle_returns(env: BatchEnv, resets: torch.Generator) -> Returns | None:
    env.reset(resets)
    if env.oracle_actions() is None:
        return None

    def act(observations: Tensor) -> Tensor:  # noqa: ARG001 - the oracle sees the state itself
        actions = env.oracle_actions()
        assert actions is not None
        return actions

    return _returns(env, act, resets)


def _returns(env: BatchEnv, actor: Actor, resets: torch.Generator) -> Returns:
    return _per_task(collect(env, actor, resets).returns)


def _per_task(returns: Tensor) -> Returns:
    means: Returns = returns.double().mean(dim=1).cpu().numpy()
    return means
