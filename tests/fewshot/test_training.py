"""Training of few-shot learners: updates against the paper's loop, files, resume."""

from __future__ import annotations

import math
import pickle
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fewshot_runs import (
    GLYPHS,
    SMALL,
    Recorded,
    learner,
    on_glyphs,
    trained,
)
from torch import Tensor
from torch.nn import functional

from metarl.fewshot import (
    DATASETS,
    LEARNERS,
    FewShotBatch,
    FewShotTraining,
    LabeledSet,
    MAMLConfig,
    recipe,
)
from metarl.fewshot.contract.settings import require_used
from metarl.fewshot.learners.catalog import read_learner
from metarl.parameters import Params, copy_state
from metarl.runs.directory import RunDirectory

RESULTS = Path(__file__).parents[2] / "results"
variants = pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("maml", {"differentiation": "unrolled"}),
        ("maml", {"differentiation": "recurrence"}),
        ("fomaml", {}),
    ],
)


# MAML against the paper.


def error_of_one_task(params: Params, points: LabeledSet, task: int) -> Tensor:
    """Mean squared error of a net with one hidden layer."""
    inputs, targets = points.inputs[task], points.targets[task]
    hidden = torch.relu(functional.linear(inputs, params["weight_0"], params["bias_0"]))
    outputs = functional.linear(hidden, params["weight_1"], params["bias_1"])
    return ((outputs - targets) ** 2).mean()


def query_error(params: Params, batch: FewShotBatch, task: int, num_steps: int) -> Tensor:
    """Algorithm 2, lines 5–7, for one task: descend on the support, measure on the query."""
    for _ in range(num_steps):
        loss = error_of_one_task(params, batch.support, task)
        grads = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        moved = zip(params.items(), grads, strict=True)
        params = {name: p - SMALL["inner_lr"] * grad for (name, p), grad in moved}
    return error_of_one_task(params, batch.query, task)


def paper_loop(
    params: Params, batches: list[FewShotBatch], num_steps: int
) -> tuple[Params, list[float]]:
    """Algorithm 2 with Adam (Kingma & Ba 2015, alg. 1) as the outer optimizer."""
    first = {name: torch.zeros_like(p) for name, p in params.items()}
    second = {name: torch.zeros_like(p) for name, p in params.items()}
    losses = []
    for t, batch in enumerate(batches, start=1):
        params = {name: p.detach().requires_grad_() for name, p in params.items()}
        errors = [query_error(params, batch, task, num_steps) for task in range(3)]
        loss = torch.stack(errors).mean()
        losses.append(float(loss.detach()))
        grads = torch.autograd.grad(loss, list(params.values()))
        stepped = {}
        for (name, p), grad in zip(params.items(), grads, strict=True):
            first[name] = 0.9 * first[name] + 0.1 * grad
            second[name] = 0.999 * second[name] + 0.001 * grad**2
            mean, variance = first[name] / (1 - 0.9**t), second[name] / (1 - 0.999**t)
            stepped[name] = (p - 1e-3 * mean / (variance.sqrt() + 1e-8)).detach()
        params = stepped
    return params, losses


@pytest.mark.parametrize("num_steps", [0, 1, 2])
def test_meta_updates_equal_a_loop_written_from_the_paper(num_steps):
    tasks: Any = Recorded()
    training = learner(tasks=tasks, num_inner_steps=num_steps)
    initial = {name: p.clone() for name, p in training.params.items()}
    losses = [training.iterate()["meta/query_mse"] for _ in range(2)]
    assert [len(batch.support.inputs) for batch in tasks.batches] == [3, 3]
    expected, expected_losses = paper_loop(initial, tasks.batches, num_steps)
    assert losses == pytest.approx(expected_losses, rel=1e-5)
    for name, p in training.params.items():
        torch.testing.assert_close(p, expected[name], rtol=0, atol=2e-6)
        assert not torch.allclose(p, initial[name], rtol=0, atol=1e-4)


def test_the_two_second_order_modes_agree_and_first_order_differs():
    unrolled, recurrence, first_order = (
        trained(3, name, num_inner_steps=2, **settings).params
        for name, settings in (
            ("maml", {}),
            ("maml", {"differentiation": "recurrence"}),
            ("fomaml", {}),
        )
    )
    for name, p in unrolled.items():
        torch.testing.assert_close(recurrence[name], p, rtol=0, atol=1e-5)
    assert any(not torch.allclose(first_order[k], p, atol=1e-4) for k, p in unrolled.items())


@variants
def test_the_same_seed_trains_the_same_net_and_another_seed_another(name, settings):
    first, again, other = (trained(3, name, seed=seed, **settings).params for seed in (0, 0, 1))
    for key, p in first.items():
        assert torch.equal(p, again[key])
        assert not torch.equal(p, other[key])


def test_a_loss_that_is_not_finite_stops_training_and_leaves_the_parameters():
    training = learner(inner_lr=1e30)
    before = {name: p.clone() for name, p in training.params.items()}
    message = "iteration 1: query loss of task 0 must be finite; try a smaller inner_lr"
    with pytest.raises(FloatingPointError, match=message):
        training.iterate()
    assert all(torch.equal(p, before[name]) for name, p in training.params.items())
    assert training.num_iterations == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shots": 0}, "shots must be 1 or more, got 0"),
        ({"queries": 0}, "queries must be 1 or more, got 0"),
        ({"meta_batch_size": 0}, "meta_batch_size must be 1 or more, got 0"),
        ({"num_inner_steps": -1}, "num_inner_steps must be 0 or more, got -1"),
        ({"inner_lr": 0.0}, r"inner_lr must lie in \(0, ∞\), got 0.0"),
        ({"meta_lr": math.inf}, r"meta_lr must lie in \(0, ∞\), got inf"),
        ({"clip_gradient": math.nan}, r"clip_gradient must lie in \(0, ∞\), got nan"),
        ({"hidden_sizes": (8, 0)}, "hidden_sizes must be 1 or more, got 0"),
        ({"filters": ()}, r"filters must name at least one block, got \(\)"),
        ({"activation": "sine"}, "activation must be one of relu, tanh, got 'sine'"),
        ({"differentiation": "second"}, "differentiation must be .*, got 'second'"),
        ({"optimizer": "adan"}, "optimizer must be one of adam, sgd, got 'adan'"),
        ({"schedule": "cosin"}, "got 'cosin'; did you mean 'cosine'"),
        (
            {"differentiation": "first_order"},
            "for maml, got 'first_order'; the learner fomaml is MAML",
        ),
    ],
)
def test_settings_out_of_range_are_rejected(settings, message):
    with pytest.raises(ValueError, match=message):
        MAMLConfig(**settings)


@pytest.mark.parametrize(
    ("backbone", "name", "value"),
    [
        ("mlp", "filters", (8, 8)),
        ("mlp", "pooling", "stride"),
        ("mlp", "batch_norm", "running"),
        ("conv", "hidden_sizes", (8,)),
        ("conv", "activation", "tanh"),
    ],
)
def test_given_settings_that_the_net_does_not_use_are_rejected(backbone, name, value):
    config = MAMLConfig(backbone=backbone, **{name: value})
    require_used(config, {"backbone", "shots"})
    require_used(MAMLConfig(backbone=backbone), {"backbone", name})
    require_used(replace(config, backbone={"mlp": "conv", "conv": "mlp"}[backbone]), {name})
    with pytest.raises(
        ValueError, match=f"^{name} must be left out with backbone {backbone}, which does not use"
    ):
        require_used(config, {"backbone", name})


def test_settings_of_published_runs_and_of_all_recipes_are_accepted():
    files = sorted(RESULTS.glob("fewshot/*/*/config.json"))
    assert len(files) > 20
    for file in files:
        stored = RunDirectory(file.parent).config()
        name = stored["agent"].removeprefix("fewshot-")
        present, config = read_learner(name, stored["agent_config"], source=str(file))
        assert present == name
        require_used(config, set())
        assert (config.min_ways, config.min_shots) == (None, None)
    for entry in LEARNERS:
        for dataset in DATASETS:
            recipe(entry.name, dataset.name)


def test_settings_of_another_learner_are_rejected():
    with pytest.raises(TypeError, match="config must be a ProtoNetConfig for protonet, got a MAML"):
        FewShotTraining("protonet", GLYPHS, MAMLConfig())


# Failures.


def test_a_schedule_without_an_end_is_rejected_before_anything_is_changed():
    training = on_glyphs("reptile", decay_iterations=None)
    before = {name: p.clone() for name, p in training.params.items()}
    with pytest.raises(
        ValueError, match="decay_iterations must be given for the schedule 'linear'"
    ):
        training.iterate()
    assert training.num_iterations == 0
    assert all(torch.equal(p, before[name]) for name, p in training.params.items())


# The contract.


def test_learning_stops_after_the_given_iterations_or_by_the_callback():
    training, seen = learner(), []

    def note(learner: FewShotTraining, metrics: dict[str, float]) -> bool:
        assert learner is training
        seen.append(metrics)
        return len(seen) < 3

    assert training.learn(2, callback=note) is training
    assert training.learn(5, callback=note).num_iterations == 3
    straight = learner()
    assert seen == [straight.iterate() for _ in range(3)]
    assert training.learn(0).num_iterations == 3
    with pytest.raises(ValueError, match="num_iterations must be 0 or more, got -1"):
        training.learn(-1)


@pytest.mark.parametrize("name", ["maml", "protonet"])
def test_metrics_are_declared_and_one_is_the_score(name):
    training = learner() if name == "maml" else on_glyphs(name)
    found = training.iterate() | training.validate()
    assert list(found) == list(training.metrics) == list(training.shown_metrics)
    assert training.score in found
    assert training.higher_is_better is (name == "protonet")
    assert all(training.metrics.values())


def test_settings_cannot_be_replaced():
    training = learner()
    with pytest.raises(AttributeError, match="config of a learner in training cannot be replaced"):
        training.config = recipe("maml", "sinusoid")
    assert training.config.inner_lr == 0.05


def bitwise_state(training: FewShotTraining) -> dict[str, Tensor]:
    groups = copy_state(training._state()).items()
    return {f"{group}/{name}": t for group, ts in groups for name, t in ts.items()}


@pytest.mark.parametrize("iterations", [0, 2, 5])
def test_an_iteration_that_fails_half_way_leaves_no_trace(monkeypatch, iterations):
    training, straight = (
        on_glyphs("protonet", batch_norm="running").learn(iterations) for _ in range(2)
    )
    before, step = bitwise_state(training), torch.optim.Adam.step

    def failing(self: torch.optim.Adam, *arguments: Any, **settings: Any) -> None:
        step(self, *arguments, **settings)
        raise MemoryError

    monkeypatch.setattr(torch.optim.Adam, "step", failing)
    with pytest.raises(MemoryError):
        training.iterate()
    monkeypatch.undo()
    after = bitwise_state(training)
    assert training.num_iterations == iterations
    assert all(torch.equal(t, after[name]) for name, t in before.items())
    assert training.iterate() == straight.iterate()
    assert all(torch.equal(t, straight.params[name]) for name, t in training.params.items())


@pytest.mark.parametrize("copy", [deepcopy, lambda training: pickle.loads(pickle.dumps(training))])
@pytest.mark.parametrize("name", ["maml", "protonet", "reptile", "transfer"])
def test_copies_and_pickles_continue_bitwise_identically(name, copy):
    training = on_glyphs(name).learn(2)
    again = copy(training)
    assert (again.name, again.seed, again.config) == (name, training.seed, training.config)
    assert again.num_iterations == 2
    for one in (training, again):
        one.learn(2)
    first, second = bitwise_state(training), bitwise_state(again)
    assert first.keys() == second.keys()
    assert all(torch.equal(t, second[key]) for key, t in first.items())
