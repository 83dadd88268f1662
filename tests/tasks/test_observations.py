"""Flattened observations: selection of keys, dtype, and images restored from their columns."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces

sys.path.append(str(Path(__file__).parents[1] / "support"))

from pixel_families import OBSERVATIONS, Mission, OddObservations

from metarl.soundness.check import check_family
from metarl.tasks.observations import find_images, flat_box, float_dtype, selected_space

SHAPES = {
    "image": [(3, 30, 28)],
    "channels first": [(3, 30, 28)],
    "gray image": [(1, 30, 28)],
    "stack of frames": [(6, 30, 28)],
    "float image": [(3, 28, 30)],
    "image and numbers": [(1, 28, 28)],
    "two images": [(1, 28, 28), (1, 32, 28)],
    "grid of symbols": [(3, 7, 7)],
}


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_images_are_found_with_channels_height_and_width(name):
    images = find_images(OBSERVATIONS[name])
    found = [(image.channels, image.height, image.width) for image in images]
    assert found == SHAPES.get(name, [])


def test_the_channels_of_an_image_are_the_channels_of_its_array():
    for name, axes in {
        "image": (2, 0, 1), "channels first": (0, 1, 2), "stack of frames": (0, 3, 1, 2),
    }.items():  # fmt: skip
        space = OBSERVATIONS[name]
        array = space.sample()
        rows = torch.from_numpy(array).flatten().expand(4, 2, -1)
        image = find_images(space)[0].image(rows)
        expected = array.transpose(axes).reshape(-1, 30, 28)
        assert np.array_equal(image[3, 1].numpy(), expected)


def test_an_image_within_a_dict_is_cut_from_its_columns():
    space = OBSERVATIONS["image and numbers"]
    point = space.sample()
    row = torch.from_numpy(spaces.flatten(space, point).astype(np.float32))
    (image,) = find_images(space)
    assert image.name == "camera"
    assert np.array_equal(image.image(row)[0].numpy(), point["camera"][..., 0])


def test_only_images_of_bytes_stay_bytes():
    bytes_only = {name for name in OBSERVATIONS if flat_box(OBSERVATIONS[name]).dtype == np.uint8}
    assert bytes_only == {"image", "channels first", "gray image", "stack of frames", "two images"}
    assert float_dtype(torch.zeros(1, dtype=torch.uint8)) == torch.float32
    assert float_dtype(torch.zeros(1, dtype=torch.float64)) == torch.float64


def test_pixels_are_large_and_have_a_scale():
    pixels, grid, floats = (
        find_images(OBSERVATIONS[name])[0] for name in ("image", "grid of symbols", "float image")
    )
    assert (pixels.is_pixels, grid.is_pixels, floats.is_pixels) == (True, False, True)
    assert (pixels.scale, grid.scale, floats.scale) == (255, 1, 1)


def test_text_is_named_with_the_keys_that_can_be_used():
    with pytest.raises(
        ValueError,
        match=r"must flatten to a fixed number of numbers, got Dict\(.*; use its numeric part with "
        r"observation_keys = \('direction', 'image'\)$",
    ):
        Mission("all")
    with pytest.raises(ValueError, match=r"convert observations to numbers in make_env"):
        selected_space(spaces.Text(3))
    with pytest.raises(ValueError, match=r"convert observations to numbers in make_env"):
        selected_space(spaces.Tuple((spaces.Discrete(2), spaces.Text(3))))


def test_a_family_observes_only_its_keys_in_their_order():
    numbers, grid = Mission("numbers"), Mission("grid")
    assert numbers.observation_space.shape == (4 + 147,)
    assert grid.observation_space.shape == (147,)
    batches = [f.make_batch([[0.0]], num_envs=2) for f in (numbers, grid)]
    both, alone = (b.reset(torch.Generator().manual_seed(0)) for b in batches)
    assert both[..., :4].sum() == 2
    assert torch.equal(both[..., 4:], alone)


@pytest.mark.parametrize(
    ("space", "keys", "message"),
    [
        (OBSERVATIONS["image"], ("a",), "must be None if observations are not a Dict"),
        (OBSERVATIONS["grid of symbols"], ("grid",), "must be a tuple of keys among direction, im"),
        (OBSERVATIONS["grid of symbols"], (), r"must be a tuple of keys .*, got \(\)"),
        (OBSERVATIONS["grid of symbols"], "image", "must be a tuple of keys .*, got 'image'"),
    ],
)
def test_keys_that_do_not_exist_are_rejected(space, keys, message):
    with pytest.raises(ValueError, match=f"observation_keys {message}"):
        selected_space(space, keys)


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_a_family_of_any_observations_is_sound(name):
    failed = [c for c in check_family(OddObservations(name), num_tasks=2) if c.outcome == "failed"]
    assert [(c.name, c.detail) for c in failed] == []
