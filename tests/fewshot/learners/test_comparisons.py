"""Learners that compare with the support, against solves, cells and numbers by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from fewshot_episodes import (
    IMAGES,
    VECTORS,
    context,
    episodes,
    generator,
    make_learner,
    normal,
    start,
)
from torch.nn import functional

from metarl.fewshot.contract.metric import Embedded, membership, squared_distances
from metarl.fewshot.contract.problem import Problem
from metarl.fewshot.data.batches import LabeledSet
from metarl.fewshot.learners.matching import attention_logits, encode_query, encode_support
from metarl.fewshot.learners.protonet import prototype_logits
from metarl.fewshot.learners.r2d2 import ridge_weights
from metarl.fewshot.learners.siamese import contrastive_losses
from metarl.nn.lstm_cell import LSTMState, init_lstm, lstm_step
from metarl.parameters import Params

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
    labeled = LabeledSet(support, torch.tensor([[0, 0, 1, 1]]))
    # Prototypes (1, 0) and (0, 4): squared distances 1 and 10, then 10 and 1.
    expected = torch.tensor([[[-1.0, -10.0], [-10.0, -1.0]]])
    torch.testing.assert_close(prototype_logits(support, query, labeled), expected)
    only_first = labeled._replace(mask=torch.tensor([[True, False, True, True]]))
    # The first prototype is (0, 0): squared distances 2 and 9.
    expected = torch.tensor([[[-2.0, -10.0], [-9.0, -1.0]]])
    torch.testing.assert_close(prototype_logits(support, query, only_first), expected)


def test_a_class_without_support_is_never_chosen():
    support = normal(1, 4, 2)
    labeled = LabeledSet(
        support, torch.tensor([[0, 0, 1, 1]]), torch.tensor([[True, True, False, False]])
    )
    logits = prototype_logits(support, 100 * normal(1, 5, 2, seed=1), labeled)
    assert (logits.argmax(-1) == 0).all()
    assert torch.isfinite(logits.log_softmax(-1)[..., 0]).all()


def test_initial_distances_do_not_grow_with_the_image_size():
    """1600 features of 84×84 images, 64 of 28×28; each would add to the distance otherwise."""
    distances = []
    for side in (28, 84):
        problem = Problem("classification", (1, side, side), 3)
        learner = make_learner("protonet", problem, filters=(64, 64, 64, 64))
        params = {name: p.double() for name, p in learner.init(generator()).items()}
        batch = episodes(problem, tasks=1)
        logits = learner.predict(learner.adapt(params, batch.support), batch.query.inputs)
        distances.append(float(-logits.mean()))
    assert 0.5 < distances[1] / distances[0] < 2  # 25 times as many features


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
    members = membership(LabeledSet(support, torch.tensor([[0, 1, 1]])), 2, torch.float32)
    # Cosines 1, 0, 1: weights e, 1, e over 2e + 1.
    shares = torch.tensor([[[math.e, 1 + math.e]]]) / (2 * math.e + 1)
    found = attention_logits(Embedded(support, query), members, None)
    torch.testing.assert_close(found, shares.log())


def test_the_factor_multiplies_the_cosines():
    support = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    query = torch.tensor([[[3.0, 4.0]]])
    members = membership(LabeledSet(support, torch.tensor([[0, 1]])), 2, torch.float32)
    # Cosines 0.6 and 0.8, ten times as large: 6 and 8.
    expected = torch.tensor([[[6.0, 8.0]]]).log_softmax(-1)
    found = attention_logits(Embedded(support, query), members, None, scale=10.0)
    torch.testing.assert_close(found, expected)


def test_the_papers_attention_cannot_lose_less_than_its_documented_bound():
    """The best embeddings that are not negative: orthogonal classes."""
    support = torch.eye(5).unsqueeze(0)
    members = membership(LabeledSet(support, torch.arange(5).unsqueeze(0)), 5, torch.float32)
    losses = -attention_logits(Embedded(support, support), members, None).diagonal(0, 1, 2)
    torch.testing.assert_close(losses, torch.full((1, 5), math.log(1 + 4 / math.e)))


@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_a_learned_factor_starts_at_the_fixed_one(scale):
    settings: dict[str, Any] = {"full_context": False, "scale": scale}
    fixed = make_learner("matching", IMAGES, **settings)
    learned = make_learner("matching", IMAGES, **settings, learn_scale=True)
    params, batch = learned.init(generator()), episodes(IMAGES)
    params = {name: p.double() for name, p in params.items()}
    losses = [one.meta_loss(params, batch) for one in (fixed, learned)]
    torch.testing.assert_close(*losses)
    assert learned.meta_gradient(params, batch, context())[1]["log_scale"].abs() > 1e-6
    assert "log_scale" not in fixed.init(generator())
    assert f"{scale:g}" in str(learned.facts()["adaptation"])


# Ridge regression.


@pytest.mark.parametrize("is_learned", [False, True])
def test_the_ridge_and_the_scale_start_at_their_settings(is_learned):
    learner: Any = make_learner("r2d2", IMAGES, ridge=50.0, scale=10.0, learn_ridge=is_learned)
    params, batch = learner.init(generator()), episodes(IMAGES)
    params = {name: p.double() for name, p in params.items()}
    assert ("log_ridge" in params) == is_learned
    found = learner.predict(learner.adapt(params, batch.support), batch.query.inputs)
    tasks = learner.adapt(params, batch.support)
    both = learner.embed(tasks, batch.query.inputs, None)
    wanted = membership(batch.support, 3, torch.float64)
    weights = ridge_weights(both.support, wanted, 50.0)
    torch.testing.assert_close(found, 10 * both.query @ weights, rtol=1e-6, atol=1e-6)


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


def test_relations_of_maps_are_the_convolutions_of_joined_maps():
    """The first convolution is computed separately for classes and queries."""
    learner: Any = make_learner("relation", IMAGES)
    params, batch = start(learner), episodes(IMAGES)
    scores = learner.predict(learner.adapt(params, batch.support), batch.query.inputs)
    maps = learner.backbone.maps(params, torch.cat([part.inputs for part in batch], 1))
    first, last = maps[:, :6], maps[:, 6:]
    sums = first.unflatten(1, (3, 2)).sum(2)
    pairs = torch.stack(
        [torch.cat([sums[:, k], last[:, q]], 1) for q in range(6) for k in range(3)], 1
    )
    own = {key.removeprefix("relation/"): p for key, p in params.items() if "relation/" in key}
    features = learner._module.features(own, pairs)
    hidden = torch.relu(features @ params["score/weight_0"].mT + params["score/bias_0"])
    wanted = hidden @ params["score/weight_1"].mT + params["score/bias_1"]
    torch.testing.assert_close(scores.flatten(1), wanted.sigmoid().squeeze(-1))


def test_relations_can_be_trained_by_cross_entropy():
    learner: Any = make_learner("relation", IMAGES, loss="cross-entropy")
    params, batch = start(learner), episodes(IMAGES)
    scores = learner.predict(learner.adapt(params, batch.support), batch.query.inputs)
    losses = functional.cross_entropy(
        scores.logit().mT, batch.query.targets, reduction="none"
    ).mean(1)
    torch.testing.assert_close(learner.meta_loss(params, batch), losses)
    assert "cross-entropy" in learner.facts()["adaptation"]


def test_the_relation_loss_is_the_squared_error_of_all_scores():
    learner: Any = make_learner("relation", IMAGES)
    params, batch = start(learner), episodes(IMAGES)
    scores = learner.predict(learner.adapt(params, batch.support), batch.query.inputs)
    wanted = functional.one_hot(batch.query.targets, 3).double()
    expected = (scores - wanted).square().mean((1, 2))
    torch.testing.assert_close(learner.meta_loss(params, batch), expected)
