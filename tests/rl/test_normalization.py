"""Running moments: the moments of all data, however they are split."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.rl.normalization import RunningMoments

CPU = torch.device("cpu")


def stream() -> Tensor:
    """Numbers with different means and deviations; float64, [40, 3]."""
    sampled = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return sampled * torch.tensor([1.0, 100.0, 1e-3]) + torch.tensor([-3.0, 0.0, 5.0])


def seen(pieces: list[Tensor]) -> RunningMoments:
    moments = RunningMoments.empty(3, CPU)
    for piece in pieces:
        moments = moments.updated(piece)
    return moments


@pytest.mark.parametrize(
    "sizes",
    [[40], [1] * 40, [1, 39], [39, 1], [7, 0, 13, 20], [0, 40]],
    ids=lambda sizes: "+".join(map(str, sizes[:4])),
)
def test_moments_equal_numpys_on_all_pieces(sizes):
    moments = seen(list(stream().split(sizes)))
    assert float(moments.count) == 40
    np.testing.assert_allclose(moments.mean, stream().numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.variance, stream().numpy().var(0), rtol=1e-12)


def test_small_deviations_around_large_means_are_not_lost():
    values = stream() * 1e-3 + 1e6
    moments = seen(list(values.split(8)))
    np.testing.assert_allclose(moments.variance, values.numpy().var(0), rtol=1e-4)


def test_an_update_leaves_the_moments_it_began_with():
    before = seen([stream()[:10]])
    kept = {name: part.clone() for name, part in before.tensors().items()}
    before.updated(stream()[10:])
    assert all(torch.equal(part, kept[name]) for name, part in before.tensors().items())


def test_float32_values_are_summed_in_float64():
    values = stream().float()
    moments = seen(list(values.split(8)))
    assert moments.mean.dtype == moments.variance.dtype == torch.float64
    np.testing.assert_allclose(moments.mean, values.double().numpy().mean(0), rtol=1e-12)


def test_normalized_values_have_mean_zero_and_deviation_one():
    moments = seen([stream()])
    scaled = moments.normalized(stream())
    torch.testing.assert_close(scaled.mean(0), torch.zeros(3).double(), rtol=0, atol=1e-9)
    expected = (moments.variance / (moments.variance + 1e-8)).sqrt()  # 1 except for tiny deviations
    torch.testing.assert_close(scaled.std(0, correction=0), expected)
    assert expected[:2].sub(1).abs().max() < 1e-6


def test_normalized_values_keep_dtype_and_leading_axes_and_stay_within_the_clip():
    moments = seen([stream()])
    values = torch.full((2, 5, 3), 1e9)
    scaled = moments.normalized(values)
    assert (scaled.dtype, scaled.shape) == (torch.float32, (2, 5, 3))
    assert torch.equal(scaled, torch.full((2, 5, 3), 10.0))
    assert torch.equal(moments.normalized(-values, clip=2.5), torch.full((2, 5, 3), -2.5))


def test_before_any_data_normalizing_changes_nothing():
    values = torch.tensor([[0.5, -2.0, 9.0]])
    torch.testing.assert_close(RunningMoments.empty(3, CPU).normalized(values), values)


def test_a_constant_is_normalized_to_zero():
    moments = seen([torch.full((10, 3), 4.0)])
    assert moments.normalized(torch.full((1, 3), 4.0)).tolist() == [[0, 0, 0]]
