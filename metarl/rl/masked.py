"""Means, standardization and packing of the steps where a mask is true.

A batch of episodes is padded to the longest of them. If lengths vary, most of its entries may be
padding, and a network that is applied to the packed steps does only the work that counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "MAX_PACKED_FRACTION",
    "StepPacking",
    "masked_mean",
    "mean_over_states",
    "standardize",
    "scale_of_tasks",
    "standardize_by_task",
    "state_weights",
    "step_packing",
]

MAX_PACKED_FRACTION = 0.9
"""Steps are packed if they then take at most this fraction of the entries."""


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where the mask is true."""
    return torch.where(mask, values, 0).sum() / mask.sum()


def standardize(values: Tensor, mask: Tensor) -> Tensor:
    """Values with mean 0 and standard deviation 1 over the mask; 0 outside the mask."""
    centered = torch.where(mask, values - masked_mean(values, mask), 0)
    return centered / (masked_mean(centered.square(), mask).sqrt() + 1e-8)


def state_weights(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights for the mean of each task over the steps where the mask is true.

    Args:
        mask: bool, true for valid steps. Shape [N, ...].
        dtype: dtype of the weights.

    Returns:
        Weights in the shape of `mask`; the weights of each task sum to 1.
    """
    counts = mask.to(dtype)
    return counts / _task_sums(counts)


def mean_over_states(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values [N, ...] of each task where the mask is true. Shape [N]."""
    weighted = torch.where(mask, values, 0) * state_weights(mask, values.dtype)
    return weighted.flatten(1).sum(-1)


def standardize_by_task(values: Tensor, mask: Tensor) -> Tensor:
    """Values [N, ...] with mean 0 and standard deviation 1 over each task's masked steps.

    Values outside the mask are shifted and scaled in the same way; they must be finite.
    """
    mean, scale = _mean_and_scale(values, mask)
    return (values - mean) / scale


def scale_of_tasks(values: Tensor, mask: Tensor) -> Tensor:
    """The divisor of `standardize_by_task`, [N, 1, ...] with as many axes as the values."""
    return _mean_and_scale(values, mask)[1]


def _mean_and_scale(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    weights = state_weights(mask, values.dtype)
    mean = _task_sums(values * weights)
    variance = _task_sums((values - mean).square() * weights)
    return mean, variance.sqrt() + 1e-8


def _task_sums(values: Tensor) -> Tensor:
    """Sums over all axes but the first, which stay with length 1."""
    return values.flatten(1).sum(-1).view(-1, *[1] * (values.dim() - 1))


@dataclass(frozen=True)
class StepPacking:
    """Positions of the valid steps: S in total, at most P in one of the N tasks.

    The steps of a task are ordered by environment, then by time. Packed tensors have one
    environment with P steps, [N, 1, P, ...], and are padded to the task with the most steps.
    """

    mask: Tensor  # [N, 1, P] bool, true for valid steps
    tasks: Tensor  # [S] int64, task of each valid step
    sources: Tensor  # [S] int64, index in the axes [E, T] of its task
    targets: Tensor  # [S] int64, index in the axis [P] of its task
    padded_shape: tuple[int, int]  # (E, T)

    def gather(self, values: Tensor) -> Tensor:
        """Pack values [N, E, T, ...]; padding repeats the task's first step."""
        flat = values.flatten(1, 2)
        first = self.sources[self.targets == 0].unsqueeze(1)  # every task has a step
        index = first.repeat(1, self.mask.shape[2])
        index[self.tasks, self.targets] = self.sources
        rows = torch.arange(len(flat), device=flat.device).unsqueeze(1)
        return flat[rows, index].unsqueeze(1)

    def scatter(self, packed: Tensor) -> Tensor:
        """Values [N, E, T, ...] from packed ones; 0 for steps that are not valid."""
        envs, steps = self.padded_shape
        flat = packed.new_zeros(len(packed), envs * steps, *packed.shape[3:])
        flat[self.tasks, self.sources] = packed[self.tasks, 0, self.targets]
        return flat.view(len(packed), envs, steps, *packed.shape[3:])


def step_packing(mask: Tensor) -> StepPacking | None:
    """The packing of the steps where a mask is true; None if little or nothing is padding.

    Args:
        mask: bool [N, E, T]; every task has a valid step.
    """
    flat = mask.flatten(1)
    counts = flat.sum(1)
    most = int(counts.max())
    if most > MAX_PACKED_FRACTION * flat.shape[1] or not bool(counts.all()):
        return None
    tasks, sources = flat.nonzero(as_tuple=True)
    before = counts.cumsum(0) - counts
    targets = torch.arange(len(tasks), device=mask.device) - before[tasks]
    times = torch.arange(most, device=mask.device)
    return StepPacking(
        (times < counts.unsqueeze(1)).unsqueeze(1), tasks, sources, targets,
        (mask.shape[1], mask.shape[2]),
    )  # fmt: skip
