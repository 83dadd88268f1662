"""All learners: gradients against finite differences and loops, masks, batch norm, transduction."""

from __future__ import annotations

from itertools import pairwise
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

from metarl.fewshot.contract.interface import FewShotLearner
from metarl.fewshot.contract.problem import Problem
from metarl.fewshot.data.batches import FewShotBatch, LabeledSet
from metarl.fewshot.learners.catalog import LEARNERS, recipe
from metarl.parameters import Params

NAMES = [entry.name for entry in LEARNERS]
SHARED_NORM = ("anil", "cavia", "r2d2", "protonet", "matching", "siamese", "transfer")
NORMS = {
    "maml": ("batch", "support", "running", "per-step"),
    "boil": ("batch", "per-step"),
    "meta-sgd": ("batch",),
    "maml++": ("per-step", "support"),
    "learned-momentum": ("batch",),
    "relation": ("batch", "running"),
    **dict.fromkeys(SHARED_NORM, ("batch", "support", "running")),
}
"""Learners whose meta_gradient is the gradient of their meta_loss, and batch norms they take."""

CASES: list[tuple[str, Problem, dict[str, Any]]] = [
    *((name, IMAGES, {"batch_norm": norm}) for name, norms in NORMS.items() for norm in norms),
    *((name, VECTORS, {}) for name in NORMS),
    *((name, CURVES, {}) for name in ("maml", "meta-sgd", "maml++", "anil", "cavia", "r2d2")),
    ("maml", IMAGES, {"differentiation": "recurrence", "num_inner_steps": 2}),
    ("maml", IMAGES, {"pooling": "stride", "num_inner_steps": 2, "chunk_size": 2}),
    ("anil", IMAGES, {"num_inner_steps": 3, "inner_lr": 0.3}),
    ("cavia", IMAGES, {"num_inner_steps": 3, "num_context": 2}),
    ("matching", IMAGES, {"full_context": False}),
    ("matching", IMAGES, {"full_context": False, "scale": 20.0, "learn_scale": True}),
    ("r2d2", IMAGES, {"ridge": 50.0, "learn_ridge": False}),
    ("relation", IMAGES, {"loss": "cross-entropy"}),
]


def case_id(value: object) -> str:
    if isinstance(value, Problem):
        return {IMAGES: "images", VECTORS: "vectors", CURVES: "curves"}[value]
    return "-".join(map(str, value.values())) if isinstance(value, dict) else str(value)


cases = pytest.mark.parametrize(("name", "problem", "settings"), CASES, ids=case_id)
all_learners = pytest.mark.parametrize(
    ("name", "problem"),
    [(name, problem) for name in NAMES for problem in (IMAGES, VECTORS)],
    ids=case_id,
)


def mean_loss(learner: FewShotLearner, params: Params, batch: FewShotBatch) -> Tensor:
    return learner.meta_loss(params, batch).mean()


# Gradients.


@cases
def test_the_meta_gradient_is_the_slope_of_the_meta_loss(name, problem, settings):
    learner = make_learner(name, problem, **settings)
    params, batch = start(learner), episodes(problem)
    losses, grads = learner.meta_gradient(params, batch, context())
    torch.testing.assert_close(losses, learner.meta_loss(params, batch).detach())
    random, step = generator(7), 1e-8
    for _ in range(3):
        along = {
            k: torch.randn(p.shape, generator=random, dtype=p.dtype) for k, p in params.items()
        }
        ahead, behind = (
            mean_loss(learner, {k: p + s * along[k] for k, p in params.items()}, batch)
            for s in (step, -step)
        )
        slope = sum((grads[k] * along[k]).sum() for k in params)
        torch.testing.assert_close(slope, (ahead - behind) / (2 * step), rtol=1e-4, atol=1e-6)


@cases
def test_all_tasks_at_once_are_a_loop_over_the_tasks(name, problem, settings):
    learner = make_learner(name, problem, **settings)
    params, batch = start(learner), episodes(problem)
    losses, grads = learner.meta_gradient(params, batch, context())
    assert not torch.allclose(losses, losses.roll(1))
    alone = [learner.meta_gradient(params, task_of(batch, k), context()) for k in range(3)]
    torch.testing.assert_close(torch.cat([loss for loss, _ in alone]), losses)
    for key in params:
        mean = torch.stack([grad[key] for _, grad in alone]).mean(0)
        torch.testing.assert_close(mean, grads[key], rtol=1e-9, atol=1e-12)


def unbatched_loss(learner: Any, params: Params, batch: FewShotBatch) -> Tensor:
    """MAML as in the paper, by plain autograd and without vectorization."""
    total = torch.zeros((), dtype=torch.float64)
    for k in range(3):
        (inputs, targets, _), (query, wanted, _) = task_of(batch, k)
        current = dict(params)
        for _ in range(learner.config.num_inner_steps):
            logits = learner.backbone.logits(current, inputs)[0]
            loss = torch.nn.functional.cross_entropy(logits, targets[0])
            moved = [n for n in current if not n.startswith(("scale", "offset"))]
            grads = torch.autograd.grad(loss, [current[n] for n in moved], create_graph=True)
            for n, grad in zip(moved, grads, strict=True):
                current[n] = current[n] - learner.config.inner_lr * grad
        logits = learner.backbone.logits(current, query)[0]
        total = total + torch.nn.functional.cross_entropy(logits, wanted[0]) / 3
    return total


@pytest.mark.parametrize("differentiation", ["unrolled", "recurrence"])
@pytest.mark.parametrize("pooling", ["max", "stride"])
def test_maml_of_a_convolutional_net_is_the_papers_loop(differentiation, pooling):
    learner = make_learner(
        "maml",
        IMAGES,
        differentiation=differentiation,
        pooling=pooling,
        num_inner_steps=3,
        inner_lr=0.4,
    )
    params, batch = start(learner), episodes(IMAGES)
    _, grads = learner.meta_gradient(params, batch, context())
    leaves = {name: p.requires_grad_() for name, p in start(learner).items()}
    wanted = torch.autograd.grad(unbatched_loss(learner, leaves, batch), list(leaves.values()))
    for name, grad in zip(leaves, wanted, strict=True):
        torch.testing.assert_close(grads[name], grad, rtol=1e-9, atol=1e-12)


def test_first_order_is_another_gradient_of_the_same_loss():
    exact, first = (make_learner(name, VECTORS, inner_lr=0.5) for name in ("maml", "fomaml"))
    params, batch = start(exact), episodes(VECTORS)
    losses, grads = exact.meta_gradient(params, batch, context())
    same, others = first.meta_gradient(params, batch, context())
    assert torch.equal(same, losses)
    leaves = {k: p.requires_grad_() for k, p in params.items()}
    adapted = exact.adapt({k: p.detach() for k, p in params.items()}, batch.support)
    at_the_end = {k: p.detach().requires_grad_() for k, p in adapted.params.items()}
    logits = exact.predict(adapted._replace(params=at_the_end), batch.query.inputs)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.query.targets.flatten())
    for name, grad in zip(
        leaves, torch.autograd.grad(loss, list(at_the_end.values())), strict=True
    ):
        torch.testing.assert_close(others[name], grad.sum(0))
        assert not torch.allclose(others[name], grads[name], rtol=1e-3)


# Masks.


def padded(points: LabeledSet, extra: int) -> LabeledSet:
    """The same points after masked ones, which are of the first class and far away."""
    noise = 5 + torch.zeros_like(points.inputs[:, :extra])
    targets = torch.zeros_like(points.targets[:, :extra])
    absent = torch.zeros(len(noise), extra, dtype=torch.bool)
    present = torch.ones(points.inputs.shape[:2], dtype=torch.bool)
    return LabeledSet(
        torch.cat([points.inputs[:, :1], noise, points.inputs[:, 1:]], 1),
        torch.cat([points.targets[:, :1], targets, points.targets[:, 1:]], 1),
        torch.cat([present[:, :1], absent, present[:, 1:]], 1),
    )


@pytest.mark.parametrize(
    ("name", "problem", "settings"),
    [case for case in CASES if case[0] != "transfer"] + [("imaml", IMAGES, {})],
    ids=case_id,
)
def test_points_that_do_not_count_change_nothing(name, problem, settings):
    learner = make_learner(name, problem, **settings)
    params, batch = start(learner), episodes(problem)
    masked = FewShotBatch(padded(batch.support, 2), padded(batch.query, 1))
    losses, grads = learner.meta_gradient(params, batch, context())
    same, others = learner.meta_gradient(params, masked, context())
    torch.testing.assert_close(same, losses)
    for key in params:
        torch.testing.assert_close(others[key], grads[key], rtol=1e-8, atol=1e-11)


def more_ways(batch: FewShotBatch) -> FewShotBatch:
    """The tasks, and one more that has all of five classes, so that the others lack two."""
    parts = []
    for points, count in zip(batch, (2, 2), strict=True):
        inputs = torch.cat([points.inputs, points.inputs[:, : 2 * count]], 1)
        targets = torch.cat(
            [points.targets, torch.arange(3, 5).repeat_interleave(count).expand(len(inputs), -1)], 1
        )
        mask = torch.ones(inputs.shape[:2], dtype=torch.bool)
        mask[:-1, points.inputs.shape[1] :] = False
        absent = ~mask.view(*mask.shape, *[1] * (inputs.dim() - 2))
        parts.append(LabeledSet(inputs.masked_fill(absent, 0), targets, mask))
    return FewShotBatch(*parts)


@pytest.mark.parametrize("problem", [IMAGES, VECTORS], ids=case_id)
@pytest.mark.parametrize("name", ["protonet", "r2d2", "matching", "relation", "siamese"])
def test_classes_that_a_task_lacks_change_nothing(name, problem):
    learner = make_learner(name, problem)
    params, batch = start(learner), episodes(problem)
    padded_ways = more_ways(batch)
    losses = learner.meta_loss(params, batch)
    torch.testing.assert_close(learner.meta_loss(params, padded_ways)[:-1], losses[:-1])
    adapted = learner.adapt(params, padded_ways.support)
    outputs = learner.predict(adapted, padded_ways.query.inputs, padded_ways.query.mask)
    counted = outputs[:-1, : batch.query.inputs.shape[1]]
    alone = learner.predict(learner.adapt(params, batch.support), batch.query.inputs)
    torch.testing.assert_close(counted[..., :3], alone[:-1])
    assert (counted[..., 3:].amax(-1) <= counted[..., :3].amax(-1)).all()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "transfer"])
def test_tasks_by_chunks_give_the_gradient_of_all(name):
    whole, chunked = (make_learner(name, IMAGES, chunk_size=size) for size in (None, 2))
    params, batch = start(whole), episodes(IMAGES)
    if name == "reptile":  # its minibatches are sampled for all tasks at once
        pytest.skip("minibatches differ")
    losses, grads = whole.meta_gradient(params, batch, context())
    found, others = chunked.meta_gradient(params, batch, context())
    torch.testing.assert_close(found, losses)
    for key in params:
        torch.testing.assert_close(others[key], grads[key], rtol=1e-9, atol=1e-12)


def test_a_chunk_is_all_that_goes_through_the_net(monkeypatch):
    seen = []
    for name in ("anil", "cavia", "protonet", "imaml"):
        learner: Any = make_learner(name, IMAGES, chunk_size=1)
        features = learner.backbone.features

        def counted(params: Params, inputs: Tensor, *rest: Any, run: Any = features) -> Tensor:
            seen.append(len(inputs))
            return run(params, inputs, *rest)

        monkeypatch.setattr(type(learner.backbone), "features", staticmethod(counted))
        learner.meta_gradient(start(learner), episodes(IMAGES), context())
        monkeypatch.undo()
    assert set(seen) == {1}


def test_masked_points_leave_what_transfer_predicts_as_it_is():
    learner = make_learner("transfer", IMAGES)
    params, batch = start(learner), episodes(IMAGES)
    logits, same = (
        learner.predict(learner.adapt(params, support), batch.query.inputs)
        for support in (batch.support, padded(batch.support, 2))
    )
    torch.testing.assert_close(same, logits)


# Batch norm and transduction.


def predictions(name: str, norm: str, *, rows: slice) -> Tensor:
    """Outputs for the first query point, when it comes with others."""
    learner = make_learner(name, IMAGES, batch_norm=norm)
    params, batch = start(learner), episodes(IMAGES, queries=3)
    if norm == "running":
        running = learner.statistics(params, batch)
        assert running
        params = {**params, **running}
    with torch.no_grad():
        adapted = learner.adapt(params, batch.support)
        return learner.predict(adapted, batch.query.inputs[:, rows])[:, 0]


NORMS = [(name, norm) for name in NAMES for norm in ("batch", "support", "running")]


@pytest.mark.parametrize(("name", "norm"), [p for p in NORMS if p != ("relation", "support")])
def test_the_transductive_variants_depend_on_other_query_points(name, norm):
    together = predictions(name, norm, rows=slice(0, 6))
    alone = predictions(name, norm, rows=slice(0, 1))
    is_transductive = not torch.allclose(together, alone, rtol=1e-6)
    facts = make_learner(name, IMAGES, batch_norm=norm).facts()
    assert is_transductive == facts["transductive"] == (norm == "batch")
    assert str(facts["batch_norm"]).startswith(norm)


@pytest.mark.parametrize("name", ["maml", "protonet", "relation"])
def test_running_statistics_are_those_of_the_activations(name):
    learner = make_learner(name, IMAGES, batch_norm="running", filters=(3,))
    params, batch = start(learner), episodes(IMAGES)
    found = learner.statistics(params, batch)
    both = [
        torch.nn.functional.conv2d(part.inputs.flatten(0, 1), params["weight_0"], padding=1)
        for part in batch
    ]
    if name == "maml":
        adapted = learner.adapt(params, batch.support).params["weight_0"]
        after = torch.stack(
            [
                torch.nn.functional.conv2d(batch.query.inputs[k], adapted[k], padding=1)
                for k in range(3)
            ]
        )
        mean = (both[0].mean((0, 2, 3)) + after.mean((0, 1, 3, 4))) / 2
    else:
        mean = torch.cat(both).mean((0, 2, 3))
    torch.testing.assert_close(found["running_mean_0"], mean)


def test_no_statistics_are_kept_by_default():
    for name in NAMES:
        learner = make_learner(name, IMAGES)
        assert learner.statistics(start(learner), episodes(IMAGES)) == {}


# Adaptation.


@pytest.mark.parametrize("name", [n for n in NAMES if LEARNERS.load(n).has_steps])
def test_the_trajectory_leads_to_what_adapt_gives(name):
    settings: dict[str, Any] = {"num_test_steps": 2} if name == "reptile" else {}
    learner: Any = make_learner(name, IMAGES, num_inner_steps=2, **settings)
    params, batch = start(learner), episodes(IMAGES)
    found = list(learner.trajectory(params, batch.support, 3))
    assert len(found) == 4
    with torch.no_grad():
        outputs = [learner.predict(adapted, batch.query.inputs) for adapted in found]
        wanted = learner.predict(learner.adapt(params, batch.support), batch.query.inputs)
    torch.testing.assert_close(outputs[2], wanted)
    for before, after in pairwise(outputs):
        assert not torch.allclose(before, after)


@all_learners
def test_adaptation_fits_the_support(name, problem):
    settings: dict[str, Any] = {"inner_lr": 0.1} if name in ("maml", "fomaml", "boil") else {}
    learner = make_learner(name, problem, **settings)
    params, batch = start(learner), episodes(problem, shots=1)
    *_, last = learner.trajectory(params, batch.support, 40)
    with torch.no_grad():
        logits = learner.predict(last, batch.support.inputs)
    if name in ("protonet", "siamese", "matching", "r2d2", "transfer"):
        assert torch.equal(logits.argmax(-1), batch.support.targets)
    if learner.has_steps:
        first = next(iter(learner.trajectory(params, batch.support, 0)))
        before = learner.predict(first, batch.support.inputs)
        targets = batch.support.targets.flatten()
        losses = [
            torch.nn.functional.cross_entropy(part.detach().flatten(0, 1), targets)
            for part in (before, logits)
        ]
        assert losses[1] < losses[0]


# Errors.


@pytest.mark.parametrize(
    ("name", "problem", "settings", "message"),
    [
        ("protonet", CURVES, {}, "learner protonet needs a classification data set, got"),
        ("maml", VECTORS, {"backbone": "conv"}, r"backbone conv needs images .*\(5,\); use mlp"),
        ("maml", IMAGES, {"train_ways": 9}, r"train_ways must equal ways \(3\): .*, got 9"),
        ("anil", IMAGES, {"batch_norm": "per-step"}, "batch_norm must be batch, support or"),
        ("imaml", IMAGES, {"batch_norm": "per-step"}, "only maml and its variants have"),
        ("maml", VECTORS, {"batch_norm": "per-step"}, "must be batch with backbone mlp, which has"),
        ("transfer", VECTORS, {"train_ways": 4}, "train_ways must be left out for transfer, whi"),
        ("transfer", VECTORS, {"train_shots": 4}, "train_shots must be left out for transfer, w"),
        ("transfer", VECTORS, {"chunk_size": 4}, "chunk_size must be left out for transfer, whi"),
        ("relation", IMAGES, {"batch_norm": "support"}, "batch_norm must be batch or running"),
        ("maml", IMAGES, {"batch_norm": "bach"}, "got 'bach'; did you mean 'batch'"),
        ("maml", IMAGES, {"filters": (4,) * 5}, "which pooling reduces to nothing"),
        ("siamese", IMAGES, {"margin": 0.0}, r"margin must lie in \(0, ∞\), got 0"),
        ("cavia", IMAGES, {"num_context": 0}, "num_context must be 1 or more, got 0"),
        ("transfer", IMAGES, {"head_decay": 1.0}, r"head_decay must lie in \[0, 0.5\], got 1.0"),
        ("relation", IMAGES, {"pooling": "stride"}, "pooling must be max for relation networks"),
        ("imaml", IMAGES, {"regularization": -1.0}, r"regularization must lie in \(0, ∞\)"),
        ("reptile", IMAGES, {"inner_batch": 0}, "inner_batch must be 1 or more, got 0"),
        (
            "anil",
            IMAGES,
            {"differentiation": "recurrence"},
            "differentiation must be one of unrolled, first_order",
        ),
        ("transfer", IMAGES._replace(num_train_classes=0), {}, "needs a data set with num_cl"),
    ],
)
def test_invalid_combinations_are_rejected(name, problem, settings, message):
    with pytest.raises(ValueError, match=message):
        make_learner(name, problem, **settings)


def test_every_learner_has_a_recipe_for_every_kind_of_data():
    for name in NAMES:
        for dataset in ("sinusoid", "omniglot", "mini-imagenet", "clinc150", "tox21"):
            assert recipe(name, dataset).ways == (2 if dataset == "tox21" else 5)
    assert recipe("maml", "omniglot").inner_lr == 2.0  # type: ignore[attr-defined]
