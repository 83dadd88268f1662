"""What single learners promise, against solves, sorts, loops and cells written elsewhere."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from fewshot_episodes import (
    CURVES,
    PICTURES,
    VECTORS,
    episodes,
    generator,
    make_learner,
    moment,
    start,
    task_of,
)
from torch import Tensor
from torch.nn import functional

from metarl.bilevel import Params
from metarl.fewshot.batch_norm import Moments, batch_moments, normalize
from metarl.fewshot.batches import LabelledSet
from metarl.fewshot.embedding import Embedded, membership, squared_distances
from metarl.fewshot.lstm import LSTMState, init_lstm, lstm_step
from metarl.fewshot.matching import attention_logits, encode_query, encode_support
from metarl.fewshot.prototypical import prototype_logits
from metarl.fewshot.reptile import minibatches
from metarl.fewshot.ridge import ridge_weights
from metarl.fewshot.siamese import contrastive_losses


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


# Batch norm.


def first(maps: Tensor) -> Tensor:
    """[tasks, points, H, W, C] of the first task as torch lays them, [points, C, H, W]."""
    return maps[0].movedim(-1, 1)


def test_batch_norm_is_torchs():
    maps, scale, offset = normal(1, 6, 4, 5, 3), normal(3, seed=1), normal(3, seed=2)
    expected = functional.batch_norm(first(maps), None, None, scale, offset, training=True)
    found = normalize(maps, batch_moments(maps), scale, offset)
    torch.testing.assert_close(first(found), expected)
    frozen = functional.batch_norm(first(maps), scale, offset.exp(), scale, offset)
    found = normalize(maps, Moments(scale, offset.exp()), scale, offset)
    torch.testing.assert_close(first(found), frozen)


def test_each_task_is_normalised_by_itself_with_its_own_scale_and_offset():
    maps, scale, offset = normal(2, 6, 4, 5, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)
    found = normalize(maps, batch_moments(maps), scale, offset)
    for k in range(2):
        alone = maps[k : k + 1]
        expected = normalize(alone, batch_moments(alone), scale[k], offset[k])
        torch.testing.assert_close(found[k : k + 1], expected)


def test_moments_of_the_points_that_count_are_those_of_the_points_alone():
    maps = normal(2, 6, 4, 5, 3)
    counts = torch.tensor([[True, False, True, True, False, True], [False, True] + 4 * [False]])
    for k in range(2):
        alone = batch_moments(maps[k : k + 1, counts[k]])
        for found, expected in zip(batch_moments(maps, counts), alone, strict=True):
            torch.testing.assert_close(found[k], expected[0])


def test_second_derivatives_of_batch_norm_are_those_of_torchs():
    maps = normal(2, 4, 3, 3, 2).requires_grad_()
    one = torch.ones(2, dtype=torch.float64)

    def theirs(points: Tensor) -> Tensor:
        out = functional.batch_norm(points, None, None, one, one, training=True)
        return out.square().tanh().sum()

    total = normalize(maps, batch_moments(maps), one, one).square().tanh().sum()
    (slopes,) = torch.autograd.grad(total, maps, create_graph=True)
    (found,) = torch.autograd.grad(slopes.square().sum(), maps)
    for k in range(2):
        points = maps[k].movedim(-1, 1).detach().requires_grad_()
        (slope,) = torch.autograd.grad(theirs(points), points, create_graph=True)
        (expected,) = torch.autograd.grad(slope.square().sum(), points)
        torch.testing.assert_close(found[k], expected.movedim(1, -1))


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
    _, grads = learner.meta_gradient(params, batch, moment())
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


def test_each_step_has_a_rate_of_its_own_and_the_last_stays():
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


def test_losses_of_all_steps_count_ever_less():
    settings = {"num_inner_steps": 3, "multi_step_iterations": 10}
    learner: Any = make_learner("maml++", VECTORS, **settings)
    params, batch = start(learner), episodes(VECTORS)
    alone = {}
    for steps in (1, 2, 3):
        one: Any = make_learner("maml++", VECTORS, num_inner_steps=steps)
        own = {k: p[:steps] if k.startswith("rate/") else p for k, p in params.items()}
        alone[steps] = one.meta_gradient(own, batch, moment())[1]
    for iteration, weights in ((0, (1 / 3, 1 / 3, 1 / 3)), (4, (0.2, 0.2, 0.6)), (10, (0, 0, 1))):
        _, grads = learner.meta_gradient(params, batch, moment(iteration))
        for key in ("weight_0", "bias_1"):
            wanted = sum(w * alone[k + 1][key] for k, w in enumerate(weights))
            torch.testing.assert_close(grads[key], wanted)


def test_second_derivatives_come_after_the_first_order_iterations():
    learner = make_learner("maml", VECTORS, first_order_iterations=5)
    first, exact = (make_learner(name, VECTORS) for name in ("fomaml", "maml"))
    params, batch = start(learner), episodes(VECTORS)
    for iteration, other in ((4, first), (5, exact)):
        found = learner.meta_gradient(params, batch, moment(iteration))[1]
        wanted = other.meta_gradient(params, batch, moment())[1]
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
    _, grads_found = anil.meta_gradient(params, batch, moment())
    for key, grad in zip(leaves, wanted_grads, strict=True):
        torch.testing.assert_close(grads_found[key], grad)


# Implicit gradients.


@pytest.mark.parametrize("problem", [VECTORS, CURVES], ids=["vectors", "curves"])
def test_the_implicit_gradient_is_that_of_a_converged_path(problem):
    settings = {"num_inner_steps": 400, "inner_lr": 0.1, "regularization": 2.0}
    learner: Any = make_learner("imaml", problem, cg_iterations=60, **settings)
    params, batch = start(learner), episodes(problem)
    losses, grads = learner.meta_gradient(params, batch, moment())
    leaves = {k: p.requires_grad_() for k, p in params.items()}
    unrolled = learner.meta_loss(leaves, batch)
    torch.testing.assert_close(losses, unrolled.detach())
    wanted = torch.autograd.grad(unrolled.mean(), list(leaves.values()))
    for key, grad in zip(leaves, wanted, strict=True):
        torch.testing.assert_close(grads[key], grad, rtol=1e-6, atol=1e-9)


def test_the_implicit_gradient_is_an_explicit_solve():
    learner: Any = make_learner("imaml", VECTORS, cg_iterations=100, regularization=5.0)
    params, batch = start(learner), task_of(episodes(VECTORS), 0)
    _, grads = learner.meta_gradient(params, batch, moment())
    adapted = {k: p[0] for k, p in learner.adapt(params, batch.support).params.items()}
    names, sizes = list(adapted), [p.numel() for p in adapted.values()]

    def loss(vector: Tensor, points: LabelledSet) -> Tensor:
        parts = zip(names, vector.split(sizes), strict=True)
        net = {k: part.view(adapted[k].shape) for k, part in parts}
        logits = learner.backbone.logits(net, points.inputs[0])
        return functional.cross_entropy(logits, points.targets[0])

    flat = torch.cat([p.flatten() for p in adapted.values()])
    hessian = torch.autograd.functional.hessian(lambda v: loss(v, batch.support), flat)
    slope = torch.func.grad(lambda v: loss(v, batch.query))(flat)
    solved = torch.linalg.solve(torch.eye(len(flat), dtype=flat.dtype) + hessian / 5, slope)
    found = torch.cat([grads[k].flatten() for k in names])
    torch.testing.assert_close(found, solved, rtol=1e-6, atol=1e-9)
    assert not torch.allclose(found, slope, rtol=1e-2)


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
    _, grads = learner.meta_gradient(params, batch, moment())
    steps = minibatches(batch.support, 4, 4, moment().generator)
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
    support = LabelledSet(inputs, inputs.squeeze(-1).long())
    steps = minibatches(support, 6, 4, generator())
    drawn = torch.cat([targets for _, targets in steps.batches], 1)
    for row in range(2):
        for one_pass in drawn[row].split(6):
            assert sorted(one_pass.tolist()) == list(range(6 * row, 6 * row + 6))
    assert not torch.equal(drawn[0] + 6, drawn[1])
    for points, targets in steps.batches:
        assert torch.equal(points.squeeze(-1).long(), targets)


# Closed forms.


@pytest.mark.parametrize(("points", "features"), [(4, 7), (9, 3)])
def test_ridge_weights_are_an_explicit_solve(points, features):
    inputs, targets, ridge = normal(2, points, features), normal(2, points, 3, seed=1), 0.7
    found = ridge_weights(inputs, targets, torch.tensor(ridge, dtype=torch.float64))
    for k in range(2):
        x, y = inputs[k].numpy(), targets[k].numpy()
        stacked = np.vstack([x, math.sqrt(ridge) * np.eye(features)])
        wanted = np.linalg.lstsq(stacked, np.vstack([y, np.zeros((features, 3))]), rcond=None)[0]
        np.testing.assert_allclose(found[k], wanted, rtol=1e-9, atol=1e-12)


def test_a_query_goes_to_the_nearer_prototype():
    support = torch.tensor([[[0.0, 0.0], [2.0, 0.0], [0.0, 3.0], [0.0, 5.0]]])
    query = torch.tensor([[[1.0, 1.0], [0.0, 3.0]]])
    labelled = LabelledSet(support, torch.tensor([[0, 0, 1, 1]]))
    # Prototypes (1, 0) and (0, 4): squared distances 1 and 10, then 10 and 1.
    expected = torch.tensor([[[-1.0, -10.0], [-10.0, -1.0]]])
    torch.testing.assert_close(prototype_logits(support, query, labelled), expected)
    only_first = labelled._replace(mask=torch.tensor([[True, False, True, True]]))
    # The first prototype is (0, 0): squared distances 2 and 9.
    expected = torch.tensor([[[-2.0, -10.0], [-9.0, -1.0]]])
    torch.testing.assert_close(prototype_logits(support, query, only_first), expected)


def test_a_class_without_support_is_never_chosen():
    support = normal(1, 4, 2)
    labelled = LabelledSet(
        support, torch.tensor([[0, 0, 1, 1]]), torch.tensor([[True, True, False, False]])
    )
    logits = prototype_logits(support, 100 * normal(1, 5, 2, seed=1), labelled)
    assert (logits.argmax(-1) == 0).all()
    assert torch.isfinite(logits.log_softmax(-1)[..., 0]).all()


def test_squared_distances_are_those_of_all_pairs():
    a, b = normal(2, 3, 4), normal(2, 5, 4, seed=1)
    torch.testing.assert_close(squared_distances(a, b), torch.cdist(a, b).square())


def test_contrastive_losses_by_hand():
    squared = torch.tensor([[[0.25, 0.36], [4.0, 0.09]]])
    same = torch.tensor([[[True, False], [False, True]]])
    counts = torch.ones_like(same)
    # One class: (0.25 + 0.09) / 2; two classes: ((1 − 0.6)² + 0) / 2.
    torch.testing.assert_close(
        contrastive_losses(squared, same, counts, 1.0), torch.tensor([0.17 + 0.08])
    )
    counts[0, 1] = False
    torch.testing.assert_close(
        contrastive_losses(squared, same, counts, 1.0), torch.tensor([0.25 + 0.16])
    )


# Matching.


def test_the_cell_is_torchs():
    params = {k: p.double() for k, p in init_lstm(5, 4, 4, generator()).items()}
    cell = torch.nn.LSTMCell(5, 4, dtype=torch.float64)
    with torch.no_grad():
        cell.weight_ih.copy_(params["weight_input"])
        cell.weight_hh.copy_(params["weight_hidden"])
        cell.bias_ih.copy_(params["bias"])
        cell.bias_hh.zero_()
    inputs, hidden, carried = normal(3, 5), normal(3, 4, seed=1), normal(3, 4, seed=2)
    found = lstm_step(params, inputs, LSTMState(hidden, carried))
    for ours, theirs in zip(found, cell(inputs, (hidden, carried)), strict=True):
        torch.testing.assert_close(ours, theirs)


def cells(size: int) -> Params:
    params = {}
    for name, fed_back in (("forward", size), ("backward", size), ("query", 2 * size)):
        cell = init_lstm(size, fed_back, size, generator(len(name)))
        params |= {f"{name}/{key}": p.double() for key, p in cell.items()}
    return params


def test_the_support_is_read_both_ways():
    params, features = cells(4), normal(2, 5, 4)
    reader = torch.nn.LSTM(4, 4, bidirectional=True, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for name, suffix in (("forward", ""), ("backward", "_reverse")):
            getattr(reader, f"weight_ih_l0{suffix}").copy_(params[f"{name}/weight_input"])
            getattr(reader, f"weight_hh_l0{suffix}").copy_(params[f"{name}/weight_hidden"])
            getattr(reader, f"bias_ih_l0{suffix}").copy_(params[f"{name}/bias"])
            getattr(reader, f"bias_hh_l0{suffix}").zero_()
        both = reader(features)[0]
    expected = both[..., :4] + both[..., 4:] + features
    torch.testing.assert_close(encode_support(params, features, None), expected)


def test_the_query_looks_at_the_support_step_by_step():
    params, features, context = cells(4), normal(1, 1, 4), normal(1, 3, 4, seed=1)
    hidden = read = carried = torch.zeros(4, dtype=torch.float64)
    own = {key.removeprefix("query/"): p for key, p in params.items() if "query/" in key}
    for _ in range(3):
        found, carried = lstm_step(
            own, features[0, 0], LSTMState(torch.cat([hidden, read]), carried)
        )
        hidden = found + features[0, 0]
        weights = torch.stack([hidden @ g for g in context[0]]).softmax(0)
        read = sum(w * g for w, g in zip(weights, context[0], strict=True))
    torch.testing.assert_close(encode_query(params, features, context, 3, None)[0, 0], hidden)


def test_attention_by_hand():
    support = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]])
    query = torch.tensor([[[5.0, 0.0]]])
    members = membership(LabelledSet(support, torch.tensor([[0, 1, 1]])), 2, torch.float32)
    # Cosines 1, 0, 1: weights e, 1, e over 2e + 1.
    shares = torch.tensor([[[math.e, 1 + math.e]]]) / (2 * math.e + 1)
    found = attention_logits(Embedded(support, query), members, None)
    torch.testing.assert_close(found, shares.log())


# Relation.


def test_relations_score_each_pair_by_itself():
    learner: Any = make_learner("relation", VECTORS)
    params, batch = start(learner), episodes(VECTORS)
    scores = learner.predict(learner.adapt(params, batch.support), batch.query.inputs)
    features = [learner.backbone.features(params, part.inputs) for part in batch]
    for row, query, kind in ((0, 1, 2), (2, 5, 0)):
        total = features[0][row, 2 * kind : 2 * kind + 2].sum(0)
        pair = torch.cat([total, features[1][row, query]])
        hidden = torch.relu(
            functional.linear(pair, params["score/weight_0"], params["score/bias_0"])
        )
        score = functional.linear(hidden, params["score/weight_1"], params["score/bias_1"])
        torch.testing.assert_close(scores[row, query, kind], score.sigmoid().squeeze())


def test_the_relation_loss_is_the_squared_error_of_all_scores():
    learner: Any = make_learner("relation", PICTURES)
    params, batch = start(learner), episodes(PICTURES)
    scores = learner.predict(learner.adapt(params, batch.support), batch.query.inputs)
    wanted = functional.one_hot(batch.query.targets, 3).double()
    expected = (scores - wanted).square().mean((1, 2))
    torch.testing.assert_close(learner.meta_loss(params, batch), expected)


# Context and transfer.


def test_only_the_context_adapts():
    learner: Any = make_learner("cavia", CURVES, num_context=3)
    params, batch = start(learner), episodes(CURVES)
    first, last = learner.trajectory(params, batch.support, 1)
    assert torch.equal(first.context, torch.zeros(3, 3, dtype=torch.float64))
    context = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    inputs, targets, _ = task_of(batch, 1).support
    outputs = learner.backbone.logits({**params, "context": context}, inputs[0])
    (grad,) = torch.autograd.grad((outputs - targets[0]).square().mean(), context)
    torch.testing.assert_close(last.context[1], -0.3 * grad)


def test_a_transferred_head_is_at_the_minimum_of_its_loss():
    learner: Any = make_learner("transfer", VECTORS, head_steps=3000, head_decay=0.1)
    params, batch = start(learner), task_of(episodes(VECTORS), 0)
    adapted = learner.adapt(params, batch.support)
    head = {k: p[0].clone().requires_grad_() for k, p in adapted.head.items()}
    features = functional.normalize(
        learner.backbone.features(params, batch.support.inputs[0]), dim=-1
    )
    logits = functional.linear(features, head["weight"], head["bias"])
    loss = functional.cross_entropy(logits, batch.support.targets[0])
    loss = loss + 0.05 * head["weight"].square().sum()
    for grad in torch.autograd.grad(loss, list(head.values())):
        torch.testing.assert_close(grad, torch.zeros_like(grad), rtol=0, atol=1e-7)
