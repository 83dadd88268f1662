"""A batch of episodes, and the loop that collects it for all tasks and environments together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import torch
from gymnasium import spaces
from torch import Tensor

from metarl.devices import require_memory
from metarl.finite import NonFiniteError
from metarl.tasks.actions import ActionLayout
from metarl.tasks.family import BatchEnv, Step
from metarl.tasks.observations import float_dtype

__all__ = [
    "Actor",
    "Episodes",
    "collect",
    "require_action_shape",
    "require_env_shape",
    "require_finite_rollout",
    "require_memory_of_steps",
]

Actor: TypeAlias = Callable[[Tensor], Tensor]
"""Observations [tasks, envs, O] ↦ actions [tasks, envs, A] in the environment's units."""

_FIRST_CAPACITY = 64
"""Number of time steps for which memory is reserved at first."""


@dataclass(frozen=True)
class Episodes:
    """One episode of each environment, padded to the longest of them: T steps."""

    observations: Tensor  # [N, E, T + 1, O]; entry t + 1 follows step t
    actions: Tensor  # [N, E, T, A], or [N, E, T] int64
    rewards: Tensor  # [N, E, T], 0 after the end
    terminated: Tensor  # [N, E, T] bool
    truncated: Tensor  # [N, E, T] bool
    mask: Tensor  # [N, E, T] bool, true until and including the episode's last step
    success: Tensor | None = None  # [N, E, T] bool; None if the family does not define success

    @property
    def returns(self) -> Tensor:
        """Undiscounted return of each episode, reward units. Shape [N, E]."""
        return self.rewards.sum(-1)

    @property
    def num_steps(self) -> int:
        """Number of valid environment steps, summed over tasks."""
        return int(self.mask.sum())

    def first_envs(self, num_envs: int) -> Episodes:
        """The episodes of the first environments of each task, as views."""
        cut: dict[str, Any] = {}
        for field in fields(self):
            part = getattr(self, field.name)
            cut[field.name] = None if part is None else part[:, :num_envs]
        return Episodes(**cut)


def collect(env: BatchEnv, actor: Actor, generator: torch.Generator) -> Episodes:
    """Run one episode in every environment of a batch.

    Collection stops when all episodes have ended, so that its time and memory follow the longest
    episode, not the horizon. Random numbers are drawn for the steps taken only.

    Args:
        env: the batch; it is reset first and may be used again afterwards.
        actor: maps observations to actions; it has its own random generator.
        generator: samples the initial states. On the CPU.

    Returns:
        The episodes, on the environment's device.

    Raises:
        NonFiniteError: a ValueError, if an observation or a reward is not finite, with the task
            and environment it came from.
        ValueError: if observations or rewards do not have shape [N, E, O] and [N, E], actions do
            not have the shape of the action space, or the episodes do not fit in memory.
    """
    observation = env.reset(generator)
    batch_shape, steps = (env.num_tasks, env.num_envs), env.horizon
    require_env_shape("observations", observation, (*batch_shape, *env.observation_space.shape))
    record = _EpisodeRecord(observation, steps)
    ended = torch.zeros(batch_shape, dtype=torch.bool, device=observation.device)
    for _ in range(steps):
        actions = actor(observation)
        require_action_shape(env, actions)
        step = env.step(actions)
        observation = step.observations
        require_env_shape("observations", observation, (*batch_shape, *env.observation_space.shape))
        require_env_shape("rewards", step.rewards, batch_shape)
        record.add(actions, step)
        ended = ended | step.terminated | step.truncated
        if bool(ended.all()):
            break
    return record.episodes()


class _TimeBuffer:
    """Values of successive times in one tensor [N, E, time, ...], which grows as needed."""

    def __init__(self, most: int, dtype: torch.dtype | None = None) -> None:
        """
        Args:
            most: maximum number of times.
            dtype: dtype of the tensor; None: the dtype of the first values.
        """
        self._most, self._size, self._dtype = most, 0, dtype
        self._values: Tensor | None = None

    def append(self, values: Tensor) -> None:
        """Copy the values [N, E, ...] of the next time."""
        held, size = self._values, self._size
        if held is None or size == held.shape[2]:
            capacity = min(self._most, max(_FIRST_CAPACITY, 2 * size))
            shape = (*values.shape[:2], capacity, *values.shape[2:])
            require_memory_of_steps(values, capacity)
            grown = values.new_empty(shape, dtype=self._dtype or values.dtype)
            if held is not None:
                grown[:, :, :size] = held
            held, self._dtype = grown, grown.dtype
            self._values = grown
        held[:, :, size] = values
        self._size += 1

    @property
    def values(self) -> Tensor:
        """The values of all times so far, contiguous."""
        assert self._values is not None
        return self._values[:, :, : self._size].contiguous()


class _EpisodeRecord:
    """Collects the steps of one episode of each environment."""

    def __init__(self, first_observations: Tensor, horizon: int) -> None:
        self._observations = _TimeBuffer(horizon + 1)
        self._observations.append(first_observations)
        self._actions = _TimeBuffer(horizon)
        self._rewards = _TimeBuffer(horizon, float_dtype(first_observations))
        self._terminated, self._truncated, self._success = (
            _TimeBuffer(horizon, torch.bool) for _ in range(3)
        )
        self._has_success = False

    def add(self, actions: Tensor, step: Step) -> None:
        self._actions.append(actions)
        self._observations.append(step.observations)
        self._rewards.append(step.rewards)
        self._terminated.append(step.terminated)
        self._truncated.append(step.truncated)
        success = step.success
        self._has_success |= success is not None
        self._success.append(torch.zeros_like(step.terminated) if success is None else success)

    def episodes(self) -> Episodes:
        observations, rewards = self._observations.values, self._rewards.values
        terminated, truncated = self._terminated.values, self._truncated.values
        mask = _alive(terminated | truncated)
        finite_rewards = torch.isfinite(rewards) | ~mask
        require_finite_rollout("observations", torch.isfinite(observations).all(-1), observations)
        require_finite_rollout("rewards", finite_rewards, rewards)
        return Episodes(
            observations,
            self._actions.values,
            torch.where(mask, rewards, 0),
            terminated & mask,
            truncated & mask,
            mask,
            self._success.values & mask if self._has_success else None,
        )


def require_memory_of_steps(values: Tensor, num_steps: int) -> None:
    """Reject a number of steps whose values [N, E, ...] do not fit in memory.

    Raises:
        ValueError: with the remedy.
    """
    if values.device.type == "cpu":
        num_envs = values.shape[0] * values.shape[1]
        require_memory(
            f"storing {num_steps} steps of {num_envs} environments, "
            f"{values[0, 0].numel()} numbers each,",
            values.nbytes * num_steps,
            remedy="use fewer tasks or episodes at a time (meta_batch_size, num_episodes), shorter "
            "episodes, or smaller images",
        )


def _alive(ends: Tensor) -> Tensor:
    """True up to and including the first end along the time axis."""
    ended_before = ends.cumsum(-1) - ends.to(torch.int64)
    return ended_before == 0


def require_env_shape(name: str, given: Tensor, needed: Sequence[int]) -> None:
    """Raise a ValueError if a tensor of an environment has another shape."""
    if given.shape != torch.Size(needed):
        raise ValueError(
            f"{name} of the environment must have shape {list(needed)}, got {list(given.shape)}"
        )


def require_action_shape(env: BatchEnv, actions: Tensor) -> None:
    """Raise an error unless actions are a tensor with the shape [N, E, ...] of the action space.

    Otherwise some environments would broadcast them.
    """
    space = env.action_space
    is_flat = isinstance(space, spaces.Discrete) or len(space.shape or ()) == 1
    shape = space.shape if is_flat else ActionLayout(space).row_shape
    assert shape is not None
    needed = (env.num_tasks, env.num_envs, *shape)
    if not isinstance(actions, Tensor):
        raise TypeError(
            f"actions must be a tensor of shape {list(needed)}, got type {type(actions).__name__}"
        )
    if actions.shape != torch.Size(needed):
        raise ValueError(f"actions must have shape {list(needed)}, got {list(actions.shape)}")


def require_finite_rollout(
    name: str, finite: Tensor, values: Tensor, *, time_axis: str = "step"
) -> None:
    """Reject values [N, E, T, ...] if `finite` [N, E, T] is false anywhere.

    Args:
        name: name of the values, for the message.
        finite: bool, which values are finite or do not count.
        values: the values to describe.
        time_axis: name of the third axis, for the message.

    Raises:
        NonFiniteError: with the first such value, its task, environment and step.
    """
    if bool(finite.all()):
        return
    task, env, step = (int(i) for i in (~finite).nonzero()[0])
    value = values[task, env, step]
    shown = value[~torch.isfinite(value)].flatten()[0]
    raise NonFiniteError(
        f"{name} must be finite, got {float(shown)} from task {task}, environment {env}, "
        f"{time_axis} {step}",
        task,
    )
