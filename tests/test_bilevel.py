"""The bilevel core against a plain loop over tasks, finite differences and its own invariants."""

import math
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from metarl.bilevel import (
    Batch,
    InnerLoop,
    InnerRule,
    Loss,
    Params,
    PerStep,
    adapt,
    inner_step,
    meta_gradient,
    sgd,
)
from metarl.functional import functional_module
from metarl.mlp import init_mlp, mlp

NUM_TASKS = 3
MODES = ("unrolled", "recurrence", "first_order")
BATCHINGS = ("vmap", "explicit")
STEP = sgd(0.1)

modes = pytest.mark.parametrize("mode", MODES)
batchings = pytest.mark.parametrize("batching", BATCHINGS)
one_and_three_steps = pytest.mark.parametrize("num_steps", [1, 3])
whole_and_chunked = pytest.mark.parametrize("chunk_size", [None, 2])


# The oracle: one task after another, ordinary autograd, no `vmap`.


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


# Every layer on offer, between layers with parameters so that its second derivative counts.


class Recurrent(nn.Module):
    """A recurrent cell in a loop over time, and a linear layer on its last hidden state."""

    def __init__(self, cell: nn.LSTMCell | nn.GRUCell) -> None:
        super().__init__()
        self.cell, self.readout = cell, nn.Linear(cell.hidden_size, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        state = None
        for t in range(inputs.shape[1]):
            state = self.cell(inputs[:, t], state)
        return self.readout(state[0] if isinstance(state, tuple) else state)


def on_vectors(layer: nn.Module) -> tuple[nn.Module, tuple[int, ...]]:
    return nn.Sequential(nn.Linear(3, 6), layer, nn.Linear(6, 2)), (3,)


def on_images(layer: nn.Module, num_features: int = 36) -> tuple[nn.Module, tuple[int, ...]]:
    readout = nn.Linear(num_features, 2)
    return nn.Sequential(nn.Conv2d(1, 4, 3), layer, nn.Flatten(), readout), (1, 5, 5)


LAYERS: dict[str, Callable[[], tuple[nn.Module, tuple[int, ...]]]] = {
    "linear": lambda: on_vectors(nn.Linear(6, 6)),
    "relu": lambda: on_vectors(nn.ReLU()),
    "tanh": lambda: on_vectors(nn.Tanh()),
    "layer norm": lambda: on_vectors(nn.LayerNorm(6)),
    "rms norm": lambda: on_vectors(nn.RMSNorm(6)),
    "batch norm 1d": lambda: on_vectors(nn.BatchNorm1d(6, track_running_stats=False)),
    "convolution": lambda: on_images(nn.Identity()),
    "max pool": lambda: on_images(nn.MaxPool2d(2, stride=1), 16),
    "adaptive average pool": lambda: on_images(nn.AdaptiveAvgPool2d(2), 16),
    "adaptive max pool": lambda: on_images(nn.AdaptiveMaxPool2d(2), 16),
    "batch norm 2d": lambda: on_images(nn.BatchNorm2d(4, track_running_stats=False)),
    "frozen batch norm 2d": lambda: on_images(nn.BatchNorm2d(4).eval()),
    "instance norm 2d": lambda: on_images(nn.InstanceNorm2d(4, affine=True)),
    "group norm": lambda: on_images(nn.GroupNorm(2, 4)),
    "embedding": lambda: (
        nn.Sequential(nn.Embedding(7, 3), nn.Flatten(), nn.Tanh(), nn.Linear(6, 2)),
        (2,),
    ),
    "lstm cell": lambda: (Recurrent(nn.LSTMCell(3, 4)), (3, 3)),
    "gru cell": lambda: (Recurrent(nn.GRUCell(3, 4)), (3, 3)),
}


def network(layer: str, device: str = "cpu") -> tuple[Loss, Params, Batch, Batch]:
    """Squared-error loss of a small network, its parameters, support and query of all tasks."""
    generator = torch.Generator().manual_seed(0)
    module, shape = LAYERS[layer]()
    apply, params = functional_module(module.double().to(device))
    for p in params.values():
        p.copy_(0.5 * torch.randn(p.shape, generator=generator, dtype=p.dtype))

    def batch() -> Batch:
        lead = (NUM_TASKS, 4)
        if layer == "embedding":
            inputs = torch.randint(7, (*lead, *shape), generator=generator)
        else:
            inputs = torch.randn(*lead, *shape, generator=generator, dtype=torch.float64)
        targets = torch.randn(*lead, 2, generator=generator, dtype=torch.float64)
        return inputs.to(device), targets.to(device)

    def loss(values: Params, part: Batch) -> Tensor:
        return (apply(values, part[0]) - part[1]).square().mean()

    return loss, params, batch(), batch()


@cache
def network_loop(layer: str, num_steps: int, first_order: bool) -> tuple[Params, Tensor, Params]:
    loss, params, support, query = network(layer)
    return loop(params, [support] * num_steps, query, loss, first_order=first_order)


@pytest.mark.parametrize("layer", LAYERS)
@modes
@one_and_three_steps
def test_meta_gradient_equals_a_loop_over_tasks_for_every_layer(layer, mode, num_steps):
    loss, params, support, query = network(layer)
    losses, gradient = meta_gradient(params, support, query, InnerLoop(loss, STEP, num_steps, mode))
    _, expected_losses, expected = network_loop(layer, num_steps, mode == "first_order")
    assert_equal_to(losses, expected_losses)
    assert_equal_to(gradient, expected)


@pytest.mark.parametrize("layer", LAYERS)
@modes
@one_and_three_steps
def test_backward_through_adapt_in_chunks_equals_a_loop_over_tasks_for_every_layer(
    layer, mode, num_steps
):
    loss, params, support, query = network(layer)
    leaves = {name: p.requires_grad_() for name, p in params.items()}
    adapted = adapt(leaves, support, InnerLoop(loss, STEP, num_steps, mode, chunk_size=2))
    if layer.endswith("cell"):  # torch cannot run these under `vmap` without `grad`
        tasks = [(task_of(adapted, i), task_of(query, i)) for i in range(NUM_TASKS)]
        torch.stack([loss(*task) for task in tasks]).mean().backward()
    else:
        torch.func.vmap(loss)(adapted, query).mean().backward()
    expected_adapted, _, expected = network_loop(layer, num_steps, mode == "first_order")
    assert_equal_to(adapted, expected_adapted)
    assert_equal_to({name: p.grad for name, p in leaves.items()}, expected)


@pytest.mark.parametrize("layer", LAYERS)
def test_the_second_order_terms_of_every_layer_are_large_enough_to_be_tested(layer):
    second_order = network_loop(layer, 1, False)[2]
    assert relative_distance(second_order, network_loop(layer, 1, True)[2]) > 0.01


# A perceptron, whose loss serves one task, and all tasks along an explicit axis.


def mlp_loss(params: Params, batch: Batch) -> Tensor:
    return (mlp(params, batch[0], torch.tanh) - batch[1]).square().mean((-2, -1))


def mlp_problem(num_batches: int = 2, device: str = "cpu") -> tuple[Params, list[Batch]]:
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(device)

    params = {name: normal(*p.shape) for name, p in init_mlp((2, 5, 1), generator).items()}
    batches = [(normal(NUM_TASKS, 4, 2), normal(NUM_TASKS, 4, 1)) for _ in range(num_batches)]
    return params, batches


@batchings
@modes
@one_and_three_steps
@whole_and_chunked
def test_a_perceptron_equals_a_loop_over_tasks(batching, mode, num_steps, chunk_size):
    params, (support, query) = mlp_problem()
    inner = InnerLoop(mlp_loss, STEP, num_steps, mode, batching, chunk_size)
    losses, gradient = meta_gradient(params, support, query, inner)
    adapted, expected_losses, expected = loop(
        params, [support] * num_steps, query, mlp_loss, first_order=mode == "first_order"
    )
    assert_equal_to(adapt(params, support, inner), adapted)
    assert_equal_to(losses, expected_losses)
    assert_equal_to(gradient, expected)


@pytest.mark.parametrize(
    ("problem", "num_steps"),
    [("vmap", 1), ("vmap", 3), ("explicit", 1), ("explicit", 3), ("layer norm", 3)],
)
def test_meta_gradient_equals_finite_differences(problem, num_steps):
    if problem == "layer norm":
        loss, params, support, query = network(problem)
        inner = InnerLoop(loss, STEP, num_steps)
    else:
        params, (support, query) = mlp_problem()
        inner = InnerLoop(mlp_loss, STEP, num_steps, batching=problem)

    def total() -> float:
        adapted = adapt(params, support, inner)
        return float(torch.func.vmap(inner.loss)(adapted, query).mean())

    differences = {name: torch.empty_like(p) for name, p in params.items()}
    for name, p in params.items():
        flat = p.view(-1)
        for i, value in enumerate(flat.tolist()):
            flat[i] = value + 1e-5
            above = total()
            flat[i] = value - 1e-5
            differences[name].view(-1)[i] = (above - total()) / 2e-5
            flat[i] = value
    for mode in ("unrolled", "recurrence"):
        _, gradient = meta_gradient(params, support, query, replace(inner, mode=mode))
        torch.testing.assert_close(gradient, differences, rtol=1e-7, atol=1e-9)


@batchings
def test_first_order_equals_second_order_for_a_linear_inner_loss(batching):
    params, (support, query) = mlp_problem()

    def linear(values: Params, batch: Batch) -> Tensor:
        return sum((p * batch[1].mean()).sum() for p in values.values())

    loss = torch.func.vmap(linear) if batching == "explicit" else linear
    loops = [InnerLoop(loss, STEP, 3, mode, batching) for mode in MODES]
    gradients = [
        meta_gradient(params, support, query, inner, query_loss=mlp_loss)[1] for inner in loops
    ]
    expected = loop(params, [], query, mlp_loss)[2]
    assert relative_distance(gradients[0], expected) > 0.01  # the steps did move
    assert_equal_to(gradients[1], gradients[0])
    assert_equal_to(gradients[2], gradients[0])


@batchings
@modes
def test_zero_steps_are_the_identity(batching, mode):
    params, (support, query) = mlp_problem()
    inner = InnerLoop(mlp_loss, STEP, 0, mode, batching)
    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    adapted = adapt(leaves, support, inner)
    torch.func.vmap(mlp_loss)(adapted, query).mean().backward()
    _, losses, gradient = loop(params, [], query, mlp_loss)
    for name, p in params.items():
        assert torch.equal(adapted[name], p.expand(NUM_TASKS, *p.shape))
    assert_equal_to({name: p.grad for name, p in leaves.items()}, gradient)
    assert_equal_to(meta_gradient(params, support, query, inner), (losses, gradient))
    assert_equal_to(meta_gradient(params, PerStep([]), query, inner), (losses, gradient))


@batchings
@modes
@whole_and_chunked
def test_a_task_does_not_depend_on_the_data_of_another(batching, mode, chunk_size):
    params, (support, query) = mlp_problem()
    inner = InnerLoop(mlp_loss, STEP, 2, mode, batching, chunk_size)
    changed = pytree.tree_map(torch.clone, support)
    changed[0][1] += 1
    before, after = (adapt(params, data, inner) for data in (support, changed))
    losses, changed_losses = (
        meta_gradient(params, data, query, inner)[0] for data in (support, changed)
    )
    others = [0, 2]
    for name in params:
        assert torch.equal(before[name][others], after[name][others])
        assert not torch.equal(before[name][1], after[name][1])
    assert torch.equal(losses[others], changed_losses[others])
    assert losses[1] != changed_losses[1]


@batchings
@modes
@whole_and_chunked
def test_each_step_may_have_data_of_its_own(batching, mode, chunk_size):
    params, (first, second, query) = mlp_problem(3)
    inner = InnerLoop(mlp_loss, STEP, 2, mode, batching, chunk_size)
    losses, gradient = meta_gradient(params, PerStep([first, second]), query, inner)
    _, expected_losses, expected = loop(
        params, [first, second], query, mlp_loss, first_order=mode == "first_order"
    )
    assert_equal_to(losses, expected_losses)
    assert_equal_to(gradient, expected)
    repeated = meta_gradient(params, first, query, inner)[1]
    assert relative_distance(gradient, repeated) > 0.01


@batchings
@modes
def test_any_elementwise_rule_may_be_used(batching, mode):
    params, (support, query) = mlp_problem()

    def rule(values: Params, grads: Params) -> Params:
        return {k: p - 0.2 * torch.tanh(grads[k] + 0.1 * p**2) for k, p in values.items()}

    inner = InnerLoop(mlp_loss, rule, 3, mode, batching)
    expected = loop(
        params, [support] * 3, query, mlp_loss, rule=rule, first_order=mode == "first_order"
    )
    assert_equal_to(meta_gradient(params, support, query, inner), expected[1:])


@batchings
@modes
def test_rates_among_the_parameters_are_learned(batching, mode):
    params, (support, query) = mlp_problem()
    params = {**params, "rate": torch.full((1,), 0.3, dtype=torch.float64)}

    def loss(values: Params, batch: Batch) -> Tensor:
        return mlp_loss({k: p for k, p in values.items() if k != "rate"}, batch)

    def rule(values: Params, grads: Params) -> Params:
        def rate_for(p: Tensor) -> Tensor:
            rate = values["rate"]
            return rate.view(*rate.shape[:-1], *[1] * (p.dim() - rate.dim() + 1))

        return {k: p if k == "rate" else p - rate_for(p) * grads[k] for k, p in values.items()}

    inner = InnerLoop(loss, rule, 2, mode, batching)
    _, gradient = meta_gradient(params, support, query, inner)
    expected = loop(
        params, [support] * 2, query, loss, rule=rule, first_order=mode == "first_order"
    )[2]
    assert_equal_to(gradient, expected)
    assert float(gradient["rate"].abs()) > 0.01


@batchings
@modes
def test_the_outer_loss_may_differ_from_the_inner_loss(batching, mode):
    params, (support, query) = mlp_problem()

    def absolute(values: Params, batch: Batch) -> Tensor:
        return (mlp(values, batch[0], torch.tanh) - batch[1]).abs().mean((-2, -1))

    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    inner = InnerLoop(mlp_loss, STEP, 2, mode, batching)
    losses, gradient = meta_gradient(params, support, query, inner, query_loss=absolute)
    expected_losses = torch.func.vmap(absolute)(adapt(leaves, support, inner), query)
    expected_losses.mean().backward()
    assert_equal_to(losses, expected_losses.detach())
    assert_equal_to(gradient, {name: p.grad for name, p in leaves.items()})


@batchings
@modes
def test_a_parameter_that_the_loss_ignores_stays_and_gets_its_outer_gradient(batching, mode):
    params, (support, query) = mlp_problem()
    params = {**params, "idle": torch.tensor([2.0, -1.0], dtype=torch.float64)}

    def loss(values: Params, batch: Batch) -> Tensor:
        return mlp_loss({k: p for k, p in values.items() if k != "idle"}, batch)

    def query_loss(values: Params, batch: Batch) -> Tensor:
        return loss(values, batch) + values["idle"].square().sum(-1)

    inner = InnerLoop(loss, STEP, 2, mode, batching)
    adapted = adapt(params, support, inner)
    _, gradient = meta_gradient(params, support, query, inner, query_loss=query_loss)
    assert torch.equal(adapted["idle"], params["idle"].expand(NUM_TASKS, 2))
    assert_equal_to(gradient["idle"], 2 * params["idle"])


@batchings
@modes
def test_a_parameter_that_needs_no_gradient_adapts_as_well(batching, mode):
    params, (support, query) = mlp_problem()
    leaves = {
        name: p.clone().requires_grad_(name.startswith("weight")) for name, p in params.items()
    }
    adapted = adapt(leaves, support, InnerLoop(mlp_loss, STEP, 2, mode, batching))
    torch.func.vmap(mlp_loss)(adapted, query).mean().backward()
    expected_adapted, _, expected = loop(
        params, [support] * 2, query, mlp_loss, first_order=mode == "first_order"
    )
    assert_equal_to(adapted, expected_adapted)
    for name, p in leaves.items():
        assert_equal_to(p.grad, expected[name] if name.startswith("weight") else None)


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
    [(m, b) for m in MODES for b in BATCHINGS if (m, b) != ("unrolled", "explicit")],
)
def test_all_other_loops_refuse_a_second_derivative(mode, batching):
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
def test_the_result_has_a_graph_only_if_parameters_ask_for_one(batching, mode, num_steps):
    params, (support, _) = mlp_problem()
    inner = InnerLoop(mlp_loss, STEP, num_steps, mode, batching)
    assert not any(p.requires_grad for p in adapt(params, support, inner).values())
    leaves = {name: p.requires_grad_() for name, p in params.items()}
    assert all(p.requires_grad for p in adapt(leaves, support, inner).values())


@batchings
@modes
@pytest.mark.parametrize("num_steps", [0, 2])
def test_the_result_has_no_graph_where_gradients_are_off(batching, mode, num_steps):
    params, (support, _) = mlp_problem()
    leaves = {name: p.requires_grad_() for name, p in params.items()}
    with torch.no_grad():
        adapted = adapt(leaves, support, InnerLoop(mlp_loss, STEP, num_steps, mode, batching))
    assert not any(p.requires_grad for p in adapted.values())


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that are alive, and the most there were at once."""

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


# What is refused.


@batchings
@modes
def test_rates_by_name_step_each_parameter_by_its_own(batching, mode):
    params, (support, query) = mlp_problem()
    rates = {name: 0.1 * (k + 1) for k, name in enumerate(params)}
    rates["bias_0"] = torch.tensor(0.7, dtype=torch.float64)
    inner = InnerLoop(mlp_loss, sgd(rates), 2, mode, batching)

    def rule(values: Params, grads: Params) -> Params:
        return {name: p - rates[name] * grads[name] for name, p in values.items()}

    expected = loop(
        params, [support] * 2, query, mlp_loss, rule=rule, first_order=mode == "first_order"
    )
    assert_equal_to(meta_gradient(params, support, query, inner), expected[1:])


@pytest.mark.parametrize("rate", [0.0, -0.1, math.nan, math.inf])
def test_rates_that_are_not_above_zero_are_refused(rate):
    with pytest.raises(ValueError, match="learning_rate must be a finite number above 0"):
        sgd(rate)


@pytest.mark.parametrize("rate", [0.0, -0.1, math.nan, math.inf])
def test_rates_by_name_that_are_not_above_zero_are_refused(rate):
    with pytest.raises(ValueError, match=r"learning_rate.*must be a finite number above 0"):
        sgd({"weight_0": 0.1, "bias_0": rate})


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_steps", -1), ("mode", "second_order"), ("batching", "loop"), ("chunk_size", 0)],
)
def test_fields_out_of_range_are_refused(field, value):
    with pytest.raises(ValueError, match=f"{field} must be .*got {value!r}"):
        InnerLoop(mlp_loss, STEP, **{field: value})


@batchings
def test_another_number_of_batches_than_steps_is_refused(batching):
    params, (support, query) = mlp_problem()
    inner = InnerLoop(mlp_loss, STEP, 2, "unrolled", batching)
    message = r"support must have one batch per inner step \(2\), got 1"
    with pytest.raises(ValueError, match=message):
        adapt(params, PerStep([support]), inner)
    with pytest.raises(ValueError, match=message):
        meta_gradient(params, PerStep([support]), query, inner)


@batchings
def test_task_axes_that_differ_are_refused(batching):
    params, (support, query) = mlp_problem()
    inner = InnerLoop(mlp_loss, STEP, 1, "unrolled", batching)
    fewer = task_of(support, slice(2))
    message = "first axis is one number of tasks above 0"
    for bad in ((support[0], fewer[1]), PerStep([fewer, support]), torch.tensor(1.0), (), None):
        steps = InnerLoop(mlp_loss, STEP, 2, "unrolled", batching)
        with pytest.raises(ValueError, match=message):
            adapt(params, bad, steps)
    with pytest.raises(ValueError, match=message):
        adapt(params, task_of(support, slice(0)), inner)
    with pytest.raises(ValueError, match=message):
        meta_gradient(params, support, task_of(query, slice(2)), inner)
    with pytest.raises(ValueError, match=message):
        inner_step(adapt(params, support, inner), fewer, inner)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@modes
def test_the_gpu_gives_what_the_cpu_gives(mode):
    for layer in ("tanh", "layer norm", "batch norm 2d"):
        loss, params, support, query = network(layer, "cuda")
        inner = InnerLoop(loss, STEP, 3, mode)
        adapted = adapt(params, support, inner)
        losses, gradient = meta_gradient(params, support, query, inner)
        expected = network_loop(layer, 3, mode == "first_order")
        torch.testing.assert_close(
            (adapted, losses, gradient), expected, rtol=1e-7, atol=1e-10, check_device=False
        )
    params, (support, _) = mlp_problem(device="cuda")
    inner = InnerLoop(mlp_loss, STEP, 3, mode, "explicit")
    on_cpu, (support_on_cpu, _) = mlp_problem()
    torch.testing.assert_close(
        adapt(params, support, inner),
        adapt(on_cpu, support_on_cpu, inner),
        rtol=1e-7,
        atol=1e-10,
        check_device=False,
    )


# Parameters that stay.


@pytest.mark.parametrize("mode", ["unrolled", "recurrence"])
@pytest.mark.parametrize("batching", ["vmap", "explicit"])
def test_only_named_parameters_adapt_and_all_get_their_meta_gradient(mode, batching):
    chance = torch.Generator().manual_seed(0)
    drawn = torch.randn((2, 3), generator=chance, dtype=torch.float64)
    params = {"moved": drawn[0], "fixed": drawn[1]}
    data = torch.randn((2, 4, 3), generator=chance, dtype=torch.float64)

    def loss(values, points):
        product = (values["moved"] * values["fixed"].tanh()).unsqueeze(-2)
        return (product - points).pow(4).mean((-2, -1))

    inner = InnerLoop(loss, sgd(0.1), num_steps=2, mode=mode, batching=batching, adapted=("moved",))
    found = adapt(params, data, inner)
    assert torch.equal(found["fixed"], params["fixed"].expand(2, 3))
    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    total = torch.zeros((), dtype=torch.float64)
    for task in range(2):
        current = leaves["moved"]
        for _ in range(2):
            error = loss({"moved": current, "fixed": leaves["fixed"]}, data[task])
            current = current - 0.1 * torch.autograd.grad(error, current, create_graph=True)[0]
        torch.testing.assert_close(found["moved"][task], current.detach())
        total = total + loss({"moved": current, "fixed": leaves["fixed"]}, data[task]) / 2
    wanted = torch.autograd.grad(total, list(leaves.values()))
    _, grads = meta_gradient(params, data, data, inner)
    for name, grad in zip(leaves, wanted, strict=True):
        torch.testing.assert_close(grads[name], grad)


def test_adapted_must_name_parameters():
    def loss(values, points):
        return (values["w"] * points).sum()

    inner = InnerLoop(loss, sgd(0.1), adapted=("v",))
    with pytest.raises(ValueError, match="adapted must name parameters, there is no 'v'"):
        adapt({"w": torch.zeros(())}, torch.ones(2, 3), inner)
