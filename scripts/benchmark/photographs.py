"""Benchmark cases of MAML on photographs: ours, and a plain loop with channels-last convolutions.

Both compute meta-gradients of the recipe for mini-ImageNet on the same random images. The loop is
the fastest program that a user would write with torch alone: task by task, with torch's fused batch
norm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from metarl.fewshot.contract.interface import TrainingContext
from metarl.fewshot.contract.problem import Problem
from metarl.fewshot.data.batches import FewShotBatch, LabeledSet
from metarl.fewshot.learners.catalog import LEARNERS, recipe
from metarl.parameters import Params
from metarl.scripts.benchmark.case import Case
from metarl.seeding import torch_generator

__all__ = ["PHOTOGRAPH_CASES", "Photographs"]

LearnerName = Literal["maml", "fomaml"]
_SHAPE = (3, 84, 84)
_NORM = ("scale", "offset")


class Photographs:
    """A learner with its initial parameters, and a batch of random tasks."""

    def __init__(
        self, name: LearnerName, num_tasks: int, shape: tuple[int, int, int] = _SHAPE
    ) -> None:
        config: Any = recipe(name, "mini-imagenet")
        self._generator = torch_generator(0, "benchmark")
        self._config, self._is_exact = config, name == "maml"
        problem = Problem("classification", shape, config.ways)
        self._learner = LEARNERS.load(name)(config, problem)
        self.params: Params = self._learner.init(self._generator)

        def points(count: int) -> LabeledSet:
            size = (num_tasks, config.ways * count, *shape)
            labels = torch.arange(config.ways).repeat_interleave(count)
            images = torch.randn(size, generator=self._generator)
            return LabeledSet(images, labels.expand(num_tasks, -1))

        self.batch = FewShotBatch(points(config.shots), points(config.queries))

    def ours(self) -> Params:
        """Our meta-gradient."""
        context = TrainingContext(0, self._generator)
        grads: Params = self._learner.meta_gradient(self.params, self.batch, context)[1]
        return grads

    def looped(self) -> Params:
        """The same by plain autograd, task by task."""
        leaves = {name: p.clone().requires_grad_() for name, p in self.params.items()}
        num_tasks = len(self.batch.support.inputs)
        for task in range(num_tasks):
            (support, targets), (query, wanted) = (
                (part.inputs[task], part.targets[task]) for part in self.batch
            )
            net = {name: _channels_last(p) for name, p in leaves.items()}
            moved = [name for name in net if not name.startswith(_NORM)]
            for _ in range(self._config.num_inner_steps):
                loss = functional.cross_entropy(_logits(net, support), targets)
                inner = [net[name] for name in moved]
                grads = torch.autograd.grad(loss, inner, create_graph=self._is_exact)
                steps = zip(moved, grads, strict=True)
                net |= {name: net[name] - self._config.inner_lr * grad for name, grad in steps}
            outer = functional.cross_entropy(_logits(net, query), wanted) / num_tasks
            outer.backward()
        return {name: p.grad for name, p in leaves.items() if p.grad is not None}


def _channels_last(p: Tensor) -> Tensor:
    return p.contiguous(memory_format=torch.channels_last) if p.dim() == 4 else p


def _logits(net: Params, images: Tensor) -> Tensor:
    """Four blocks of convolution, batch norm, ReLU and max-pooling, and a linear head."""
    maps = _channels_last(images)
    for k in range(4):
        maps = functional.conv2d(maps, net[f"weight_{k}"], padding=1)
        scale, offset = net[f"scale_{k}"][0], net[f"offset_{k}"][0]
        maps = functional.batch_norm(maps, None, None, scale, offset, training=True)
        maps = functional.max_pool2d(torch.relu(maps), 2)
    return functional.linear(maps.flatten(1), net["head_weight"], net["head_bias"])


def _ours(learner: LearnerName, num_tasks: int) -> Callable[[], None]:
    photographs = Photographs(learner, num_tasks)

    def run() -> None:
        photographs.ours()

    return run


def _looped(learner: LearnerName, num_tasks: int) -> Callable[[], None]:
    photographs = Photographs(learner, num_tasks)

    def run() -> None:
        photographs.looped()

    return run


PHOTOGRAPH_CASES: dict[str, Case] = {
    "photograph meta-gradient": Case(_ours, 1),
    "looped photograph meta-gradient": Case(_looped, 1),
}
