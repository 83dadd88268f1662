"""Outer losses of the whole path: a loop by hand, finite differences, identities, errors."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from bilevel_problems import (
    NUM_TASKS,
    STEP,
    assert_equal_to,
    batchings,
    mlp_loss,
    mlp_problem,
    modes,
    relative_distance,
    task_of,
    whole_and_chunked,
)
from stateful_rules import RULES, all_or_head, by_finite_differences
from torch import Tensor

from metarl.bilevel.adaptation import adapt, adapt_path
from metarl.bilevel.inner_loop import Batch, InnerLoop, PerStep
from metarl.bilevel.meta_gradients import TaskPath, meta_gradient
from metarl.parameters import Params


def squared_distance(one: Params, other: Params, task_axes: int) -> Tensor:
    return sum((one[n] - other[n]).square().flatten(task_axes).sum(-1) for n in one)


def outer_loss(path: TaskPath) -> Tensor:
    """Query loss, a proximal term, and a loss of every step's parameters on its support data."""
    task_axes = path.initial["bias_0"].dim() - 1
    support = sum(
        (k + 1) * mlp_loss(params, batch).square()
        for k, (params, batch) in enumerate(zip(path.params, path.support, strict=False))
    )
    near = squared_distance(path.adapted, path.initial, task_axes)
    return mlp_loss(path.adapted, path.query) + 0.3 * near + 0.2 * support


def loop_by_hand(
    params: Params, batches: list[Batch], query: Batch, *, first_order: bool, adapted: Any
) -> tuple[Tensor, Params]:
    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    losses = []
    for task in range(NUM_TASKS):
        path, data = [leaves], [task_of(batch, task) for batch in batches]
        for batch in data:
            names = [name for name in params if adapted is None or name in adapted]
            grads = torch.autograd.grad(
                mlp_loss(path[-1], batch), [path[-1][n] for n in names], create_graph=True
            )
            if first_order:
                grads = tuple(grad.detach() for grad in grads)
            path.append(path[-1] | STEP(path[-1], dict(zip(names, grads, strict=True))))
        losses.append(outer_loss(TaskPath(tuple(path), tuple(data), task_of(query, task))))
    flat = torch.autograd.grad(torch.stack(losses).mean(), list(leaves.values()))
    return torch.stack(losses).detach(), dict(zip(params, flat, strict=True))


@batchings
@modes
@whole_and_chunked
@all_or_head
@pytest.mark.parametrize("num_steps", [0, 1, 3])
def test_an_outer_loss_of_the_path_equals_a_loop_by_hand(
    batching, mode, chunk_size, adapted, num_steps
):
    params, (*batches, query) = mlp_problem(num_steps + 1)
    inner = InnerLoop(mlp_loss, STEP, num_steps, mode, batching, chunk_size, adapted)
    found = meta_gradient(params, PerStep(batches), query, inner, outer_loss=outer_loss)
    expected = loop_by_hand(
        params, batches, query, first_order=mode == "first_order", adapted=adapted
    )
    assert_equal_to(found, expected)


@batchings
@pytest.mark.parametrize("mode", ["unrolled", "recurrence"])
@pytest.mark.parametrize("rule", [STEP, RULES["loss"]], ids=["stateless", "stateful"])
def test_its_gradient_equals_finite_differences_of_the_whole_computation(batching, mode, rule):
    params, (first, second, query) = mlp_problem(3)
    inner = InnerLoop(mlp_loss, rule, 2, mode, batching)
    support = PerStep([first, second])

    def outer(values: Params) -> Tensor:
        path = adapt_path(values, support, inner)
        return outer_loss(TaskPath(path, (first, second), query)).mean()

    _, gradient = meta_gradient(params, support, query, inner, outer_loss=outer_loss)
    expected = by_finite_differences(outer, params)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-8)


@batchings
@modes
def test_an_outer_loss_of_the_adapted_parameters_is_a_query_loss(batching, mode):
    params, (support, query) = mlp_problem()
    inner = InnerLoop(mlp_loss, STEP, 2, mode, batching)
    expected = meta_gradient(params, support, query, inner)
    found = meta_gradient(
        params, support, query, inner, outer_loss=lambda path: mlp_loss(path.adapted, path.query)
    )
    assert_equal_to(found, expected)


@batchings
@modes
def test_an_outer_loss_of_the_initial_parameters_ignores_adaptation(batching, mode):
    params, (support, query) = mlp_problem()
    inner = InnerLoop(mlp_loss, STEP, 2, mode, batching)
    found = meta_gradient(
        params, support, query, inner, outer_loss=lambda path: mlp_loss(path.initial, path.query)
    )
    no_steps = InnerLoop(mlp_loss, STEP, 0, mode, batching)
    assert_equal_to(found, meta_gradient(params, support, query, no_steps))


@batchings
@modes
def test_terms_of_every_part_of_the_path_count(batching, mode):
    params, (first, second, query) = mlp_problem(3)
    inner = InnerLoop(mlp_loss, STEP, 2, mode, batching)
    support = PerStep([first, second])

    def loss_of_step(step: int) -> Any:
        return lambda path: mlp_loss(path.params[step], path.support[0])

    gradients = [
        meta_gradient(params, support, query, inner, outer_loss=loss_of_step(k))[1]
        for k in range(3)
    ]
    for one, other in ((0, 1), (1, 2)):
        assert relative_distance(gradients[one], gradients[other]) > 0.01


@batchings
@modes
@whole_and_chunked
def test_a_path_begins_at_the_start_and_ends_adapted(batching, mode, chunk_size):
    params, (first, second, _) = mlp_problem(3)
    inner = InnerLoop(mlp_loss, STEP, 2, mode, batching, chunk_size)
    leaves = {name: p.requires_grad_() for name, p in params.items()}
    for values in (params, leaves):
        path = adapt_path(values, PerStep([first, second]), inner)
        assert len(path) == 3
        for name, p in params.items():
            assert torch.equal(path[0][name], p.expand(NUM_TASKS, *p.shape))
        one = InnerLoop(mlp_loss, STEP, 1, mode, batching, chunk_size)
        assert_equal_to(path[1], adapt(values, first, one))
        assert_equal_to(path[2], adapt(values, PerStep([first, second]), inner))
    assert all(p.requires_grad for p in path[1].values())


@batchings
@modes
def test_the_path_leaves_no_tensor_behind(batching, mode):
    params, (support, query) = mlp_problem()
    inner = InnerLoop(mlp_loss, STEP, 3, mode, batching, adapted=("weight_1",))

    def living() -> int:
        meta_gradient(params, support, query, inner, outer_loss=outer_loss)
        gc.collect()
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())

    living()
    assert living() == living()


# Errors.


def test_two_outer_losses_are_rejected():
    params, (support, query) = mlp_problem()
    inner = InnerLoop(mlp_loss, STEP)
    with pytest.raises(ValueError, match="query_loss must be None if outer_loss is given"):
        meta_gradient(params, support, query, inner, query_loss=mlp_loss, outer_loss=outer_loss)


def test_an_explicit_outer_loss_that_mixes_the_tasks_is_rejected():
    params, (support, query) = mlp_problem()
    inner = InnerLoop(mlp_loss, STEP, batching="explicit")
    message = r"outer loss must return one value per task, shape \[3\], got shape \[\]"
    with pytest.raises(ValueError, match=message):
        meta_gradient(
            params, support, query, inner, outer_loss=lambda path: outer_loss(path).mean()
        )
