"""Settings that all few-shot learners share: episodes, optimizer, net."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal

from annotated_types import Ge

from metarl.fewshot.contract.problem import Problem
from metarl.fewshot.data.batches import EpisodeRanges, EpisodeShape
from metarl.nn.backbones import Backbone, Perceptron
from metarl.nn.batch_norm import BatchNorm
from metarl.nn.conv_net import ConvNet, Pooling
from metarl.nn.mlp import Activation
from metarl.optim.schedules import OptimizerName, ScheduleName
from metarl.validation import (
    Count,
    Positive,
    Settings,
)

__all__ = [
    "FewShotSettings",
    "TrainSplit",
    "require_classes",
    "require_supported",
    "require_one_head",
    "require_settings_of",
    "require_used",
    "require_shared_norm",
]

TrainSplit = Literal["train", "train+validation"]


@dataclass(frozen=True)
class FewShotSettings(Settings):
    """Settings of all learners; the defaults suit sinusoid regression."""

    ways: Count = 5
    """Number of classes per task; regression has one."""
    shots: Count = 10
    """Support points per class."""
    queries: Count | None = None
    """Query points per class; None: as many as shots."""
    train_ways: Count | None = None
    """Classes of a training episode; None: as many as in test episodes."""
    train_shots: Count | None = None
    """Support points per class in training; None: as many as in test episodes."""
    min_ways: Annotated[int, Ge(2)] | None = None
    """If set, the number of classes is sampled for each training task, from this to the number of a
    training episode; None: the number is fixed. A head has one output for each class of the largest
    episode."""
    min_shots: Count | None = None
    """If set, the number of support points per class is sampled for each training task, from this
    to the number in training; None: the number is fixed."""
    train_split: TrainSplit = "train"
    """Classes to train on; with train+validation ("trainval" in papers), the best checkpoint is
    selected on training classes."""
    meta_batch_size: Count = 25
    """Tasks per iteration."""
    meta_lr: Positive = 1e-3
    """Learning rate of the outer optimizer."""
    optimizer: OptimizerName = "adam"
    """The outer optimizer."""
    schedule: ScheduleName = "constant"
    """Schedule of meta_lr: constant; linear decay to 0; cosine decay to a hundredth; or halving
    every decay_iterations."""
    decay_iterations: Count | None = None
    """Length of the schedule in iterations (halving: iterations between halvings). None: all
    iterations of a run."""
    clip_gradient: Positive | None = None
    """Bound on the absolute value of each entry of the meta-gradient; None: no bound."""
    backbone: Literal["mlp", "conv"] = "mlp"
    """The net: a multilayer perceptron, or convolutional blocks for images."""
    hidden_sizes: tuple[Count, ...] = (40, 40)
    """Sizes of the perceptron's hidden layers."""
    activation: Activation = "relu"
    """Activation of the perceptron's hidden layers."""
    filters: tuple[Count, ...] = (64, 64, 64, 64)
    """Filters of each convolutional block."""
    pooling: Pooling = "max"
    """Down-sampling of the blocks: max-pooling, or convolutions of stride 2."""
    batch_norm: BatchNorm = "batch"
    """Batch-norm statistics: of the batch (transductive), of the support set, running (averages
    over training batches, estimated for each evaluation), or per-step (of the batch, with a scale
    and an offset for each inner step)."""
    chunk_size: Count | None = None
    """Maximum number of tasks processed at once, to save memory; None: all."""

    def check_consistency(self) -> None:
        """Reject settings that contradict one another."""
        if not self.filters:
            raise ValueError("filters must name at least one block, got ()")
        if self.backbone == "mlp" and self.batch_norm == "per-step":
            raise ValueError(
                "batch_norm must be batch with backbone mlp, which has no batch norm to learn for "
                "each inner step, got 'per-step'"
            )

    @property
    def unused(self) -> tuple[str, ...]:
        """Names of the settings that do not apply to the chosen net."""
        if self.backbone == "mlp":
            return ("filters", "pooling", "batch_norm")
        return ("hidden_sizes", "activation")

    def test_shape(self, problem: Problem) -> EpisodeShape:
        """Size of test episodes."""
        ways = self.ways if problem.kind == "classification" else 1
        return EpisodeShape(ways, self.shots, self.queries or self.shots)

    def train_shape(self, problem: Problem) -> EpisodeShape:
        """Size of training episodes, or of the largest if it varies."""
        shape = self.test_shape(problem)
        ways = self.train_ways or shape.ways
        return replace(shape, ways=ways, shots=self.train_shots or shape.shots)

    def train_episodes(self, problem: Problem) -> EpisodeShape | EpisodeRanges:
        """Sizes of training episodes: all equal, or with varying ways and shots.

        Raises:
            ValueError: if the minimum is above the maximum, or the number cannot vary.
        """
        shape = self.train_shape(problem)
        if self.min_ways is None and self.min_shots is None:
            return shape
        if self.min_ways is not None and problem.kind == "regression":
            raise ValueError(
                f"min_ways must be left out for regression, which has no classes, "
                f"got {self.min_ways}"
            )
        ranges = []
        for name, most in (("ways", shape.ways), ("shots", shape.shots)):
            fewest = getattr(self, f"min_{name}") or most
            if fewest > most:
                raise ValueError(
                    f"min_{name} must be {most} or less, the {name} of training, got {fewest}"
                )
            ranges.append((fewest, most))
        return EpisodeRanges(ranges[0], ranges[1], shape.queries)

    def make_backbone(
        self,
        problem: Problem,
        num_outputs: int,
        *,
        num_slots: int = 1,
        num_context: int = 0,
        num_pooled: int | None = None,
        is_first_order: bool = False,
    ) -> Backbone:
        """The net for a problem.

        Args:
            problem: provides the input shape.
            num_outputs: outputs of the head; 0: no head.
            num_slots: number of scales and offsets of batch norm, one for each inner step.
            num_context: length of the context that modulates the net.
            num_pooled: number of leading blocks that down-sample; None: all.
            is_first_order: whether only first derivatives are taken, which affects speed only.

        Raises:
            ValueError: if the backbone is convolutional and the inputs are not images.
        """
        if self.backbone == "mlp":
            shape = problem.input_shape
            return Perceptron(
                shape, num_outputs, self.hidden_sizes, self.activation, num_context=num_context
            )
        if len(problem.input_shape) != 3:
            raise ValueError(
                f"backbone conv needs images (channels, height, width), got inputs of shape "
                f"{problem.input_shape}; use mlp"
            )
        channels, height, width = problem.input_shape
        return ConvNet(
            (channels, height, width),
            num_outputs,
            self.filters,
            self.pooling,
            num_slots=num_slots,
            num_context=num_context,
            num_pooled=num_pooled,
            is_first_order=is_first_order,
        )


def require_used(config: FewShotSettings, given: Collection[str]) -> None:
    """Reject given settings that have no effect on the chosen net.

    Settings at their defaults pass, and so do settings that a recipe made for another net.

    Args:
        config: settings of a learner.
        given: names of the settings that the user gave.

    Raises:
        ValueError: naming the first such setting.
    """
    defaults = {each.name: each.default for each in fields(config)}
    for name in config.unused:
        if name in given and getattr(config, name) != defaults[name]:
            raise ValueError(
                f"{name} must be left out with backbone {config.backbone}, which does not "
                f"use it, got {getattr(config, name)!r}"
            )


def require_one_head(config: FewShotSettings) -> None:
    """Reject training episodes with more ways than a head has outputs.

    Raises:
        ValueError: if the ways of training and test differ.
    """
    if config.train_ways not in (None, config.ways):
        raise ValueError(
            f"train_ways must equal ways ({config.ways}): the head has one output per class, "
            f"got {config.train_ways}"
        )


def require_classes(learner: str, problem: Problem) -> None:
    """Reject regression.

    Raises:
        ValueError: naming learners that support it.
    """
    if problem.kind != "classification":
        raise ValueError(
            f"learner {learner} needs a classification data set, got regression; "
            "use maml, reptile, cavia or imaml"
        )


def require_supported(name: str, learner_type: type[Any], problem: Problem) -> None:
    """Reject regression for a learner that declares `needs_classes`; see `require_classes`."""
    if getattr(learner_type, "needs_classes", False):
        require_classes(name, problem)


def require_settings_of(name: str, learner_type: type[Any], config: object) -> None:
    """Reject settings of another type than the learner's, also of a subclass.

    The name decides the algorithm, and a subclass could describe another one, which would be stored
    under this name.

    Raises:
        TypeError: naming both types.
    """
    if type(config) is not learner_type.config_type:
        raise TypeError(
            f"config must be a {learner_type.config_type.__name__} for {name}, "
            f"got a {type(config).__name__}"
        )


def require_shared_norm(config: FewShotSettings) -> None:
    """Reject batch norm per step for a learner that adapts scale and offset, or shares them.

    Raises:
        ValueError: naming the supported kinds.
    """
    if config.batch_norm == "per-step":
        raise ValueError(
            "batch_norm must be batch, support or running for this learner: only maml and its "
            "variants have a scale and an offset for each inner step, got 'per-step'"
        )
