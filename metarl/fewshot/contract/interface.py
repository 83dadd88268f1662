"""The interface of all few-shot learners, and functions that batch tasks for it.

A learner consists of settings and a net, without state: parameters go in and come out.
`FewShotTraining` keeps the state (parameters, optimizer, counters).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from metarl.fewshot.contract.problem import Problem
from metarl.fewshot.contract.settings import FewShotSettings
from metarl.fewshot.data.batches import FewShotBatch, LabeledSet, ProtocolFacts, some_tasks
from metarl.nn.batch_norm import BatchNorm
from metarl.parameters import Params

__all__ = [
    "Adapted",
    "FewShotLearner",
    "Parts",
    "TrainingContext",
    "autograd_meta_gradient",
    "by_chunks",
    "joined",
    "norm_facts",
    "parts_of",
]

Adapted: TypeAlias = Any  # a pytree of tensors; each learner has its own type
Parts: TypeAlias = tuple[Tensor, ...]  # inputs, targets and, if there is one, the mask


class TrainingContext(NamedTuple):
    """The training iteration of a meta-gradient, and its random generator."""

    iteration: int
    """Number of previous training iterations."""
    generator: torch.Generator
    """A random generator on the device of the parameters."""


class FewShotLearner(Protocol):
    """A learner that adapts to all tasks of a batch at once."""

    config_type: ClassVar[type[Any]]
    has_steps: ClassVar[bool]
    """Whether adaptation consists of steps, which `trajectory` follows."""

    @property
    def config(self) -> FewShotSettings:
        """The settings."""

    @property
    def problem(self) -> Problem:
        """The inputs and outputs that the learner was built for."""

    def init(self, generator: torch.Generator) -> Params:
        """Fresh meta-parameters on the generator's device."""

    def meta_loss(self, params: Params, batch: FewShotBatch) -> Tensor:
        """Query loss after adaptation, [tasks], differentiable with respect to `params`."""

    def meta_gradient(
        self, params: Params, batch: FewShotBatch, context: TrainingContext
    ) -> tuple[Tensor, Params]:
        """Losses of all tasks [tasks] and the direction that the outer optimizer descends.

        That is the gradient of the mean of `meta_loss`, unless a learner's paper defines another
        direction (first order, Reptile, implicit gradients).
        """

    def adapt(self, params: Params, support: LabeledSet) -> Adapted:
        """The state of each task after adaptation to its support set."""

    def trajectory(self, params: Params, support: LabeledSet, num_steps: int) -> Iterator[Adapted]:
        """States after 0 … num_steps steps; a single one if adaptation has no steps."""

    def predict(self, adapted: Adapted, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits [tasks, points, ways] or predictions [tasks, points, D].

        Args:
            adapted: the result of `adapt`.
            inputs: [tasks, points, *input_shape].
            mask: bool [tasks, points], which points count (for batch norm).
        """

    def statistics(self, params: Params, batch: FewShotBatch) -> Params:
        """Batch-norm statistics of a batch, to be averaged over batches for evaluation; or {}."""

    def facts(self) -> ProtocolFacts:
        """Facts about the learner that affect the scores: adaptation, batch norm, transduction."""


def parts_of(points: LabeledSet) -> Parts:
    """A labeled set as a tuple of tensors only, as `vmap` needs it."""
    if points.mask is None:
        return points.inputs, points.targets
    return points.inputs, points.targets, points.mask


def joined(
    support: LabeledSet, inputs: Tensor, mask: Tensor | None, norm: BatchNorm
) -> tuple[Tensor, Tensor | None]:
    """Concatenate support and query inputs, and mark the points that enter statistics.

    Args:
        support: [tasks, shots, ...].
        inputs: query inputs, [tasks, queries, ...].
        mask: which query points count, or None.
        norm: with "support", query points do not enter statistics.

    Returns:
        [tasks, shots + queries, ...], and bool [tasks, shots + queries], or None if all count.
    """
    both = torch.cat([support.inputs, inputs], 1)
    if norm != "support" and mask is None and support.mask is None:
        return both, None
    first = torch.ones_like(both[:, : support.inputs.shape[1]].flatten(2)[..., 0], dtype=torch.bool)
    last = torch.ones_like(inputs.flatten(2)[..., 0], dtype=torch.bool)
    first = first if support.mask is None else support.mask
    if norm == "support":
        return both, torch.cat([first, torch.zeros_like(last)], 1)
    return both, torch.cat([first, last if mask is None else mask], 1)


def autograd_meta_gradient(
    meta_loss: Callable[[Params, FewShotBatch], Tensor],
    params: Params,
    batch: FewShotBatch,
    chunk_size: int | None = None,
) -> tuple[Tensor, Params]:
    """Losses [tasks] and the gradient of their mean, by autograd of the whole meta-loss."""
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}

    def gradient(part: FewShotBatch) -> tuple[Tensor, Params]:
        with torch.enable_grad():
            losses = meta_loss(leaves, part)
            grads = torch.autograd.grad(
                losses.mean(), list(leaves.values()), allow_unused=True, materialize_grads=True
            )
        return losses.detach(), dict(zip(leaves, grads, strict=True))

    return by_chunks(gradient, batch, chunk_size)


def by_chunks(
    gradient: Callable[[FewShotBatch], tuple[Tensor, Params]],
    batch: FewShotBatch,
    chunk_size: int | None,
) -> tuple[Tensor, Params]:
    """Losses [tasks] and the gradient of their mean, computed for `chunk_size` tasks at a time."""
    num_tasks = len(batch.query.inputs)
    if chunk_size is None or chunk_size >= num_tasks:
        return gradient(batch)
    losses, total = [], dict[str, Tensor]()
    for start in range(0, num_tasks, chunk_size):
        found, grads = gradient(some_tasks(batch, slice(start, start + chunk_size)))
        losses.append(found)
        share = len(found) / num_tasks
        total = {name: share * g + total.get(name, 0) for name, g in grads.items()}
    return torch.cat(losses), total


def norm_facts(config: FewShotSettings, *, passes: Literal["apart", "together"]) -> ProtocolFacts:
    """Describe the batch norm of a learner in words.

    Args:
        config: the learner's settings.
        passes: whether support and query pass through the net separately or together.
    """
    if config.backbone == "mlp":
        return {"batch_norm": "none", "transductive": False}
    own = "of support and query together" if passes == "together" else "of each set by itself"
    meanings = {
        "batch": f"batch: statistics {own}",
        "support": "support: statistics of the support set",
        "running": f"running: averages over training batches; in training statistics {own}",
        "per-step": f"per-step: statistics {own}, scale and offset of each inner step",
    }
    transductive = config.batch_norm in ("batch", "per-step")
    return {"batch_norm": meanings[config.batch_norm], "transductive": transductive}
