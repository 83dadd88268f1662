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

from metarl.tasks.observation_scaling import ObservationScaling
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
