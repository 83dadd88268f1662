"""Scaling of observations by the bounds of their space."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces

sys.path.append(str(Path(__file__).parents[1] / "support"))

from pixel_families import OBSERVATIONS

from metarl.tasks import observation_features
from metarl.tasks.observation_features import ObservationScaling, RandomProjection
from metarl.tasks.observations import find_images, flat_box


def scaling_of(name: str, *, enabled: bool = True) -> ObservationScaling:
    space = OBSERVATIONS[name]
    return ObservationScaling(flat_box(space), find_images(space), enabled=enabled)


def test_bytes_of_images_become_fractions():
    size = 3 * 30 * 28
    pixels = torch.full((2, size), 51, dtype=torch.uint8)
    scaled = scaling_of("image")(pixels)
    assert scaled.dtype == torch.float32
    assert torch.allclose(scaled, torch.tensor(0.2))
    assert torch.equal(scaling_of("image", enabled=False)(pixels), pixels.float())


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("off-center", [500.0, 1625.0], [-1, 0.5]),
        ("integers", [-3.0, 1000.0], [-1, 1]),
        ("bytes", [0.0, 255.0, 127.5, 0, 0], [-1, 1, 0, -1, -1]),
    ],
)
def test_large_bounds_become_minus_one_and_one(name, given, expected):
    assert scaling_of(name)(torch.tensor(given)).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    "name",
    ["unbounded", "half-bounded", "all integers", "discrete", "multi-binary", "tuple", "0-D",
     "float image", "grid of symbols"],
)  # fmt: skip
def test_other_observations_are_unchanged(name):
    space = OBSERVATIONS[name]
    space.seed(0)
    row = torch.tensor(spaces.flatten(space, space.sample()).astype(np.float32))
    assert scaling_of(name)(row) is row


def test_numbers_next_to_an_image_keep_their_own_scale():
    space = spaces.Dict(
        camera=spaces.Box(0, 255, (28, 28), np.uint8), speed=spaces.Box(0.0, 200.0, (1,)),
        angle=spaces.Box(-1.0, 1.0, (1,)),
    )  # fmt: skip
    point = {"camera": np.full((28, 28), 255, np.uint8), "speed": [50.0], "angle": [0.25]}
    row = torch.tensor(np.asarray(spaces.flatten(space, point), np.float32))
    scaled = ObservationScaling(flat_box(space), find_images(space))(row)
    first = {name: find_images(space)[0].first for name in space.spaces}["camera"]
    assert torch.equal(scaled[first : first + 784], torch.ones(784))
    assert sorted(torch.cat([scaled[:first], scaled[first + 784 :]]).tolist()) == [-0.5, 0.25]


def test_projections_are_linear_nearly_keep_distances_and_are_computed_in_parts(monkeypatch):
    size = 3 * 30 * 28
    points = torch.randint(0, 256, (40, 2, size), dtype=torch.uint8)
    project = RandomProjection(size, scaling_of("image"))
    found = project(points)
    assert found.shape == (40, 2, 64)
    exact = (points.float() / 255).flatten(0, 1)
    distances = torch.cdist(exact, exact) / size**0.5
    ratios = torch.cdist(found.flatten(0, 1), found.flatten(0, 1)) / 8 / distances
    ratios = ratios[~torch.eye(80, dtype=torch.bool)]
    assert ratios.min() > 0.6
    assert ratios.max() < 1.5
    monkeypatch.setattr(observation_features, "_CHUNK_NUMBERS", 7 * size)
    assert torch.allclose(RandomProjection(size, scaling_of("image"))(points), found, atol=1e-5)


def test_a_projection_without_scaling_takes_the_numbers_themselves():
    project = RandomProjection(4, size=3)
    rows = torch.eye(4)
    assert torch.allclose(project(2 * rows), 2 * project(rows))
    assert not torch.allclose(project(rows)[0], project(rows)[1])
