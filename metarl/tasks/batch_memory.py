"""Rejection of batches of environments that cannot fit into memory."""

from __future__ import annotations

from gymnasium import spaces

from metarl.devices import require_memory
from metarl.tasks.family import TaskFamily

__all__ = ["require_batch_memory"]

_BYTES_PER_NUMBER = 4
_MAX_STEPS = 64  # later steps may never happen, since episodes can end early


def require_batch_memory(family: TaskFamily, num_tasks: int, num_envs: int) -> None:
    """Reject environments whose first observations and actions exceed the machine's memory.

    Args:
        family: the family of the tasks.
        num_tasks: N.
        num_envs: E, environments of each task.

    Raises:
        ValueError: stating both sizes.
    """
    observation_bytes = family.observation_space.dtype.itemsize
    size = observation_bytes * spaces.flatdim(family.observation_space)
    size += _BYTES_PER_NUMBER * spaces.flatdim(family.action_space)
    num_steps = min(family.horizon, _MAX_STEPS)
    require_memory(
        f"{num_tasks:,} tasks with {num_envs:,} environments each",
        float(size) * num_steps * num_tasks * num_envs,
        remedy="use fewer tasks or episodes",
    )
