"""Omniglot from small archives in the official layout: resizing, splits, cache, damage."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from metarl.fewshot.data.batches import EpisodeShape
from metarl.fewshot.data.class_tasks import ClassTasks
from metarl.fewshot.data.files import DataPlace
from metarl.fewshot.data.packed import decode
from metarl.fewshot.datasets import omniglot
from metarl.fewshot.datasets.omniglot import (
    antialiased_omniglot_tasks,
    omniglot_tasks,
    vinyals_omniglot_tasks,
)

BACKGROUND = {"Greek": 4, "Korean": 2}
EVALUATION = {"Oriya": 3}
SPLIT = {
    "train": {"Greek": [1, 3]},
    "validation": {"Greek": [4, 4], "Korean": [1, 2]},
    "test": {"Oriya": [1, 3]},
}


def drawing(name: str, number: int) -> Image.Image:
    """A 1-bit drawing of its own: ink is 0 on paper 1, as in the official files."""
    seed = sum(map(ord, name)) * 100 + number
    ink = np.random.default_rng(seed).random((105, 105)) < 0.2
    return Image.fromarray(~ink)


def write_archive(path: Path, alphabets: dict[str, int], *, drawings: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for alphabet, characters in alphabets.items():
            for character in range(1, characters + 1):
                for number in range(1, drawings + 1):
                    stream = io.BytesIO()
                    drawing(f"{alphabet}/{character}", number).save(stream, "PNG")
                    name = f"{path.stem}/{alphabet}/character{character:02}/{number:02}.png"
                    archive.writestr(name, stream.getvalue())


@pytest.fixture
def place(tmp_path: Path, monkeypatch) -> DataPlace:
    monkeypatch.setenv("METARL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(omniglot, "_CHARACTERS", (6, 3))
    monkeypatch.setattr(omniglot, "_MAML_SIZES", (5, 1, 3))
    monkeypatch.setattr(omniglot, "packaged_split", lambda _: SPLIT)
    write_archive(tmp_path / "omniglot" / "images_background.zip", BACKGROUND)
    write_archive(tmp_path / "omniglot" / "images_evaluation.zip", EVALUATION)
    return DataPlace(tmp_path, download=False)


def images(tasks: ClassTasks, split: str, name: str) -> torch.Tensor:
    """The 20 drawings of a character as they are sampled, unturned. [20, 28, 28]"""
    data = tasks.data(split)
    index = data.class_names.index(name)
    rows = data.members[data.starts[index] :][:20]
    return decode(data.points[rows], data.encoding).view(20, 28, 28)


def test_nearest_equals_pillows_resizing_of_a_binary_image_with_any_filter(place):
    tasks = vinyals_omniglot_tasks(place)
    found = images(tasks, "validation", "Greek/character04")
    for number in range(1, 21):
        official = drawing("Greek/4", number)
        smoothed = np.asarray(official.resize((28, 28), Image.Resampling.LANCZOS))
        assert found[number - 1].bool().numpy().tolist() == (~smoothed).tolist()
    assert tasks.data("train").encoding == "bits"
    assert tasks.data("train").points.shape == (180, 98)


def test_antialiased_is_gray_with_ink_one(place):
    tasks = antialiased_omniglot_tasks(place)
    split = next(s for s in tasks.splits if "Korean/character02" in tasks.data(s).class_names)
    found = images(tasks, split, "Korean/character02")
    official = drawing("Korean/2", 7).convert("L").resize((28, 28), Image.Resampling.LANCZOS)
    torch.testing.assert_close(found[6], 1 - torch.from_numpy(np.asarray(official) / 255).float())
    assert len(found.unique()) > 20


def test_the_vinyals_split_is_the_list_with_each_rotation_a_class(place):
    tasks = vinyals_omniglot_tasks(place)
    assert tasks.name == "omniglot-vinyals"
    names = {split: tasks.data(split).class_names for split in tasks.splits}
    assert names == {
        "train": ("Greek/character01", "Greek/character02", "Greek/character03"),
        "validation": ("Greek/character04", "Korean/character01", "Korean/character02"),
        "test": ("Oriya/character01", "Oriya/character02", "Oriya/character03"),
    }
    assert tasks.num_classes("train") == 12
    assert tasks.protocol["rotations"] == "classes"
    assert tasks.protocol["resize"] == "nearest 28×28, ink 1"
    assert tasks.protocol["split"] == "Vinyals: 3 train, 3 validation, 3 test"


def test_the_maml_split_is_random_with_sampled_rotations_in_every_split(place):
    tasks, other = omniglot_tasks(place), omniglot_tasks(place, split_seed=2)
    names = [set(tasks.data(split).class_names) for split in tasks.splits]
    assert [len(part) for part in names] == [5, 1, 3]
    assert len(set.union(*names)) == 9
    assert tasks.protocol["rotations"] == "drawn"
    assert tasks.protocol["split_digest"] != other.protocol["split_digest"]
    generator = torch.Generator().manual_seed(0)
    batch = tasks.sample(2, EpisodeShape(3, 1, 19), split="test", generator=generator)
    assert batch.query.inputs.shape == (2, 57, 1, 28, 28)
    assert batch.query.inputs.unique().tolist() == [0, 1]


def test_rotations_can_be_chosen_independently_of_the_split(place):
    tasks = omniglot_tasks(place, split="vinyals", rotations="none")
    assert tasks.protocol["rotations"] == "none"
    assert tasks.num_classes("train") == 3


def test_the_second_start_reads_the_cache(place, monkeypatch):
    first = omniglot_tasks(place).data("train").points

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(omniglot, "read_images", never)
    assert omniglot_tasks(place).data("train").points.equal(first)


def test_extracted_folders_give_the_same(place, tmp_path):
    packed = vinyals_omniglot_tasks(place).data("train").points
    for name in ("images_background", "images_evaluation"):
        archive = tmp_path / "omniglot" / f"{name}.zip"
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(tmp_path / "omniglot")
        archive.unlink()
    assert vinyals_omniglot_tasks(place).data("train").points.equal(packed)


def test_an_incomplete_archive_is_rejected(place, tmp_path):
    write_archive(tmp_path / "omniglot" / "images_evaluation.zip", {"Oriya": 3}, drawings=19)
    message = (
        "images_evaluation.zip must hold 3 characters of 20 drawings, it holds 57 drawings of 3"
    )
    with pytest.raises(ValueError, match=message):
        omniglot_tasks(place)


def test_a_missing_archive_is_named(place, tmp_path):
    (tmp_path / "omniglot" / "images_background.zip").unlink()
    message = r"data set omniglot needs the file .*images_background.zip .*; fetch https://github"
    with pytest.raises(FileNotFoundError, match=message):
        omniglot_tasks(place)


def test_all_missing_archives_are_named_and_folders_are_accepted(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        omniglot_tasks(DataPlace(tmp_path, download=False))
    for name in ("images_background", "images_evaluation"):
        path = tmp_path / "omniglot" / name
        assert f"{path}.zip (or the folder {path})" in str(caught.value)
        assert f"/python/{name}.zip" in str(caught.value)


def test_unknown_options_are_rejected(place):
    with pytest.raises(ValueError, match="resize must be one of nearest, antialiased, got 'near'"):
        omniglot_tasks(place, resize="near")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="split must be one of maml, vinyals, got 'ravi'"):
        omniglot_tasks(place, split="ravi")  # type: ignore[arg-type]
