"""Benchmark cases of few-shot meta-steps: ours, and other implementations of the same algorithm.

All run second-order MAML on the same episodes with the same net and outer optimizer. The others
process tasks one after another, as in their own examples; they also adapt batch norm's scale and
offset, whose cost is negligible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from metarl.fewshot.data.batches import EpisodeShape, FewShotBatch, LabeledSet
from metarl.fewshot.datasets.catalog import make_tasks
from metarl.fewshot.learners.catalog import recipe
from metarl.fewshot.learners.maml import MAMLConfig
from metarl.fewshot.training import FewShotTraining
from metarl.scripts.benchmark.case import Case
from metarl.seeding import torch_generator

__all__ = ["FEWSHOT_CASES", "Peer", "looped_task_loss", "one_by_one"]

TaskLoss = Callable[[LabeledSet, LabeledSet], Tensor]
DatasetName = Literal["sinusoid", "glyphs"]
_META_LR = 1e-3
_FILTERS = 64


def meta_steps(
    dataset: DatasetName,
    num_steps: int,
    *,
    num_tasks: int | None = None,
    num_inner_steps: int = 1,
    differentiation: Literal["unrolled", "recurrence"] = "unrolled",
    compile: bool = False,
) -> Callable[[], None]:
    """Our meta-steps."""
    settings: dict[str, Any] = {
        "num_inner_steps": num_inner_steps,
        "differentiation": differentiation,
    }
    if num_tasks is not None:
        settings["meta_batch_size"] = num_tasks
    config = recipe("maml", dataset, **settings)
    training = FewShotTraining("maml", make_tasks(dataset), config, compile=compile)

    def run() -> None:
        for _ in range(num_steps):
            training.iterate()

    return run


def looped_meta_steps(dataset: DatasetName, num_steps: int) -> Callable[[], None]:
    """Meta-steps by plain autograd, task by task."""
    peer = Peer(dataset)
    return peer.repeated(looped_task_loss(peer), num_steps)


def looped_task_loss(peer: Peer) -> TaskLoss:
    """Query loss of one task after a step on its support, by plain autograd."""
    net = peer.net
    params: dict[str, Tensor] = dict(net.named_parameters())

    def task_loss(support: LabeledSet, query: LabeledSet) -> Tensor:
        loss = peer.loss(torch.func.functional_call(net, params, support.inputs), support)
        grads = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        adapted = {
            name: p - peer.inner_lr * g for (name, p), g in zip(params.items(), grads, strict=True)
        }
        return peer.loss(torch.func.functional_call(net, adapted, query.inputs), query)

    return task_loss


def higher_meta_steps(dataset: DatasetName, num_steps: int) -> Callable[[], None]:
    """Meta-steps with `higher`."""
    import higher

    peer = Peer(dataset)
    inner = torch.optim.SGD(peer.net.parameters(), lr=peer.inner_lr)

    def task_loss(support: LabeledSet, query: LabeledSet) -> Tensor:
        with higher.innerloop_ctx(peer.net, inner, copy_initial_weights=False) as (net, optimizer):
            optimizer.step(peer.loss(net(support.inputs), support))
            return peer.loss(net(query.inputs), query)

    return peer.repeated(task_loss, num_steps)


def torchopt_meta_steps(dataset: DatasetName, num_steps: int) -> Callable[[], None]:
    """Meta-steps with TorchOpt."""
    import torchopt

    peer = Peer(dataset)
    inner = torchopt.MetaSGD(peer.net, lr=peer.inner_lr)
    start = torchopt.extract_state_dict(peer.net, by="reference")
    start_optimizer = torchopt.extract_state_dict(inner, by="reference")

    def task_loss(support: LabeledSet, query: LabeledSet) -> Tensor:
        inner.step(peer.loss(peer.net(support.inputs), support))
        loss = peer.loss(peer.net(query.inputs), query)
        torchopt.recover_state_dict(peer.net, start)
        torchopt.recover_state_dict(inner, start_optimizer)
        return loss

    return peer.repeated(task_loss, num_steps)


class Peer:
    """A net, its outer optimizer and the episodes of our recipe, used task by task."""

    def __init__(self, dataset: DatasetName) -> None:
        config = recipe("maml", dataset)
        assert isinstance(config, MAMLConfig)
        self.inner_lr = config.inner_lr
        self._tasks, self._num_tasks = make_tasks(dataset), config.meta_batch_size
        self._is_regression = dataset == "sinusoid"
        ways = 1 if self._is_regression else config.ways
        self._shape = EpisodeShape(ways, config.shots, config.queries or config.shots)
        torch.manual_seed(0)
        self.net = _perceptron() if self._is_regression else _conv_net(ways)
        self._optimizer = torch.optim.Adam(self.net.parameters(), lr=_META_LR)
        self._generator = torch_generator(0, "benchmark")

    def loss(self, outputs: Tensor, points: LabeledSet) -> Tensor:
        """Mean loss over the points of one task."""
        if self._is_regression:
            return functional.mse_loss(outputs, points.targets)
        return functional.cross_entropy(outputs, points.targets)

    def repeated(self, task_loss: TaskLoss, num_steps: int) -> Callable[[], None]:
        """The function to time: meta-steps with a loss function of one task."""

        def run() -> None:
            for _ in range(num_steps):
                batch = self._tasks.sample(
                    self._num_tasks, self._shape, split="train", generator=self._generator
                )
                self._optimizer.zero_grad()
                for support, query in one_by_one(batch):
                    (task_loss(support, query) / self._num_tasks).backward()
                self._optimizer.step()

        return run


def one_by_one(batch: FewShotBatch) -> Iterator[tuple[LabeledSet, LabeledSet]]:
    """Support and query of each task, without a task axis."""
    support, query = batch
    for task in range(len(support.inputs)):
        yield (
            LabeledSet(support.inputs[task], support.targets[task]),
            LabeledSet(query.inputs[task], query.targets[task]),
        )


def _perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1)
    )


class _SpatialMean(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((-2, -1))


def _conv_net(ways: int) -> nn.Module:
    """Four blocks of stride-2 convolutions, as in MAML's net for characters."""
    blocks: list[nn.Module] = []
    for channels in (1, _FILTERS, _FILTERS, _FILTERS):
        blocks += [
            nn.Conv2d(channels, _FILTERS, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(_FILTERS, track_running_stats=False),
            nn.ReLU(),
        ]
    return nn.Sequential(*blocks, _SpatialMean(), nn.Linear(_FILTERS, ways))


def _amount(options: dict[str, Any]) -> float:
    return float(options["num_steps"])


FEWSHOT_CASES: dict[str, Case] = {
    "meta steps": Case(meta_steps, _amount),
    "looped meta steps": Case(looped_meta_steps, _amount),
    "higher meta steps": Case(higher_meta_steps, _amount),
    "torchopt meta steps": Case(torchopt_meta_steps, _amount),
}
