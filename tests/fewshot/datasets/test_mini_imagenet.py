"""mini-ImageNet from small archives: splits, channels, lazy loading, and what is missing."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from metarl.fewshot.data.batches import EpisodeShape
from metarl.fewshot.data.files import DataPlace
from metarl.fewshot.datasets import mini_imagenet
from metarl.fewshot.datasets.mini_imagenet import mini_imagenet_tasks

CLASSES = {"train": ["n01", "n02", "n03"], "val": ["n04", "n05"], "test": ["n06", "n07"]}
IMAGES = 4


def photograph(label: str, number: int) -> Image.Image:
    """One plain color: red names the class, green the image, blue is 200."""
    pixels = np.empty((84, 84, 3), np.uint8)
    pixels[:] = (10 * int(label[1:]), number, 200)
    return Image.fromarray(pixels)


@pytest.fixture
def place(tmp_path: Path, monkeypatch) -> DataPlace:
    monkeypatch.setattr(mini_imagenet, "_IMAGES", IMAGES)
    sizes = {"train": ("train", 3), "validation": ("val", 2), "test": ("test", 2)}
    monkeypatch.setattr(mini_imagenet, "_SPLITS", sizes)
    folder = tmp_path / "mini-imagenet"
    folder.mkdir()
    for part, labels in CLASSES.items():
        with zipfile.ZipFile(folder / f"{part}.zip", "w") as archive:
            for label in labels:
                for number in range(IMAGES):
                    stream = io.BytesIO()
                    photograph(label, number).save(stream, "PNG")
                    archive.writestr(f"{label}/{number}.png", stream.getvalue())
    return DataPlace(tmp_path)


def colors(place: DataPlace, split: str) -> torch.Tensor:
    """Red, green, blue of the first pixel of every query point, 0 … 255."""
    generator = torch.Generator().manual_seed(0)
    tasks = mini_imagenet_tasks(place)
    batch = tasks.sample(40, EpisodeShape(2, 1, 3), split=split, generator=generator)
    assert batch.query.inputs.shape == (40, 6, 3, 84, 84)
    assert bool((batch.query.inputs == batch.query.inputs[..., :1, :1]).all())
    return (batch.query.inputs[..., 0, 0] * 255).round().long()


@pytest.mark.parametrize(
    ("split", "reds"), [("train", {10, 20, 30}), ("validation", {40, 50}), ("test", {60, 70})]
)
def test_each_split_has_its_own_classes_and_colors_in_order(place, split, reds):
    sampled = colors(place, split)
    assert set(sampled[..., 0].flatten().tolist()) == reds
    assert set(sampled[..., 1].flatten().tolist()) == set(range(IMAGES))
    assert set(sampled[..., 2].flatten().tolist()) == {200}


def test_folders_give_the_same_data_as_zip_files(place, tmp_path):
    expected = colors(place, "test")
    archive = tmp_path / "mini-imagenet" / "test.zip"
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path / "mini-imagenet" / "test")
    archive.unlink()
    assert colors(place, "test").equal(expected)


def test_a_split_with_other_counts_is_rejected(place, tmp_path):
    with zipfile.ZipFile(tmp_path / "mini-imagenet" / "val.zip", "a") as archive:
        archive.writestr("n99/0.png", b"")
    tasks = mini_imagenet_tasks(place)
    with pytest.raises(ValueError, match=r"val.zip must hold 8 images of 2 classes .* 9 of 3"):
        tasks.data("validation")


def test_classes_are_counted_without_decoding_an_image(place, monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(mini_imagenet, "read_images", never)
    tasks = mini_imagenet_tasks(place)
    assert [tasks.num_classes(split) for split in tasks.splits] == [3, 2, 2]
    with pytest.raises(ValueError, match="split must be one of train, validation, test, got 'val'"):
        tasks.num_classes("val")


def test_a_missing_split_is_named_at_once(place, tmp_path):
    (tmp_path / "mini-imagenet" / "test.zip").unlink()
    with pytest.raises(FileNotFoundError, match=r"needs .*test.zip or a folder .*test, with"):
        mini_imagenet_tasks(place)
