"""Harmonic tasks by their definition: two sines an octave apart, and how they are sampled."""

import math

import pytest
import torch

from metarl.fewshot.data.batches import EpisodeShape
from metarl.fewshot.datasets.curves import HarmonicTasks

CLEAN = HarmonicTasks(noise=0.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sample(tasks: HarmonicTasks, num_tasks: int, points: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All points of each task, support first. Both [tasks, points]."""
    shape = EpisodeShape(1, points // 2, points - points // 2)
    batch = tasks.sample(num_tasks, shape, split="train", generator=generator())
    inputs, targets = (
        torch.cat([half[part] for half in batch], 1).squeeze(-1).double() for part in (0, 1)
    )
    return inputs, targets


def test_support_and_query_are_one_sum_of_two_sines_an_octave_apart():
    """The best frequency leaves no residual, and lies in the range; others leave one."""
    inputs, targets = sample(CLEAN, 10, 40)
    frequencies = torch.linspace(4, 8, 4001, dtype=torch.float64)
    for x, y in zip(inputs, targets, strict=True):
        angles = frequencies[:, None] * x
        waves = [angles.sin(), angles.cos(), (2 * angles).sin(), (2 * angles).cos()]
        features = torch.stack(waves, -1)
        fit = torch.linalg.lstsq(features, y.expand(4001, -1).unsqueeze(-1)).solution
        residuals = (features @ fit).squeeze(-1).sub(y).square().mean(1)
        assert float(residuals.min()) < 1e-4 * float(y.square().mean())
        assert 5 - 1e-2 <= float(frequencies[residuals.argmin()]) <= 7 + 1e-2
        assert float(residuals.median()) > 0.05 * float(y.square().mean())


def test_inputs_scatter_by_one_around_a_center_of_the_task():
    inputs, _ = sample(CLEAN, 2000, 200)
    centers = inputs.mean(1)
    assert float((inputs - centers[:, None]).std()) == pytest.approx(1, abs=0.02)
    assert float(centers.min()) > -4.3
    assert float(centers.max()) < 4.3
    assert float(centers.std()) == pytest.approx(8 / math.sqrt(12), rel=0.05)


def test_targets_have_the_variance_of_two_standard_normal_amplitudes():
    """E[y²] = E[a₁²]/2 + E[a₂²]/2 = 1."""
    _, targets = sample(CLEAN, 4000, 100)
    assert float(targets.square().mean()) == pytest.approx(1, abs=0.07)


def test_noise_is_added_to_the_targets_only():
    clean, noisy = (sample(HarmonicTasks(noise=noise), 300, 50) for noise in (0.0, 0.3))
    assert noisy[0].equal(clean[0])
    assert float((noisy[1] - clean[1]).std()) == pytest.approx(0.3, rel=0.03)


def test_the_protocol_names_noise_and_ranges():
    assert HarmonicTasks().protocol == {
        "frequency": "uniform 5 … 7",
        "center": "uniform -4 … 4",
        "noise": 0.1,
        "split": "one distribution for all",
    }


def test_invalid_arguments_are_rejected():
    with pytest.raises(ValueError, match=r"noise must lie in \[0, ∞\), got -1"):
        HarmonicTasks(noise=-1)
    shape = EpisodeShape(2, 1, 1)
    with pytest.raises(ValueError, match="ways must be 1 for harmonic, which is regression, got 2"):
        CLEAN.sample(1, shape, split="train", generator=generator())
    with pytest.raises(ValueError, match=r"split must be one of .* got 'dev'"):
        CLEAN.sample(1, shape, split="dev", generator=generator())
