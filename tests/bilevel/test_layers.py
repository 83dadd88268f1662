"""The bilevel core with every supported layer: plain loops, finite differences, the GPU."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from bilevel_problems import (
    NUM_TASKS,
    STEP,
    assert_equal_to,
    loop,
    mlp_loss,
    mlp_problem,
    modes,
    one_and_three_steps,
    relative_distance,
    task_of,
)
from torch import Tensor, nn

from metarl.bilevel.adaptation import adapt
from metarl.bilevel.inner_loop import Batch, InnerLoop, Loss
from metarl.bilevel.meta_gradients import meta_gradient
from metarl.nn.functional import functional_module
from metarl.parameters import Params

# Every supported layer, between layers with parameters so that its second derivative counts.


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
        batch_shape = (NUM_TASKS, 4)
        if layer == "embedding":
            inputs = torch.randint(7, (*batch_shape, *shape), generator=generator)
        else:
            inputs = torch.randn(*batch_shape, *shape, generator=generator, dtype=torch.float64)
        targets = torch.randn(*batch_shape, 2, generator=generator, dtype=torch.float64)
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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@modes
def test_the_gpu_gives_the_same_results_as_the_cpu(mode):
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
