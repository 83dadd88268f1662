"""Sinusoid tasks by their definition, and MAML against a loop written from the paper."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from metarl.bilevel import Params
from metarl.checkpoints import load_checkpoint, save_checkpoint
from metarl.fewshot import MAML, FewShotBatch, MAMLConfig, SinusoidTasks

TASKS = SinusoidTasks()
SMALL: dict[str, Any] = {"shots": 6, "meta_batch_size": 3, "hidden_sizes": (8,), "inner_lr": 0.05}

modes = pytest.mark.parametrize("mode", ["unrolled", "recurrence", "first_order"])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fitted(points: tuple[Tensor, Tensor]) -> Tensor:
    """Coefficients (a, b) of a sin x + b cos x through the points of each task. [tasks, 2, 1]"""
    inputs, targets = (part.double() for part in points)
    features = torch.cat([inputs.sin(), inputs.cos()], -1)
    return torch.linalg.lstsq(features, targets).solution


def amplitudes_and_phases(batch: FewShotBatch) -> tuple[Tensor, Tensor]:
    """A and φ: A sin(x − φ) = A cos φ · sin x − A sin φ · cos x."""
    sine, cosine = fitted(batch.support).squeeze(-1).unbind(-1)
    return torch.hypot(sine, cosine), torch.atan2(-cosine, sine)


def assert_uniform(values: Tensor, low: float, high: float) -> None:
    """Within the bounds, and each tenth of them as full as it should be."""
    slack = 1e-3 * (high - low)
    assert float(values.min()) >= low - slack
    assert float(values.max()) <= high + slack
    counts, _ = np.histogram(values.numpy(), bins=10, range=(low - slack, high + slack))
    expected = values.numel() / 10
    assert np.abs(counts - expected).max() < 5 * math.sqrt(expected)


# Tasks.


@pytest.mark.parametrize("kind", ["train", "test"])
def test_tasks_are_sinusoids_with_uniform_amplitude_and_phase(kind):
    if kind == "train":
        batch = TASKS.sample(3000, 30, 5, generator())
    else:
        batch = TASKS.sample_for_test(3000, 30, generator())
    amplitudes, phases = amplitudes_and_phases(batch)
    assert_uniform(amplitudes, 0.1, 5.0)
    assert_uniform(phases, 0.0, math.pi)
    correlation = torch.corrcoef(torch.stack([amplitudes, phases]))[0, 1]
    assert abs(correlation) < 5 / math.sqrt(3000)


@pytest.mark.parametrize("kind", ["train", "test"])
def test_support_and_query_lie_on_the_same_curve(kind):
    if kind == "train":
        batch = TASKS.sample(50, 30, 8, generator())
    else:
        batch = TASKS.sample_for_test(50, 30, generator())
    inputs, targets = (part.double() for part in batch.query)
    curves = torch.cat([inputs.sin(), inputs.cos()], -1) @ fitted(batch.support)
    torch.testing.assert_close(curves, targets, rtol=0, atol=1e-4)
    assert not torch.allclose(curves.roll(1, 0), targets, rtol=0, atol=0.1)


def test_inputs_are_uniform_and_each_task_has_its_own():
    batch = TASKS.sample(200, 10, 20, generator())
    for (inputs, targets), points in ((batch.support, 10), (batch.query, 20)):
        assert inputs.shape == targets.shape == (200, points, 1)
        assert_uniform(inputs.flatten(), -5.0, 5.0)
        assert inputs.unique().numel() > 0.99 * inputs.numel()
    assert not torch.isin(batch.support[0], batch.query[0]).all(1).any()


def test_the_query_of_a_test_is_an_even_grid_for_every_task():
    inputs, targets = TASKS.sample_for_test(3, 10, generator(), grid_points=11).query
    expected = torch.arange(-5.0, 6.0).view(1, 11, 1).expand(3, 11, 1)
    torch.testing.assert_close(inputs, expected)
    assert targets.shape == (3, 11, 1)


def test_ranges_can_be_chosen():
    narrow = SinusoidTasks((2.0, 3.0), (1.0, 1.5), (0.0, 4.0))
    batch = narrow.sample(500, 30, 1, generator())
    amplitudes, phases = amplitudes_and_phases(batch)
    assert_uniform(amplitudes, 2.0, 3.0)
    assert_uniform(phases, 1.0, 1.5)
    assert_uniform(batch.support[0].flatten(), 0.0, 4.0)


def test_the_same_generator_gives_the_same_tasks():
    first, again, other = (TASKS.sample(3, 4, 5, generator(seed)) for seed in (0, 0, 1))
    for half in (0, 1):
        for part in (0, 1):
            assert torch.equal(first[half][part], again[half][part])
            assert not torch.isin(first[half][part], other[half][part]).any()


# MAML.


class Recorded:
    """Sinusoid tasks that remember every batch they gave."""

    def __init__(self) -> None:
        self.batches: list[FewShotBatch] = []

    def sample(self, *arguments: Any) -> FewShotBatch:
        self.batches.append(TASKS.sample(*arguments))
        return self.batches[-1]


def learner(*, seed: int = 0, tasks: Any = TASKS, **settings: Any) -> MAML:
    return MAML(tasks, MAMLConfig(**{**SMALL, **settings}), seed=seed)


def trained(num_iterations: int, **settings: Any) -> MAML:
    maml = learner(**settings)
    for _ in range(num_iterations):
        maml.iterate()
    return maml


def error_of_one_task(params: Params, points: tuple[Tensor, Tensor]) -> Tensor:
    """Mean squared error of a net with one hidden layer, points [shots, 1]."""
    hidden = torch.relu(functional.linear(points[0], params["weight_0"], params["bias_0"]))
    outputs = functional.linear(hidden, params["weight_1"], params["bias_1"])
    return ((outputs - points[1]) ** 2).mean()


def query_error(params: Params, batch: FewShotBatch, task: int, num_steps: int) -> Tensor:
    """Algorithm 2, lines 5–7, for one task: descend on the support, measure on the query."""
    support, query = (tuple(part[task] for part in half) for half in batch)
    for _ in range(num_steps):
        loss = error_of_one_task(params, support)
        grads = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        moved = zip(params.items(), grads, strict=True)
        params = {name: p - SMALL["inner_lr"] * grad for (name, p), grad in moved}
    return error_of_one_task(params, query)


def paper_loop(
    params: Params, batches: list[FewShotBatch], num_steps: int
) -> tuple[Params, list[float]]:
    """Algorithm 2 with Adam (Kingma & Ba 2015, alg. 1) as the outer optimiser."""
    first = {name: torch.zeros_like(p) for name, p in params.items()}
    second = {name: torch.zeros_like(p) for name, p in params.items()}
    losses = []
    for t, batch in enumerate(batches, start=1):
        params = {name: p.detach().requires_grad_() for name, p in params.items()}
        num_tasks = len(batch.support[0])
        loss = sum(query_error(params, batch, task, num_steps) for task in range(num_tasks))
        loss = loss / num_tasks
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
    tasks = Recorded()
    maml = learner(tasks=tasks, num_inner_steps=num_steps)
    initial = {name: p.clone() for name, p in maml.params.items()}
    losses = [maml.iterate()["meta/query_mse"] for _ in range(2)]
    assert [len(batch.support[0]) for batch in tasks.batches] == [3, 3]
    expected, expected_losses = paper_loop(initial, tasks.batches, num_steps)
    assert losses == pytest.approx(expected_losses, rel=1e-5)
    for name, p in maml.params.items():
        torch.testing.assert_close(p, expected[name], rtol=0, atol=2e-6)
        assert not torch.allclose(p, initial[name], rtol=0, atol=1e-4)


def test_the_two_second_order_modes_agree_and_first_order_differs():
    unrolled, recurrence, first_order = (
        trained(3, mode=mode, num_inner_steps=2).params
        for mode in ("unrolled", "recurrence", "first_order")
    )
    for name, p in unrolled.items():
        torch.testing.assert_close(recurrence[name], p, rtol=0, atol=1e-5)
    assert any(not torch.allclose(first_order[k], p, atol=1e-4) for k, p in unrolled.items())


@modes
def test_the_same_seed_trains_the_same_net_and_another_seed_another(mode):
    first, again, other = (trained(3, seed=seed, mode=mode).params for seed in (0, 0, 1))
    for name, p in first.items():
        assert torch.equal(p, again[name])
        assert not torch.equal(p, other[name])


def test_the_curve_starts_before_adaptation_and_follows_the_steps():
    maml, batch = trained(3, num_inner_steps=2), TASKS.sample_for_test(4, 6, generator())
    curve = maml.adaptation_curve(batch, 3)
    assert curve.shape == (4, 4)
    shared = {name: p.expand(4, *p.shape) for name, p in maml.params.items()}
    for step, params in ((0, shared), (2, maml.adapt(batch.support))):
        errors = (maml.predict(params, batch.query[0]) - batch.query[1]).square().mean((1, 2))
        np.testing.assert_allclose(curve[step], errors, rtol=1e-5)
    assert not np.allclose(curve[0], curve[1], rtol=1e-3)
    np.testing.assert_array_equal(maml.adaptation_curve(batch, 0), curve[:1])


def test_the_curve_leaves_the_learner_as_it_was():
    maml, batch = trained(1), TASKS.sample_for_test(4, 6, generator())
    before = {name: p.clone() for name, p in maml.params.items()}
    maml.adaptation_curve(batch, 3)
    assert all(torch.equal(p, before[name]) for name, p in maml.params.items())


def test_what_is_saved_and_loaded_predicts_the_same(tmp_path: Path):
    maml = trained(3, activation="tanh", hidden_sizes=(8, 4))
    maml.save(tmp_path / "maml")
    loaded = MAML.load(tmp_path / "maml", TASKS)
    assert (loaded.config, loaded.seed, loaded.num_iterations) == (maml.config, 0, 3)
    support, query = TASKS.sample(4, 6, 5, generator())
    for one in (maml, loaded):
        assert not any(p.requires_grad for p in one.adapt(support).values())
    actual, expected = (one.predict(one.adapt(support), query[0]) for one in (loaded, maml))
    assert torch.equal(actual, expected)


def test_the_checkpoint_of_another_learner_is_refused(tmp_path: Path):
    trained(1).save(tmp_path / "maml")
    tensors, header = load_checkpoint(
        tmp_path / "maml", agent="fewshot-maml", environment="sinusoid"
    )
    save_checkpoint(tmp_path / "other", tensors, {**header, "agent": "maml-trpo"})
    with pytest.raises(ValueError, match="must be of agent 'fewshot-maml', it is of 'maml-trpo'"):
        MAML.load(tmp_path / "other", TASKS)


def test_a_loss_that_is_not_finite_stops_training_and_leaves_the_parameters():
    maml = learner(inner_lr=1e30)
    before = {name: p.clone() for name, p in maml.params.items()}
    message = "iteration 1: query loss of task 0 must be finite; try a smaller inner_lr"
    with pytest.raises(FloatingPointError, match=message):
        maml.iterate()
    assert all(torch.equal(p, before[name]) for name, p in maml.params.items())
    assert maml.num_iterations == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shots": 0}, "shots must be 1 or more, got 0"),
        ({"meta_batch_size": 0}, "meta_batch_size must be 1 or more, got 0"),
        ({"num_inner_steps": -1}, "num_inner_steps must be 0 or more, got -1"),
        ({"inner_lr": 0.0}, r"inner_lr must lie in \(0, ∞\), got 0.0"),
        ({"meta_lr": math.inf}, r"meta_lr must lie in \(0, ∞\), got inf"),
        ({"hidden_sizes": (8, 0)}, "hidden_sizes must be 1 or more, got 0"),
        ({"activation": "sine"}, "activation must be one of relu, tanh, got 'sine'"),
        ({"mode": "second"}, "mode must be .*, got 'second'"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MAMLConfig(**settings)


# Going on.


@pytest.mark.parametrize("stops", [(0,), (2,), (1, 3)])
def test_a_learner_that_was_saved_and_loaded_goes_on_as_if_never_stopped(tmp_path: Path, stops):
    straight, resumed = learner(seed=3), learner(seed=3)
    expected = [straight.iterate() for _ in range(5)]
    seen = []
    for iteration in range(5):
        if iteration in stops:
            resumed.save(tmp_path / "maml")
            resumed = MAML.load(tmp_path / "maml", TASKS)
        seen.append(resumed.iterate())
    assert seen == expected
    assert all(torch.equal(p, straight.params[name]) for name, p in resumed.params.items())


def test_every_iteration_of_every_seed_draws_tasks_of_its_own():
    tasks = Recorded()
    for seed in (0, 1):
        maml = learner(tasks=tasks, seed=seed)
        maml.iterate()
        maml.iterate()
    inputs = torch.cat([batch.support[0].flatten() for batch in tasks.batches])
    assert inputs.unique().numel() == inputs.numel()


def test_a_checkpoint_of_format_1_still_predicts(tmp_path: Path):
    maml = trained(2)
    maml.save(tmp_path / "maml")
    tensors, header = load_checkpoint(
        tmp_path / "maml", agent="fewshot-maml", environment="sinusoid"
    )
    plain = {k.removeprefix("parameters/"): v for k, v in tensors.items() if "optim" not in k}
    old = json.dumps({**header, "format_version": 1})
    (tmp_path / "old").write_bytes(save(plain, metadata={"metarl": old}))
    loaded = MAML.load(tmp_path / "old", TASKS)
    assert loaded.num_iterations == 2
    assert all(torch.equal(p, maml.params[name]) for name, p in loaded.params.items())


def test_parameters_that_are_not_finite_are_not_saved(tmp_path: Path):
    maml = trained(1)
    maml.params["bias_0"] += math.nan
    with pytest.raises(FloatingPointError, match="parameter bias_0 must be finite"):
        maml.save(tmp_path / "maml")
    assert not (tmp_path / "maml").exists()
