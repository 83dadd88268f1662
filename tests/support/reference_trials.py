"""Trials of references: whole trials, and single steps with given pulls."""

from collections.abc import Sequence

import torch
from torch import Tensor

from metarl.rl.players import AdaptiveAgent
from metarl.rollouts.trials import ActorInput, Trials, collect_trials
from metarl.tasks.family import TaskFamily


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def play(
    agent: AdaptiveAgent,
    family: TaskFamily,
    num_tasks: int,
    *,
    num_episodes: int = 1,
    seed: int = 0,
) -> Trials:
    """One trial of each of several test tasks."""
    tasks = family.sample_tasks(num_tasks, split="test", seed=seed)
    env = family.make_batch(tasks, num_envs=1)
    player = agent.play(num_tasks, 1, generator(seed + 1))
    return collect_trials(env, player, generator(seed + 2), num_episodes=num_episodes)


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Mean of independent values and its standard error."""
    flat = values.double().flatten()
    return float(flat.mean()), float(flat.std()) / len(flat) ** 0.5


def arms_after(agent: AdaptiveAgent, pulls: Sequence[tuple[int, float]], copies: int = 1) -> Tensor:
    """The agent's arms after given pulls (arm, reward), in identical environments. [copies]"""
    player = agent.play(1, copies, generator())
    batch_shape = (1, copies)
    never = torch.zeros(batch_shape, dtype=torch.bool)
    nothing = torch.zeros(*batch_shape, 1)
    arms = player.act(ActorInput(nothing, None, torch.zeros(batch_shape), never, never))
    for arm, reward in pulls:
        previous = (torch.full(batch_shape, arm), torch.full(batch_shape, reward))
        arms = player.act(ActorInput(nothing, *previous, never, never))
    return arms[0]
