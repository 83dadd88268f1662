"""Inner rules with a state: a loop written by hand, finite differences, and single steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bilevel_problems import (
    NUM_TASKS,
    assert_equal_to,
    batchings,
    mlp_loss,
    mlp_problem,
    modes,
    task_of,
    whole_and_chunked,
)
from stateful_rules import (
    RULES,
    all_or_head,
    by_finite_differences,
    momentum_step,
    zero_velocities,
)
from torch import Tensor

from metarl.bilevel.adaptation import adapt, adapt_path
from metarl.bilevel.inner_loop import Batch, InnerLoop, PerStep
from metarl.bilevel.meta_gradients import meta_gradient
from metarl.bilevel.rules import RuleState, StatefulRule, sgd
from metarl.bilevel.steps import initial_task_state, inner_step, stateful_step
from metarl.parameters import Params

rules = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def loop_by_hand(
    params: Params,
    batches: list[Batch],
    query: Batch,
    rule: StatefulRule,
    *,
    first_order: bool,
    adapted: Any = None,
) -> tuple[Params, Tensor, Params]:
    """Adapted parameters and query losses of the tasks, and the gradient of their mean."""
    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    found, losses = [], []
    for task in range(NUM_TASKS):
        current, state = leaves, rule.init(leaves)
        for batch in batches:
            loss = mlp_loss(current, task_of(batch, task))
            names = [name for name in current if adapted is None or name in adapted]
            grads = torch.autograd.grad(loss, [current[n] for n in names], create_graph=True)
            if first_order:
                grads, loss = tuple(g.detach() for g in grads), loss.detach()
            current, state = rule.step(current, dict(zip(names, grads, strict=True)), state, loss)
        found.append({name: p.detach() for name, p in current.items()})
        losses.append(mlp_loss(current, task_of(query, task)))
    flat = torch.autograd.grad(torch.stack(losses).mean(), list(leaves.values()))
    stacked = {name: torch.stack([task[name] for task in found]) for name in params}
    return stacked, torch.stack(losses).detach(), dict(zip(params, flat, strict=True))


@rules
@batchings
@modes
@all_or_head
@whole_and_chunked
def test_a_rule_with_a_state_equals_a_loop_by_hand(rule, batching, mode, adapted, chunk_size):
    params, (first, second, third, query) = mlp_problem(4)
    batches = [first, second, third]
    inner = InnerLoop(mlp_loss, rule, 3, mode, batching, chunk_size, adapted)
    expected = loop_by_hand(
        params, batches, query, rule, first_order=mode == "first_order", adapted=adapted
    )
    assert_equal_to(adapt(params, PerStep(batches), inner), expected[0])
    assert_equal_to(meta_gradient(params, PerStep(batches), query, inner), expected[1:])
    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    tasks = adapt(leaves, PerStep(batches), inner)
    torch.func.vmap(mlp_loss)(tasks, query).mean().backward()
    assert_equal_to({name: p.grad for name, p in leaves.items()}, expected[2])


@rules
@batchings
@pytest.mark.parametrize("mode", ["unrolled", "recurrence"])
def test_the_meta_gradient_equals_finite_differences_of_adapting_and_querying(rule, batching, mode):
    params, (support, query) = mlp_problem()
    inner = InnerLoop(mlp_loss, rule, 3, mode, batching)

    def outer(values: Params) -> Tensor:
        return torch.func.vmap(mlp_loss)(adapt(values, support, inner), query).mean()

    _, gradient = meta_gradient(params, support, query, inner)
    expected = by_finite_differences(outer, params)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-8)


@batchings
@modes
def test_momentum_of_zero_is_plain_descent(batching, mode):
    params, (support, query) = mlp_problem()

    def step(
        values: Params, grads: Params, state: RuleState, loss: Tensor
    ) -> tuple[Params, RuleState]:
        del loss
        return {name: p - 0.1 * grads[name] for name, p in values.items()}, state

    loops = [
        InnerLoop(mlp_loss, rule, 3, mode, batching)
        for rule in (StatefulRule(zero_velocities, step), sgd(0.1))
    ]
    results = [meta_gradient(params, support, query, inner) for inner in loops]
    assert_equal_to(*results)


@rules
@batchings
@modes
def test_single_steps_carry_the_state(rule, batching, mode):
    params, (first, second) = mlp_problem()
    inner = InnerLoop(mlp_loss, rule, 2, mode, batching)
    leaves = {name: p.requires_grad_() for name, p in params.items()}
    state = initial_task_state(leaves, inner, NUM_TASKS)
    for batch in (first, second):
        state = stateful_step(state, batch, inner)
    path = adapt_path(params, PerStep([first, second]), inner)
    assert_equal_to(state.params, {name: p.detach() for name, p in path[-1].items()})
    parts = [*state.params.values(), *state.rule_state.values()]
    assert not any(p.requires_grad for p in parts)
    assert all(p.shape[0] == NUM_TASKS for p in parts)
    forgotten = stateful_step(
        initial_task_state(params, inner, NUM_TASKS)._replace(params=path[1]), second, inner
    )
    assert not torch.allclose(forgotten.params["weight_0"], state.params["weight_0"])


@batchings
def test_a_step_of_a_rule_without_a_state_is_an_inner_step(batching):
    params, (first, _) = mlp_problem()
    inner = InnerLoop(mlp_loss, sgd(0.1), batching=batching)
    state = initial_task_state(params, inner, NUM_TASKS)
    after = stateful_step(state, first, inner)
    expected = inner_step(state.params, first, inner)
    assert after.rule_state == {}
    assert all(torch.equal(after.params[name], expected[name]) for name in params)


def test_the_state_of_a_task_does_not_depend_on_another():
    params, (support, query) = mlp_problem()
    inner = InnerLoop(mlp_loss, RULES["loss"], 3, "recurrence", "explicit")
    changed = (support[0].clone(), support[1])
    changed[0][1] += 1
    before, after = (adapt(params, data, inner) for data in (support, changed))
    for name in params:
        assert torch.equal(before[name][[0, 2]], after[name][[0, 2]])
        assert not torch.equal(before[name][1], after[name][1])
    assert len(query) == 2


def test_an_explicit_unrolled_loop_with_a_state_can_be_differentiated_twice():
    params, (support, query) = mlp_problem()
    inner = InnerLoop(mlp_loss, RULES["loss"], 2, "unrolled", "explicit")

    def total(*values: Tensor) -> Tensor:
        return mlp_loss(adapt(dict(zip(params, values, strict=True)), support, inner), query).sum()

    leaves = tuple(p.clone().requires_grad_() for p in params.values())
    assert torch.autograd.gradcheck(total, leaves)
    assert torch.autograd.gradgradcheck(total, leaves)


# Errors.


def test_a_single_step_that_would_lose_the_state_is_rejected():
    params, (support, _) = mlp_problem()
    inner = InnerLoop(mlp_loss, RULES["momentum"], batching="explicit")
    start = initial_task_state(params, inner, NUM_TASKS).params
    with pytest.raises(ValueError, match=r"must not be a StatefulRule.*use .*stateful_step"):
        inner_step(start, support, inner)


@batchings
@pytest.mark.parametrize(("lost", "kept"), [("parameters", 1), ("state", 0)])
def test_a_rule_that_loses_a_name_is_rejected(batching, lost, kept):
    params, (support, _) = mlp_problem()

    def step(
        values: Params, grads: Params, state: RuleState, loss: Tensor
    ) -> tuple[Params, RuleState]:
        after = [*momentum_step(values, grads, state, loss)]
        after[1 - kept] = {n: p for n, p in after[1 - kept].items() if n != "bias_0"}
        return after[0], after[1]

    inner = InnerLoop(mlp_loss, StatefulRule(zero_velocities, step), batching=batching)
    with pytest.raises(ValueError, match=f"must return the {lost} that it gets, .*'bias_0'.*, got"):
        adapt(params, support, inner)
