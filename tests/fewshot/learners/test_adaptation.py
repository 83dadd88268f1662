"""Learners that adapt by gradients, against finite differences, solves, torch's optimizers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from fewshot_episodes import (
    CURVES,
    IMAGES,
    VECTORS,
    context,
    episodes,
    generator,
    make_learner,
    start,
    task_of,
)
from torch import Tensor
from torch.nn import functional

from metarl.fewshot.data.batches import LabeledSet
from metarl.fewshot.learners.reptile import minibatches
from metarl.parameters import Params

# Learned rates.


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("meta-sgd", {}),
        ("maml++", {"num_inner_steps": 3}),
        ("learned-momentum", {"num_inner_steps": 2}),
    ],
)
def test_gradients_of_learned_rates_are_finite_differences(name, settings):
    learner = make_learner(name, VECTORS, **settings)
    params, batch = start(learner), episodes(VECTORS)
    _, grads = learner.meta_gradient(params, batch, context())
    rates = [key for key in params if "/" in key]
    assert rates
    step = 1e-6
    for key in rates:
        flat = grads[key].flatten()
        place = int(flat.abs().argmax())
        losses = []
        for s in (step, -step):
            moved = params[key].clone()
            moved.view(-1)[place] += s
            losses.append(learner.meta_loss({**params, key: moved}, batch).mean())
        slope = (losses[0] - losses[1]) / (2 * step)
        torch.testing.assert_close(flat[place], slope, rtol=1e-5, atol=1e-8)
        assert abs(float(slope)) > 1e-8


def test_each_step_has_a_separate_rate_and_the_last_is_repeated():
    learner: Any = make_learner("maml++", VECTORS, num_inner_steps=2)
    params, batch = start(learner), episodes(VECTORS)
    two = {k: p.clone() for k, p in params.items()}
    for key in two:
        if key.startswith("rate/"):
            two[key] = torch.tensor([0.4, 0.1], dtype=torch.float64)
    *_, last = learner.trajectory(two, batch.support, 3)
    plain: Any = make_learner("maml", VECTORS, inner_lr=0.4)
    slow: Any = make_learner("maml", VECTORS, inner_lr=0.1)
    net = {k: p for k, p in params.items() if not k.startswith("rate/")}
    for row in range(3):
        support = task_of(batch, row).support
        current = {k: p[0] for k, p in plain.adapt(net, support).params.items()}
        for _ in range(2):
            current = {k: p[0] for k, p in slow.adapt(current, support).params.items()}
        for key, p in current.items():
            torch.testing.assert_close(last.params[key][row], p)


def test_momentum_is_torchs():
    learner: Any = make_learner("learned-momentum", VECTORS, num_inner_steps=3)
    params, batch = start(learner), task_of(episodes(VECTORS), 0)
    for key in params:
        if key.startswith("rate/"):
            params[key] = torch.tensor(math.log(0.2), dtype=torch.float64)
        if key.startswith("momentum/"):
            params[key] = torch.tensor(math.log(0.7 / 0.3), dtype=torch.float64)
    found = learner.adapt(params, batch.support).params
    net = {k: p.clone().requires_grad_() for k, p in params.items() if "/" not in k}
    optimizer = torch.optim.SGD(net.values(), lr=0.2, momentum=0.7)
    for _ in range(3):
        optimizer.zero_grad()
        logits = learner.backbone.logits(net, batch.support.inputs[0])
        functional.cross_entropy(logits, batch.support.targets[0]).backward()
        optimizer.step()
    for key, p in net.items():
        torch.testing.assert_close(found[key][0], p.detach())


@pytest.mark.parametrize(
    "options",
    [{}, {"chunk_size": 2}, {"differentiation": "recurrence"}, {"differentiation": "first_order"}],
)
def test_the_weights_of_earlier_steps_decrease(options):
    settings = {"num_inner_steps": 3, "multi_step_iterations": 10, **options}
    learner: Any = make_learner("maml++", VECTORS, **settings)
    params, batch = start(learner), episodes(VECTORS)
    alone = {}
    for steps in (1, 2, 3):
        one: Any = make_learner("maml++", VECTORS, num_inner_steps=steps, **options)
        own = {k: p[:steps] if k.startswith("rate/") else p for k, p in params.items()}
        alone[steps] = one.meta_gradient(own, batch, context())[1]
    for iteration, weights in ((0, (1 / 3, 1 / 3, 1 / 3)), (4, (0.2, 0.2, 0.6)), (10, (0, 0, 1))):
        losses, grads = learner.meta_gradient(params, batch, context(iteration))
        torch.testing.assert_close(losses, learner.meta_loss(params, batch))
        for key in ("weight_0", "bias_1"):
            wanted = sum(w * alone[k + 1][key] for k, w in enumerate(weights))
            torch.testing.assert_close(grads[key], wanted)


def test_losses_of_all_steps_share_one_path():
    settings = {"num_inner_steps": 3, "multi_step_iterations": 10}
    learner: Any = make_learner("maml++", VECTORS, **settings)
    params, batch = start(learner), episodes(VECTORS)
    logits, calls = learner.backbone.logits, []

    def counted(*arguments: Any) -> Tensor:
        calls.append(arguments)
        return logits(*arguments)

    object.__setattr__(learner.backbone, "logits", counted)
    learner.meta_gradient(params, batch, context())
    assert len(calls) == 3 + 3  # inner losses, then query losses


def test_second_derivatives_come_after_the_first_order_iterations():
    learner = make_learner("maml", VECTORS, first_order_iterations=5)
    first, exact = (make_learner(name, VECTORS) for name in ("fomaml", "maml"))
    params, batch = start(learner), episodes(VECTORS)
    for iteration, other in ((4, first), (5, exact)):
        found = learner.meta_gradient(params, batch, context(iteration))[1]
        wanted = other.meta_gradient(params, batch, context())[1]
        assert all(torch.equal(found[key], wanted[key]) for key in params)


def test_boil_leaves_the_head_and_anil_the_rest():
    batch = episodes(VECTORS)
    boil: Any = make_learner("boil", VECTORS)
    params = start(boil)
    adapted = boil.adapt(params, batch.support).params
    moved = {k for k, p in adapted.items() if not torch.equal(p[0], params[k])}
    assert moved == {"weight_0", "bias_0"}


def test_anil_is_maml_over_the_head_alone():
    anil: Any = make_learner("anil", VECTORS, num_inner_steps=2)
    params, batch = start(anil), episodes(VECTORS)
    maml: Any = make_learner("maml", VECTORS, num_inner_steps=2)
    leaves = {k: p.clone().requires_grad_() for k, p in params.items()}
    total = torch.zeros((), dtype=torch.float64)
    for row in range(3):
        (inputs, targets, _), (query, wanted, _) = task_of(batch, row)
        head = {k: leaves[k] for k in ("weight_1", "bias_1")}
        for _ in range(2):
            loss = functional.cross_entropy(
                maml.backbone.logits({**leaves, **head}, inputs[0]), targets[0]
            )
            grads = torch.autograd.grad(loss, list(head.values()), create_graph=True)
            head = {k: p - 0.3 * g for (k, p), g in zip(head.items(), grads, strict=True)}
        logits = maml.backbone.logits({**leaves, **head}, query[0])
        total = total + functional.cross_entropy(logits, wanted[0]) / 3
    wanted_grads = torch.autograd.grad(total, list(leaves.values()))
    _, grads_found = anil.meta_gradient(params, batch, context())
    for key, grad in zip(leaves, wanted_grads, strict=True):
        torch.testing.assert_close(grads_found[key], grad)


def test_first_order_anil_differentiates_neither_steps_nor_embedded_support():
    """The net learns from the query only, and the head's start as if the steps were constants."""
    anil: Any = make_learner("anil", VECTORS, num_inner_steps=2, differentiation="first_order")
    params, batch = start(anil), episodes(VECTORS)
    heads = anil.adapt(params, batch.support).params
    leaves = {k: p.clone().requires_grad_() for k, p in params.items()}
    total = torch.zeros((), dtype=torch.float64)
    for row in range(3):
        inputs, targets, _ = task_of(batch, row).query
        moved = {"weight_1": heads["weight"][row], "bias_1": heads["bias"][row]}
        head = {k: leaves[k] + (p - leaves[k]).detach() for k, p in moved.items()}
        logits = anil.backbone.logits({**leaves, **head}, inputs[0])
        total = total + functional.cross_entropy(logits, targets[0]) / 3
    wanted = torch.autograd.grad(total, list(leaves.values()))
    losses, grads = anil.meta_gradient(params, batch, context())
    torch.testing.assert_close(losses.mean(), total.detach())
    exact = make_learner("anil", VECTORS, num_inner_steps=2).meta_gradient(params, batch, context())
    for key, grad in zip(leaves, wanted, strict=True):
        torch.testing.assert_close(grads[key], grad)
        assert not torch.allclose(exact[1][key], grad, rtol=1e-3)


# Implicit gradients.


@pytest.mark.parametrize("problem", [VECTORS, CURVES], ids=["vectors", "curves"])
def test_the_implicit_gradient_is_that_of_a_converged_path(problem):
    settings = {"num_inner_steps": 400, "inner_lr": 0.1, "regularization": 2.0}
    learner: Any = make_learner("imaml", problem, cg_iterations=60, **settings)
    params, batch = start(learner), episodes(problem)
    losses, grads = learner.meta_gradient(params, batch, context())
    leaves = {k: p.requires_grad_() for k, p in params.items()}
    unrolled = learner.meta_loss(leaves, batch)
    torch.testing.assert_close(losses, unrolled.detach())
    wanted = torch.autograd.grad(unrolled.mean(), list(leaves.values()))
    for key, grad in zip(leaves, wanted, strict=True):
        torch.testing.assert_close(grads[key], grad, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("damping", [0.0, 3.0])
def test_the_implicit_gradient_is_an_explicit_solve(damping):
    learner: Any = make_learner(
        "imaml", VECTORS, cg_iterations=100, regularization=5.0, cg_damping=damping
    )
    params, batch = start(learner), task_of(episodes(VECTORS), 0)
    _, grads = learner.meta_gradient(params, batch, context())
    adapted = {k: p[0] for k, p in learner.adapt(params, batch.support).params.items()}
    names, sizes = list(adapted), [p.numel() for p in adapted.values()]

    def loss(vector: Tensor, points: LabeledSet) -> Tensor:
        parts = zip(names, vector.split(sizes), strict=True)
        net = {k: part.view(adapted[k].shape) for k, part in parts}
        logits = learner.backbone.logits(net, points.inputs[0])
        return functional.cross_entropy(logits, points.targets[0])

    flat = torch.cat([p.flatten() for p in adapted.values()])
    hessian = torch.autograd.functional.hessian(lambda v: loss(v, batch.support), flat)
    slope = torch.func.grad(lambda v: loss(v, batch.query))(flat)
    solved = torch.linalg.solve(
        torch.eye(len(flat), dtype=flat.dtype) + hessian / (5 + damping), slope
    )
    found = torch.cat([grads[k].flatten() for k in names])
    torch.testing.assert_close(found, solved, rtol=1e-6, atol=1e-9)
    assert not torch.allclose(found, slope, rtol=1e-2)


def test_each_task_has_separate_conjugate_gradients():
    learner: Any = make_learner("imaml", VECTORS, cg_iterations=2, regularization=0.5)
    params, batch = start(learner), episodes(VECTORS)
    losses, grads = learner.meta_gradient(params, batch, context())
    alone = [learner.meta_gradient(params, task_of(batch, k), context()) for k in range(3)]
    torch.testing.assert_close(torch.cat([loss for loss, _ in alone]), losses)
    for key, grad in grads.items():
        mean = torch.stack([found[key] for _, found in alone]).mean(0)
        torch.testing.assert_close(mean, grad, rtol=1e-9, atol=1e-12)


def test_implicit_adaptation_stays_near_its_start():
    near, far = (
        make_learner("imaml", VECTORS, num_inner_steps=50, inner_lr=0.05, regularization=weight)
        for weight in (10.0, 0.01)
    )
    params, batch = start(near), episodes(VECTORS)
    lengths = []
    for learner in (near, far):
        adapted = learner.adapt(params, batch.support).params
        lengths.append(sum((adapted[k] - params[k]).square().sum() for k in params))
    assert lengths[0] < lengths[1] / 20


# Reptile.


def test_reptile_is_adam_on_minibatches_of_each_task():
    learner: Any = make_learner("reptile", VECTORS, num_inner_steps=4, inner_batch=4, inner_lr=0.05)
    params, batch = start(learner), episodes(VECTORS)
    _, grads = learner.meta_gradient(params, batch, context())
    steps = minibatches(batch.support, 4, 4, context().generator)
    ends: list[Params] = []
    for row in range(3):
        net = {k: p.clone().requires_grad_() for k, p in params.items()}
        optimizer = torch.optim.Adam(net.values(), lr=0.05, betas=(0.0, 0.999))
        for inputs, targets in steps.batches:
            optimizer.zero_grad()
            logits = learner.backbone.logits(net, inputs[row])
            functional.cross_entropy(logits, targets[row]).backward()
            optimizer.step()
        ends.append({k: p.detach() for k, p in net.items()})
    for key, p in params.items():
        wanted = p - torch.stack([end[key] for end in ends]).mean(0)
        torch.testing.assert_close(grads[key], wanted, rtol=1e-6, atol=1e-9)


def test_minibatches_go_through_the_support_in_shuffled_passes():
    inputs = torch.arange(12.0).view(2, 6, 1)
    support = LabeledSet(inputs, inputs.squeeze(-1).long())
    steps = minibatches(support, 6, 4, generator())
    sampled = torch.cat([targets for _, targets in steps.batches], 1)
    for row in range(2):
        for one_pass in sampled[row].split(6):
            assert sorted(one_pass.tolist()) == list(range(6 * row, 6 * row + 6))
    assert not torch.equal(sampled[0] + 6, sampled[1])
    for points, targets in steps.batches:
        assert torch.equal(points.squeeze(-1).long(), targets)


# Context and transfer.


def test_only_the_context_adapts():
    learner: Any = make_learner("cavia", CURVES, num_context=3)
    params, batch = start(learner), episodes(CURVES)
    first, last = learner.trajectory(params, batch.support, 1)
    assert torch.equal(first.params["context"], torch.zeros(3, 3, dtype=torch.float64))
    context = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    inputs, targets, _ = task_of(batch, 1).support
    outputs = learner.backbone.logits({**params, "context": context}, inputs[0])
    (grad,) = torch.autograd.grad((outputs - targets[0]).square().mean(), context)
    torch.testing.assert_close(last.params["context"][1], -0.3 * grad)


def test_a_transferred_head_is_at_the_minimum_of_its_loss():
    learner: Any = make_learner("transfer", VECTORS, head_steps=3000, head_decay=0.1)
    params, batch = start(learner), task_of(episodes(VECTORS), 0)
    adapted = learner.adapt(params, batch.support)
    head = {k: p[0].clone().requires_grad_() for k, p in adapted.params.items()}
    features = functional.normalize(
        learner.backbone.features(params, batch.support.inputs[0]), dim=-1
    )
    logits = functional.linear(features, head["weight"], head["bias"])
    loss = functional.cross_entropy(logits, batch.support.targets[0])
    loss = loss + 0.05 * head["weight"].square().sum()
    for grad in torch.autograd.grad(loss, list(head.values())):
        torch.testing.assert_close(grad, torch.zeros_like(grad), rtol=0, atol=1e-7)


# Batch norm per step.


def test_running_statistics_of_cavia_are_those_of_a_context_of_zero():
    learner: Any = make_learner(
        "cavia", IMAGES, batch_norm="running", num_context=2, filters=(3, 3, 3, 3)
    )
    params, batch = start(learner), episodes(IMAGES)
    assert params["film_bias"].abs().max() > 0
    found = learner.statistics(params, batch)
    inputs = torch.cat([batch.support.inputs, batch.query.inputs], 1)
    context = torch.zeros(3, 2, dtype=torch.float64)
    wanted = learner.backbone.statistics({**params, "context": context}, inputs)
    without = learner.backbone.statistics(params, inputs)
    for name, values in wanted.items():
        torch.testing.assert_close(found[name], values.mean(0))
    assert any(not torch.allclose(without[name], wanted[name]) for name in wanted)
