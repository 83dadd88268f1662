"""The bilevel core on a perceptron: a plain loop over tasks, its own invariants, its errors."""

import math

import pytest
import torch
from bilevel_problems import (
    MODES,
    NUM_TASKS,
    STEP,
    assert_equal_to,
    batchings,
    loop,
    mlp_loss,
    mlp_problem,
    modes,
    one_and_three_steps,
    relative_distance,
    task_of,
    whole_and_chunked,
)
from torch import Tensor
from torch.utils import _pytree as pytree

from metarl.bilevel.adaptation import adapt
from metarl.bilevel.inner_loop import Batch, InnerLoop, PerStep
from metarl.bilevel.meta_gradients import meta_gradient
from metarl.bilevel.rules import sgd
from metarl.bilevel.steps import inner_step
from metarl.nn.mlp import mlp
from metarl.parameters import Params


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
def test_each_step_may_have_separate_data(batching, mode, chunk_size):
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


@batchings
@modes
def test_rates_by_name_apply_to_their_parameters(batching, mode):
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


def test_the_explicit_tape_reaches_the_support_set_and_what_the_loss_closes_over():
    """The support set with a start that needs no gradient; against finite differences."""
    points = torch.linspace(0, 1, 6).double().reshape(2, 3, 1)

    def moved(scale: Tensor, weight: Tensor, params: Params) -> Tensor:
        def loss(values: Params, part: Batch) -> Tensor:
            return weight * (values["w"].unsqueeze(1) - part).pow(4).mean((1, 2))

        inner = InnerLoop(loss, STEP, 2, "unrolled", "explicit")
        return adapt(params, scale * points, inner)["w"].sum()

    start = torch.full((1,), 0.7, dtype=torch.float64)
    scale = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    weight = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    one = torch.ones((), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: moved(s, one, {"w": start}), scale)
    leaf = start.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s, c, w: moved(s, c, {"w": w}), (scale, weight, leaf))


# Invalid arguments.


@pytest.mark.parametrize(
    ("mode", "batching"),
    [(m, b) for m in MODES for b in ("vmap", "explicit") if (m, b) != ("unrolled", "explicit")],
)
def test_a_support_set_whose_gradient_would_be_lost_is_rejected(mode, batching):
    params, (support, _) = mlp_problem()
    inputs, targets = support
    inputs = inputs.clone().requires_grad_()
    inner = InnerLoop(mlp_loss, STEP, 1, mode, batching)
    with pytest.raises(ValueError, match=r"support must not require grad.*detach it, or use mode="):
        adapt(params, (inputs, targets), inner)
    with torch.no_grad():
        adapt(params, (inputs, targets), inner)


@pytest.mark.parametrize("rate", [0.0, -0.1, math.nan, math.inf])
def test_rates_that_are_not_above_zero_are_rejected(rate):
    with pytest.raises(ValueError, match="learning_rate must be a finite number above 0"):
        sgd(rate)


@pytest.mark.parametrize("rate", [0.0, -0.1, math.nan, math.inf])
def test_rates_by_name_that_are_not_above_zero_are_rejected(rate):
    with pytest.raises(ValueError, match=r"learning_rate.*must be a finite number above 0"):
        sgd({"weight_0": 0.1, "bias_0": rate})


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_steps", -1), ("mode", "second_order"), ("batching", "loop"), ("chunk_size", 0)],
)
def test_fields_out_of_range_are_rejected(field, value):
    with pytest.raises(ValueError, match=f"{field} must be .*got {value!r}"):
        InnerLoop(mlp_loss, STEP, **{field: value})


@batchings
def test_another_number_of_batches_than_steps_is_rejected(batching):
    params, (support, query) = mlp_problem()
    inner = InnerLoop(mlp_loss, STEP, 2, "unrolled", batching)
    message = r"support must have one batch per inner step \(2\), got 1"
    with pytest.raises(ValueError, match=message):
        adapt(params, PerStep([support]), inner)
    with pytest.raises(ValueError, match=message):
        meta_gradient(params, PerStep([support]), query, inner)


@batchings
def test_task_axes_that_differ_are_rejected(batching):
    params, (support, query) = mlp_problem()
    inner = InnerLoop(mlp_loss, STEP, 1, "unrolled", batching)
    fewer = task_of(support, slice(2))
    message = "first axis is the same number of tasks, 1 or more"
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


# Parameters that stay.


@pytest.mark.parametrize("mode", ["unrolled", "recurrence"])
@pytest.mark.parametrize("batching", ["vmap", "explicit"])
def test_only_named_parameters_adapt_and_all_get_their_meta_gradient(mode, batching):
    generator = torch.Generator().manual_seed(0)
    sampled = torch.randn((2, 3), generator=generator, dtype=torch.float64)
    params = {"moved": sampled[0], "fixed": sampled[1]}
    data = torch.randn((2, 4, 3), generator=generator, dtype=torch.float64)

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
