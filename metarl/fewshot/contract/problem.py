"""The description of a few-shot problem, and the losses and accuracies of outputs."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

__all__ = ["Problem", "accuracies", "mean_over_points", "point_losses", "task_losses"]

Kind = Literal["classification", "regression"]


class Problem(NamedTuple):
    """Inputs and outputs of a few-shot problem."""

    kind: Kind
    input_shape: tuple[int, ...]
    num_outputs: int
    """Classes of an episode, or numbers to predict."""
    num_train_classes: int = 0
    """Classes of the training split; 0 if they cannot be counted."""


def point_losses(kind: Kind, outputs: Tensor, targets: Tensor) -> Tensor:
    """Loss of each point, of one task or with leading axes.

        classification  −log softmax(outputs)[target]
        regression      mean over D of (output − target)²

    Args:
        kind: kind of problem.
        outputs: [..., points, ways] logits, or [..., points, D].
        targets: int64 [..., points], or [..., points, D].

    Returns:
        Shape [..., points].
    """
    if kind == "regression":
        return (outputs - targets).square().mean(-1)
    return -outputs.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def task_losses(kind: Kind, outputs: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean loss over the points that count: a scalar of one task, [tasks] of all.

    The mean is over ways × shots points. MAML's code sums over the ways and divides by the shots,
    so its learning rates are smaller by the number of ways for the same step.
    """
    return mean_over_points(point_losses(kind, outputs, targets), mask)


def mean_over_points(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over the last axis of the values that count, [..., points] to [...]."""
    if mask is None:
        return values.mean(-1)
    counts = mask.to(values.dtype)
    return (values * counts).sum(-1) / counts.sum(-1).clamp_min(1)


def accuracies(outputs: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """Share of points whose largest logit is the target's, [..., points, ways] to [...].

    A point with a NaN logit counts as wrong.
    """
    right = (outputs.argmax(-1) == targets) & ~outputs.isnan().any(-1)
    return mean_over_points(right.to(outputs.dtype), mask)
