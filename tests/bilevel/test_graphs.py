"""Single inner steps, graphs, second derivatives and memory of the bilevel core."""

import gc
import weakref
from typing import Any

import pytest
import torch
from bilevel_problems import (
    BATCHINGS,
    MODES,
    NUM_TASKS,
    STEP,
    assert_equal_to,
    batchings,
    loop,
    mlp_loss,
    mlp_problem,
    modes,
)
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from metarl.bilevel.adaptation import adapt
from metarl.bilevel.inner_loop import InnerLoop, PerStep
from metarl.bilevel.meta_gradients import meta_gradient
from metarl.bilevel.steps import inner_step


def test_an_explicit_unrolled_loop_can_be_differentiated_twice():
    params, (support, query) = mlp_problem()
    inner = InnerLoop(mlp_loss, STEP, 2, "unrolled", "explicit")

    def total(*values: Tensor) -> Tensor:
        return mlp_loss(adapt(dict(zip(params, values, strict=True)), support, inner), query).sum()

    assert torch.autograd.gradgradcheck(
        total, tuple(p.clone().requires_grad_() for p in params.values())
    )


@pytest.mark.parametrize(
    ("mode", "batching"),
    [(m, b) for m in MODES for b in BATCHINGS if b == "vmap" or m == "recurrence"],
)
def test_all_other_loops_reject_a_second_derivative(mode, batching):
    params, (support, query) = mlp_problem()
    leaves = {name: p.requires_grad_() for name, p in params.items()}
    adapted = adapt(leaves, support, InnerLoop(mlp_loss, STEP, 1, mode, batching))
    loss = torch.func.vmap(mlp_loss)(adapted, query).mean()
    grads = torch.autograd.grad(loss, list(leaves.values()), create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        torch.stack([grad.square().sum() for grad in grads]).sum().backward()


# One step, graphs, memory.


@batchings
@modes
def test_an_inner_step_is_one_step_of_adapt(batching, mode):
    params, (first, second) = mlp_problem()
    inner = InnerLoop(mlp_loss, STEP, 2, mode, batching)
    start = {
        name: p.expand(NUM_TASKS, *p.shape).clone().requires_grad_() for name, p in params.items()
    }
    middle = inner_step(start, first, inner)
    end = inner_step(middle, second, inner)
    assert_equal_to(middle, loop(params, [first], second, mlp_loss)[0])
    assert_equal_to(end, adapt(params, PerStep([first, second]), inner))
    assert not any(p.requires_grad for p in (*middle.values(), *end.values()))


@batchings
@modes
@pytest.mark.parametrize("num_steps", [0, 2])
def test_the_result_has_a_graph_only_if_parameters_require_gradients(batching, mode, num_steps):
    params, (support, _) = mlp_problem()
    inner = InnerLoop(mlp_loss, STEP, num_steps, mode, batching)
    assert not any(p.requires_grad for p in adapt(params, support, inner).values())
    leaves = {name: p.requires_grad_() for name, p in params.items()}
    assert all(p.requires_grad for p in adapt(leaves, support, inner).values())


@batchings
@modes
@pytest.mark.parametrize("num_steps", [0, 2])
def test_the_result_has_no_graph_under_no_grad(batching, mode, num_steps):
    params, (support, _) = mlp_problem()
    leaves = {name: p.requires_grad_() for name, p in params.items()}
    with torch.no_grad():
        adapted = adapt(leaves, support, InnerLoop(mlp_loss, STEP, num_steps, mode, batching))
    assert not any(p.requires_grad for p in adapted.values())


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all live storages, and their maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in pytree.tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in self.known:
                storage = leaf.untyped_storage()
                self.known.add(storage._cdata)
                self.live += storage.nbytes()
                weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return result

    def _freed(self, address: int, num_bytes: int) -> None:
        self.known.discard(address)
        self.live -= num_bytes


@batchings
def test_memory_of_the_recurrence_grows_only_by_the_parameters_it_keeps(batching):
    params, (support, query) = mlp_problem()
    support, query = (  # many examples, so that graphs outweigh parameters
        pytree.tree_map(lambda leaf: leaf.repeat(1, 16, 1), part) for part in (support, query)
    )

    def growth(mode: Any) -> int:
        peaks = []
        for num_steps in (2, 10):
            inner = InnerLoop(mlp_loss, STEP, num_steps, mode, batching)
            with LiveBytes() as bytes_:
                meta_gradient(params, support, query, inner)
            peaks.append(bytes_.peak)
        return peaks[1] - peaks[0]

    kept = 8 * NUM_TASKS * sum(p.nbytes for p in params.values())
    assert growth("recurrence") <= 1.01 * kept
    assert growth("unrolled") > 5 * kept


@batchings
@modes
def test_memory_of_an_adaptation_without_gradients_does_not_grow_with_its_steps(batching, mode):
    params, (support, _) = mlp_problem()
    peaks = []
    for num_steps in (3, 30):
        inner = InnerLoop(mlp_loss, STEP, num_steps, mode, batching)
        with LiveBytes() as bytes_, torch.no_grad():
            adapt(params, support, inner)
        peaks.append(bytes_.peak)
    assert peaks[1] == peaks[0]


@batchings
@modes
def test_a_loop_that_moves_some_parameters_only_leaves_no_tensor_behind(batching, mode):
    params, (support, query) = mlp_problem()
    inner = InnerLoop(mlp_loss, STEP, 3, mode, batching, adapted=("weight_1",))

    def living() -> int:
        meta_gradient(params, support, query, inner)
        gc.collect()
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())

    living()
    assert living() == living()
