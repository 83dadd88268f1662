"""Products with the Jacobian of adaptation against the Jacobian itself, task by task."""

from collections.abc import Collection
from typing import Any

import pytest
import torch
from stateful_rules import HEAD, RULES, all_or_head
from torch import Tensor

from metarl.bilevel.adaptation import adapt
from metarl.bilevel.inner_loop import Batch, InnerLoop, PerStep
from metarl.bilevel.linearized import linearize_adaptation
from metarl.bilevel.rules import InnerRule, StatefulRule, sgd
from metarl.nn.mlp import init_mlp, mlp
from metarl.parameters import Params, flatten, unflatten

NUM_TASKS = 3
STEP = sgd(0.2)
PARTS = {"head": HEAD, "body": ("weight_0", "bias_0"), "one bias": ("bias_0",)}

exact_and_first_order = pytest.mark.parametrize("mode", ["unrolled", "first_order"])


def mlp_loss(params: Params, batch: Batch) -> Tensor:
    return (mlp(params, batch[0], torch.tanh) - batch[1]).square().mean((-2, -1))


def problem(num_batches: int) -> tuple[Params, list[Batch], Params, Params]:
    """Parameters, data of each step, and two sets of tangents, one for each task."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    params = {name: normal(*p.shape) for name, p in init_mlp((2, 3, 1), generator).items()}
    batches = [(normal(NUM_TASKS, 4, 2), normal(NUM_TASKS, 4, 1)) for _ in range(num_batches)]
    tangents = [{name: normal(NUM_TASKS, *p.shape) for name, p in params.items()} for _ in range(2)]
    return params, batches, *tangents


def jacobian(
    params: Params,
    batches: list[Batch],
    task: int,
    *,
    rule: InnerRule | StatefulRule,
    first_order: bool,
    adapted: Collection[str] | None = None,
) -> Tensor:
    """∂θ'/∂θ of one task as a matrix [P, P], by reverse mode through a plain loop."""

    def adapt_one(vector: Tensor) -> Tensor:
        current = unflatten(vector, params)
        state = rule.init(current) if isinstance(rule, StatefulRule) else {}
        for inputs, targets in batches:
            names = [name for name in current if adapted is None or name in adapted]
            loss = mlp_loss(current, (inputs[task], targets[task]))
            grads = torch.autograd.grad(loss, [current[n] for n in names], create_graph=True)
            if first_order:
                grads, loss = tuple(grad.detach() for grad in grads), loss.detach()
            named = dict(zip(names, grads, strict=True))
            if isinstance(rule, StatefulRule):
                current, state = rule.step(current, named, state, loss)
            else:
                current = rule(current, named)
        return flatten(current)

    return torch.autograd.functional.jacobian(adapt_one, flatten(params))


def task_vector(params: Params, task: int) -> Tensor:
    return flatten({name: p[task] for name, p in params.items()})


def assert_products_equal_the_jacobian(
    params: Params,
    batches: list[Batch],
    tangents: tuple[Params, Params],
    mode: Any,
    *,
    rule: InnerRule | StatefulRule = STEP,
    adapted: Collection[str] | None = None,
) -> None:
    inner = InnerLoop(mlp_loss, rule, len(batches), mode, "explicit", adapted=adapted)
    adaptation = linearize_adaptation(params, PerStep(batches), inner)
    pushed, pulled = adaptation.push(tangents[0]), adaptation.pull(tangents[1])
    for task in range(NUM_TASKS):
        matrix = jacobian(
            params, batches, task, rule=rule, first_order=mode == "first_order", adapted=adapted
        )
        torch.testing.assert_close(
            task_vector(pushed, task),
            matrix @ task_vector(tangents[0], task),
            rtol=1e-9,
            atol=1e-12,
        )
        torch.testing.assert_close(
            task_vector(pulled, task),
            matrix.T @ task_vector(tangents[1], task),
            rtol=1e-9,
            atol=1e-12,
        )


@exact_and_first_order
@pytest.mark.parametrize("num_steps", [1, 3])
def test_push_and_pull_equal_products_with_the_jacobian(mode, num_steps):
    params, batches, *tangents = problem(num_steps)
    assert_products_equal_the_jacobian(params, batches, tuple(tangents), mode)


@exact_and_first_order
def test_push_and_pull_follow_rates_by_name(mode):
    params, batches, *tangents = problem(2)
    rule = sgd({name: 0.1 * (k + 1) for k, name in enumerate(params)})
    assert_products_equal_the_jacobian(params, batches, tuple(tangents), mode, rule=rule)


@exact_and_first_order
def test_push_and_pull_follow_any_elementwise_rule(mode):
    params, batches, *tangents = problem(2)

    def rule(values: Params, grads: Params) -> Params:
        return {k: p - 0.2 * torch.tanh(grads[k] + 0.1 * p**2) for k, p in values.items()}

    assert_products_equal_the_jacobian(params, batches, tuple(tangents), mode, rule=rule)


@exact_and_first_order
@pytest.mark.parametrize("adapted", PARTS.values(), ids=PARTS)
def test_push_and_pull_are_exact_if_some_parameters_adapt(mode, adapted):
    params, batches, *tangents = problem(3)
    assert_products_equal_the_jacobian(params, batches, tuple(tangents), mode, adapted=adapted)


@exact_and_first_order
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@all_or_head
def test_push_and_pull_go_through_the_state_of_the_rule(mode, rule, adapted):
    params, batches, *tangents = problem(3)
    assert_products_equal_the_jacobian(
        params, batches, tuple(tangents), mode, rule=rule, adapted=adapted
    )


def test_the_gradients_of_a_body_that_does_not_adapt_are_not_needed_to_first_order():
    params, batches, v, _ = problem(1)
    inner = InnerLoop(mlp_loss, STEP, 1, "first_order", "explicit", adapted=HEAD)
    adaptation = linearize_adaptation(params, batches[0], inner)
    assert set(adaptation.steps[0].grads) == set(HEAD)
    assert all(torch.equal(adaptation.push(v)[name], v[name]) for name in params)


def test_the_recurrence_mode_is_exact_too():
    params, batches, *tangents = problem(2)
    assert_products_equal_the_jacobian(params, batches, tuple(tangents), "recurrence")


@exact_and_first_order
def test_push_and_pull_are_adjoint(mode):
    params, batches, v, w = problem(3)
    rule = sgd({name: 0.1 * (k + 1) for k, name in enumerate(params)})
    inner = InnerLoop(mlp_loss, rule, 3, mode, "explicit")
    adaptation = linearize_adaptation(params, PerStep(batches), inner)
    pushed, pulled = adaptation.push(v), adaptation.pull(w)
    for task in range(NUM_TASKS):
        left = task_vector(w, task) @ task_vector(pushed, task)
        right = task_vector(pulled, task) @ task_vector(v, task)
        torch.testing.assert_close(left, right, rtol=1e-12, atol=0)


def test_curvature_counts_only_in_modes_that_include_it():
    params, batches, v, _ = problem(1)
    exact, first_order = (
        linearize_adaptation(
            params, batches[0], InnerLoop(mlp_loss, STEP, 1, mode, "explicit")
        ).push(v)
        for mode in ("unrolled", "first_order")
    )
    assert all(torch.equal(first_order[name], v[name]) for name in params)
    assert float((flatten(exact) - flatten(v)).norm() / flatten(v).norm()) > 0.01


def test_zero_steps_leave_parameters_and_vectors_as_they_are():
    params, batches, v, w = problem(1)
    inner = InnerLoop(mlp_loss, STEP, 0, batching="explicit")
    adaptation = linearize_adaptation(params, batches[0], inner)
    pushed, pulled = adaptation.push(v), adaptation.pull(w)
    for name, p in params.items():
        assert torch.equal(adaptation.adapted[name], p.expand(NUM_TASKS, *p.shape))
        assert torch.equal(pushed[name], v[name])
        assert torch.equal(pulled[name], w[name])


@exact_and_first_order
@pytest.mark.parametrize("rule", [STEP, RULES["loss"]], ids=["stateless", "stateful"])
@all_or_head
def test_the_adapted_parameters_equal_those_of_adapt(mode, rule, adapted):
    params, batches, *_ = problem(3)
    inner = InnerLoop(mlp_loss, rule, 3, mode, "explicit", adapted=adapted)
    found = linearize_adaptation(params, PerStep(batches), inner).adapted
    torch.testing.assert_close(found, adapt(params, PerStep(batches), inner), rtol=1e-12, atol=0)
    assert not any(p.requires_grad for p in found.values())


def test_products_may_be_taken_again_and_have_no_graph():
    params, batches, v, w = problem(2)
    leaves = {name: p.requires_grad_() for name, p in params.items()}
    inner = InnerLoop(mlp_loss, STEP, 2, batching="explicit")
    adaptation = linearize_adaptation(leaves, PerStep(batches), inner)
    for product, vector in ((adaptation.push, v), (adaptation.pull, w)):
        first, second = product(vector), product(vector)
        for name in params:
            assert torch.equal(first[name], second[name])
            assert not first[name].requires_grad
    assert all(p.grad is None for p in leaves.values())


def test_a_task_does_not_depend_on_the_data_of_another():
    params, batches, v, w = problem(2)
    inner = InnerLoop(mlp_loss, STEP, 2, batching="explicit")
    before = linearize_adaptation(params, PerStep(batches), inner)
    changed = [(inputs.clone(), targets) for inputs, targets in batches]
    changed[0][0][1] += 1
    after = linearize_adaptation(params, PerStep(changed), inner)
    others = [0, 2]
    for one, other in ((before.push(v), after.push(v)), (before.pull(w), after.pull(w))):
        for name in params:
            assert torch.equal(one[name][others], other[name][others])
        assert not torch.equal(one["weight_0"][1], other["weight_0"][1])


def test_a_parameter_that_the_loss_ignores_keeps_its_vectors():
    params, batches, v, w = problem(2)
    idle = torch.tensor([2.0, -1.0], dtype=torch.float64)
    vectors = [{**vector, "idle": idle.expand(NUM_TASKS, 2)} for vector in (v, w)]

    def loss(values: Params, batch: Batch) -> Tensor:
        return mlp_loss({k: p for k, p in values.items() if k != "idle"}, batch)

    inner = InnerLoop(loss, STEP, 2, batching="explicit")
    adaptation = linearize_adaptation({**params, "idle": idle}, PerStep(batches), inner)
    assert torch.equal(adaptation.push(vectors[0])["idle"], vectors[0]["idle"])
    assert torch.equal(adaptation.pull(vectors[1])["idle"], vectors[1]["idle"])


def test_vmap_batching_is_rejected():
    params, batches, *_ = problem(1)
    with pytest.raises(ValueError, match=r"inner\.batching must be 'explicit'.*got 'vmap'"):
        linearize_adaptation(params, batches[0], InnerLoop(mlp_loss, STEP))


def test_another_number_of_batches_than_steps_is_rejected():
    params, batches, *_ = problem(1)
    inner = InnerLoop(mlp_loss, STEP, 2, batching="explicit")
    with pytest.raises(ValueError, match=r"one batch per inner step \(2\), got 1"):
        linearize_adaptation(params, PerStep(batches), inner)
