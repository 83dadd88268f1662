"""Training data of a policy with a memory: trials with time first, and their advantages."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from metarl.rl.distributions import Distribution
from metarl.rl.masked import MAX_PACKED_FRACTION
from metarl.rl.returns import generalized_advantages
from metarl.rollouts.actors import random_actor
from metarl.rollouts.trials import Trials
from metarl.tasks.family import TaskFamily

__all__ = [
    "TrialBatch",
    "keep_observations_only",
    "training_rewards",
    "require_expected_rewards",
    "time_first",
    "trial_gae",
]


@dataclass(frozen=True)
class TrialBatch:
    """Training data of one update: B trials of T steps."""

    inputs: Tensor  # [T, B, I], normalized
    trial_progress: Tensor  # [T, B, 1], step / maximum length of a trial
    tasks: Tensor  # [1, B, D], the encoded tasks for a privileged critic; D may be 0
    cleared: Tensor | None  # [T, B] bool, true to clear the memory; None: never
    actions: Tensor  # [T, B, A], or [T, B] int64
    log_probs: Tensor  # [T, B], under the policy that acted, nats
    values: Tensor  # [T, B], before the update
    advantages: Tensor  # [T, B]
    returns: Tensor  # [T, B], the targets of the values
    mask: Tensor  # [T, B] bool
    old: Distribution  # policy that acted, [T, B]

    @property
    def num_steps(self) -> int:
        """Number of steps up to the last valid one of any trial."""
        return 1 + int(self.mask.any(1).nonzero().max())

    def select_trials(self, rows: Tensor) -> TrialBatch:
        """The trials at some indices [S], cut to the length of the longest.

        `old` keeps all trials, since no update needs a part of it.
        """
        chosen = replace(
            self._map_tensors(lambda part: part.index_select(1, rows)),
            tasks=self.tasks.index_select(1, rows),
        )
        num_steps = chosen.num_steps
        if num_steps == len(self.mask):
            return chosen
        return chosen._map_tensors(lambda part: part[:num_steps])

    def without_padding(self) -> TrialBatch:
        """The valid steps as S trials of one step, [1, S], for policies without a memory.

        The batch itself if little or nothing is padding; `old` keeps all trials.
        """
        steps, trials = self.mask.nonzero(as_tuple=True)
        if len(steps) > MAX_PACKED_FRACTION * self.mask.numel():
            return self
        packed = self._map_tensors(lambda part: part[steps, trials].unsqueeze(0))
        return replace(packed, tasks=self.tasks[:, trials])

    def _map_tensors(self, change: Callable[[Tensor], Tensor]) -> TrialBatch:
        """The batch after a function of each tensor [T, B, ...]."""
        changed: dict[str, Any] = {}
        for field in fields(self):
            part = getattr(self, field.name)
            if field.name != "tasks" and torch.is_tensor(part):
                changed[field.name] = change(part)
        return replace(self, **changed)


def require_expected_rewards(family: TaskFamily) -> None:
    """Reject a family that does not provide expected rewards; takes one environment step.

    Raises:
        ValueError: if expected rewards are missing.
    """
    generator = torch.Generator().manual_seed(0)
    tasks = family.sample_tasks(1, seed=0)
    with closing(family.make_batch(tasks, num_envs=1)) as env:
        observations = env.reset(generator)
        step = env.step(random_actor(env, generator)(observations))
    if step.expected_rewards is None:
        raise ValueError(
            f"use_expected_rewards must be False with {family.id}, which does not provide the "
            "means of its rewards"
        )


def training_rewards(trials: Trials, *, expected: bool) -> Tensor:
    """Rewards [N, E, T] or, if `expected`, their means given task, state and action.

    Both give the same expected policy gradient; the means remove the noise of the rewards.
    """
    if not expected:
        return trials.rewards
    assert trials.expected_rewards is not None
    return trials.expected_rewards


def time_first(values: Tensor) -> Tensor:
    """[N, E, T, ...] ↦ [T, N · E, ...]."""
    return values.flatten(0, 1).transpose(0, 1)


def trial_gae(trials: Trials, rewards: Tensor, values: Tensor, gamma: float, lam: float) -> Tensor:
    """Advantages [T, B] over whole trials; only the end of a trial stops bootstrapping.

    Args:
        trials: the trials, for their mask.
        rewards: [T, B], in the units of `values`.
        values: [T, B].
        gamma: discount per step.
        lam: λ.
    """
    mask = time_first(trials.mask).T  # [B, T]
    following = torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], dim=1)
    last = mask & ~following
    padded = torch.cat([values.T, values.new_zeros(values.shape[1], 1)], dim=1)
    never = torch.zeros_like(last)
    return generalized_advantages(rewards.T, padded, last, never, gamma=gamma, gae_lambda=lam).T


def keep_observations_only(inputs: Tensor, cleared: Tensor, observation_size: int) -> Tensor:
    """Inputs [..., I] in which all entries but the observation are 0 if the memory is cleared."""
    later = inputs[..., observation_size:].masked_fill(cleared.unsqueeze(-1), 0)
    return torch.cat([inputs[..., :observation_size], later], dim=-1)
