"""Sinusoid tasks by their definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.fewshot import EpisodeShape, FewShotBatch, LabeledSet, SinusoidTasks

TASKS = SinusoidTasks()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fitted(points: LabeledSet) -> Tensor:
    """Coefficients (a, b) of a sin x + b cos x through the points of each task. [tasks, 2, 1]"""
    inputs, targets = (part.double() for part in points[:2])
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
        batch = TASKS.sample(3000, EpisodeShape(1, 30, 5), split="train", generator=generator())
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
        batch = TASKS.sample(50, EpisodeShape(1, 30, 8), split="train", generator=generator())
    else:
        batch = TASKS.sample_for_test(50, 30, generator())
    inputs, targets = (part.double() for part in batch.query[:2])
    curves = torch.cat([inputs.sin(), inputs.cos()], -1) @ fitted(batch.support)
    torch.testing.assert_close(curves, targets, rtol=0, atol=1e-4)
    assert not torch.allclose(curves.roll(1, 0), targets, rtol=0, atol=0.1)


def test_inputs_are_uniform_and_each_task_has_its_own():
    batch = TASKS.sample(200, EpisodeShape(1, 10, 20), split="train", generator=generator())
    for (inputs, targets, _), points in ((batch.support, 10), (batch.query, 20)):
        assert inputs.shape == targets.shape == (200, points, 1)
        assert_uniform(inputs.flatten(), -5.0, 5.0)
        assert inputs.unique().numel() > 0.99 * inputs.numel()
    assert not torch.isin(batch.support[0], batch.query[0]).all(1).any()


def test_the_query_of_a_test_is_an_even_grid_for_every_task():
    inputs, targets, _ = TASKS.sample_for_test(3, 10, generator(), grid_points=11).query
    expected = torch.arange(-5.0, 6.0).view(1, 11, 1).expand(3, 11, 1)
    torch.testing.assert_close(inputs, expected)
    assert targets.shape == (3, 11, 1)


def test_ranges_can_be_chosen():
    narrow = SinusoidTasks((2.0, 3.0), (1.0, 1.5), (0.0, 4.0))
    batch = narrow.sample(500, EpisodeShape(1, 30, 1), split="train", generator=generator())
    amplitudes, phases = amplitudes_and_phases(batch)
    assert_uniform(amplitudes, 2.0, 3.0)
    assert_uniform(phases, 1.0, 1.5)
    assert_uniform(batch.support[0].flatten(), 0.0, 4.0)


def test_the_same_generator_gives_the_same_tasks():
    first, again, other = (
        TASKS.sample(3, EpisodeShape(1, 4, 5), split="train", generator=generator(seed))
        for seed in (0, 0, 1)
    )
    for half in (0, 1):
        for part in (0, 1):
            assert torch.equal(first[half][part], again[half][part])
            assert not torch.isin(first[half][part], other[half][part]).any()


def test_the_samples_of_a_generator_are_frozen():
    shape = EpisodeShape(1, 2, 1)
    batch = TASKS.sample(1, shape, split="train", generator=generator(7))
    numbers = [part.flatten().tolist() for half in batch for part in (half.inputs, half.targets)]
    expected = [[1.5921, 1.5689], [2.2409, 2.2044], [-2.6724], [0.4210]]
    for found, frozen in zip(numbers, expected, strict=True):
        assert found == pytest.approx(frozen, abs=1e-4)


def test_all_splits_have_the_same_distribution_as_stated_in_the_protocol():
    shape = EpisodeShape(1, 3, 2)
    first, *others = (
        TASKS.sample(2, shape, split=split, generator=generator()) for split in TASKS.splits
    )
    assert all(other.query.inputs.equal(first.query.inputs) for other in others)
    assert TASKS.protocol == {
        "amplitude": "uniform 0.1 … 5",
        "phase": "uniform 0 … 3.14159",
        "input": "uniform -5 … 5",
        "split": "one distribution for all",
    }


@pytest.mark.parametrize(
    ("ways", "num_tasks", "split", "message"),
    [
        (5, 1, "train", "ways must be 1 for sinusoid, which is regression, got 5"),
        (1, 0, "train", "num_tasks must be 1 or more, got 0"),
        (1, 1, "dev", r"split must be one of train, validation, test, got 'dev'"),
    ],
)
def test_shapes_that_do_not_fit_curves_are_rejected(ways, num_tasks, split, message):
    with pytest.raises(ValueError, match=message):
        TASKS.sample(num_tasks, EpisodeShape(ways, 1, 1), split=split, generator=generator())
