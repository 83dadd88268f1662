"""A perceptron problem for the bilevel core, and the reference: a plain loop over tasks."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from metarl.bilevel.inner_loop import Batch, Loss
from metarl.bilevel.rules import InnerRule, sgd
from metarl.nn.mlp import init_mlp, mlp
from metarl.parameters import Params

NUM_TASKS = 3
MODES = ("unrolled", "recurrence", "first_order")
BATCHINGS = ("vmap", "explicit")
STEP = sgd(0.1)

modes = pytest.mark.parametrize("mode", MODES)
batchings = pytest.mark.parametrize("batching", BATCHINGS)
one_and_three_steps = pytest.mark.parametrize("num_steps", [1, 3])
whole_and_chunked = pytest.mark.parametrize("chunk_size", [None, 2])


# The reference: one task after another, ordinary autograd, no `vmap`.


def task_of(batch: Batch, task: int | slice) -> Batch:
    return pytree.tree_map(lambda leaf: leaf[task], batch)


def loop(
    params: Params,
    supports: list[Batch],
    query: Batch,
    loss: Loss,
    *,
    rule: InnerRule = STEP,
    first_order: bool = False,
) -> tuple[Params, Tensor, Params]:
    """Adapted parameters and query loss of each task, and the gradient of the mean query loss."""
    leaves = {name: p.detach().clone().requires_grad_() for name, p in params.items()}
    adapted, losses = [], []
    for task in range(NUM_TASKS):
        current = leaves
        for batch in supports:
            grads = torch.autograd.grad(
                loss(current, task_of(batch, task)),
                list(current.values()),
                create_graph=True,
                materialize_grads=True,
            )
            if first_order:
                grads = tuple(grad.detach() for grad in grads)
            current = rule(current, dict(zip(current, grads, strict=True)))
        adapted.append({name: p.detach() for name, p in current.items()})
        losses.append(loss(current, task_of(query, task)))
    flat = torch.autograd.grad(
        torch.stack(losses).mean(), list(leaves.values()), materialize_grads=True
    )
    stacked = {name: torch.stack([task[name] for task in adapted]) for name in params}
    return stacked, torch.stack(losses).detach(), dict(zip(params, flat, strict=True))


def assert_equal_to(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


def relative_distance(one: Params, other: Params) -> float:
    differences = torch.cat([(one[name] - other[name]).flatten() for name in one])
    return float(differences.norm() / torch.cat([p.flatten() for p in one.values()]).norm())


# A perceptron whose loss handles one task, or all tasks along an explicit axis.


def mlp_loss(params: Params, batch: Batch) -> Tensor:
    return (mlp(params, batch[0], torch.tanh) - batch[1]).square().mean((-2, -1))


def mlp_problem(num_batches: int = 2, device: str = "cpu") -> tuple[Params, list[Batch]]:
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(device)

    params = {name: normal(*p.shape) for name, p in init_mlp((2, 5, 1), generator).items()}
    batches = [(normal(NUM_TASKS, 4, 2), normal(NUM_TASKS, 4, 1)) for _ in range(num_batches)]
    return params, batches
