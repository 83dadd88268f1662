"""Small random episodes in float64, and learners to try on them."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from metarl.fewshot.contract.interface import FewShotLearner, TrainingContext
from metarl.fewshot.contract.problem import Problem
from metarl.fewshot.data.batches import FewShotBatch, LabeledSet
from metarl.fewshot.learners.catalog import LEARNERS
from metarl.parameters import Params

WAYS = 3
IMAGES = Problem("classification", (1, 16, 16), WAYS, 4)
VECTORS = Problem("classification", (5,), WAYS, 4)
CURVES = Problem("regression", (1,), 1)

_TINY: dict[str, Any] = {"ways": WAYS, "hidden_sizes": (6,), "activation": "tanh"}
_TINY_CONV: dict[str, Any] = {
    "ways": WAYS, "backbone": "conv", "filters": (5, 3), "pooling": "max",
}  # fmt: skip


def make_learner(name: str, problem: Problem, **settings: Any) -> FewShotLearner:
    """A learner of few parameters."""
    net = _TINY_CONV if len(problem.input_shape) == 3 else _TINY
    learner_type: Any = LEARNERS.load(name)
    names = {field.name for field in dataclasses.fields(learner_type.config_type)}
    rate = {"inner_lr": 0.3} if "inner_lr" in names and name not in ("reptile", "imaml") else {}
    config = learner_type.config_type(**{**net, **rate, **settings})
    learner: FewShotLearner = learner_type(config, problem)
    return learner


def start(learner: FewShotLearner, seed: int = 0) -> Params:
    """Initial parameters in float64, all moved off their special values (zeros, ones)."""
    random = generator(seed)
    params = learner.init(generator(seed))
    return {
        name: p.double() + 0.1 * torch.randn(p.shape, generator=random, dtype=torch.float64)
        for name, p in params.items()
    }


def episodes(
    problem: Problem, *, tasks: int = 3, shots: int = 2, queries: int = 2, seed: int = 0
) -> FewShotBatch:
    """Random points, ordered by class; the classes of a task differ in their mean."""
    random = generator(seed)
    is_regression = problem.kind == "regression"
    ways = 1 if is_regression else problem.num_outputs
    shape = (tasks, ways, 1, *problem.input_shape)
    means = torch.randn(shape, generator=random, dtype=torch.float64)

    def draw(count: int) -> LabeledSet:
        size = (tasks, ways, count, *problem.input_shape)
        noise = torch.randn(size, generator=random, dtype=torch.float64)
        inputs = (means + noise).flatten(1, 2)
        if is_regression:
            return LabeledSet(inputs, torch.sin(2 * inputs) + means.flatten(1, 2))
        return LabeledSet(inputs, torch.arange(ways).repeat_interleave(count).expand(tasks, -1))

    return FewShotBatch(draw(shots), draw(queries))


def task_of(batch: FewShotBatch, row: int) -> FewShotBatch:
    """One task as a batch of one."""
    rows = slice(row, row + 1)
    return FewShotBatch(
        *(
            LabeledSet(*(None if leaf is None else leaf[rows] for leaf in part))  # type: ignore[arg-type]
            for part in batch
        )
    )


def context(iteration: int = 0) -> TrainingContext:
    """The context of a training iteration."""
    return TrainingContext(iteration, generator(iteration))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)
