"""User data: tensors with labels and folders of class folders, in one call."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from metarl.fewshot.data.batches import EpisodeShape
from metarl.fewshot.data.files import DataPlace
from metarl.fewshot.datasets.own import folder_tasks, tensor_tasks

SHAPE = EpisodeShape(2, 1, 2)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


# Tensors.


def test_labeled_tensors_become_episodes_of_the_same_values():
    labels = torch.arange(40) % 10
    inputs = torch.stack([labels.float(), torch.arange(40.0)], 1).view(40, 2, 1)
    tasks = tensor_tasks(inputs, labels, name="mine")
    assert (tasks.name, tasks.input_shape) == ("mine", (2, 1))
    assert [tasks.num_classes(split) for split in tasks.splits] == [6, 2, 2]
    batch = tasks.sample(50, SHAPE, split="train", generator=generator())
    assert batch.query.inputs.shape == (50, 4, 2, 1)
    sampled = batch.query.inputs.view(-1, 2)
    assert bool((sampled[:, 1] % 10 == sampled[:, 0]).all())
    assert tasks.protocol["split"] == "random, seed 0: 6 train, 2 validation, 2 test"


def test_bytes_are_scaled_to_one_and_other_numbers_are_unchanged():
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    for dtype, scale in ((torch.uint8, 255), (torch.int64, 1), (torch.float64, 1)):
        inputs = (labels * 51).to(dtype).view(6, 1)
        tasks = tensor_tasks(inputs, labels, split={"train": ["1", "2"]})
        batch = tasks.sample(9, EpisodeShape(2, 1, 1), split="train", generator=generator())
        assert batch.query.inputs.dtype == torch.float32
        expected = torch.tensor([51.0, 102.0]) / scale
        torch.testing.assert_close(batch.query.inputs.unique(), expected)


def test_a_split_can_be_given_by_names():
    labels = torch.arange(12) % 4
    names = ["ant", "bee", "cat", "dog"]
    split = {"train": ["cat", "ant"], "test": ["bee", "dog"]}
    tasks = tensor_tasks(torch.ones(12, 3), labels, class_names=names, split=split)
    assert tasks.data("train").class_names == ("cat", "ant")
    assert tasks.splits == ("train", "test")


def test_a_split_for_validation_may_have_its_short_name():
    split = {"train": ["0"], "val": ["1"], "test": ["2"]}
    tasks = tensor_tasks(torch.ones(6, 1), torch.arange(6) % 3, split=split)
    assert tasks.splits == ("train", "validation", "test")
    assert tasks.data("validation").class_names == ("1",)
    with pytest.raises(ValueError, match=r"split must be one of .* did you mean 'train'"):
        tensor_tasks(torch.ones(6, 1), torch.arange(6) % 3, split={"trian": ["0"]})


@pytest.mark.parametrize("dtype", ["uint8", ">f4", "float64", "uint16", "int32", "bool"])
@pytest.mark.parametrize("label_dtype", ["int64", "uint8", "uint16", ">i4"])
def test_arrays_are_accepted_like_tensors(dtype, label_dtype):
    labels = np.arange(12) % 3
    inputs = (labels.reshape(12, 1) > 0).astype(dtype)[::-1]
    inputs.flags.writeable = False
    found = tensor_tasks(inputs, labels.astype(label_dtype), validation=0, test=0).data("train")
    tensors = torch.from_numpy(inputs.astype("uint8" if dtype == "uint8" else "float32"))
    expected = tensor_tasks(tensors, torch.from_numpy(labels), validation=0, test=0).data("train")
    assert found.points.equal(expected.points)
    assert found.points.dtype == expected.points.dtype
    assert found.members.equal(expected.members)
    assert found.class_names == expected.class_names


def test_arrays_of_anything_else_are_rejected():
    with pytest.raises(TypeError, match=r"labels must be a tensor or an array of .* of <U1"):
        tensor_tasks(np.ones((2, 1)), np.array(["a", "b"]))
    with pytest.raises(TypeError, match=r"labels must be integers, got torch.float64"):
        tensor_tasks(np.ones((2, 1)), np.ones(2))
    with pytest.raises(TypeError, match="inputs must be a tensor or an array of numbers, got list"):
        tensor_tasks([[1.0], [1.0, 2.0]], np.arange(2))  # type: ignore[arg-type]


def test_two_classes_of_one_name_are_rejected():
    with pytest.raises(ValueError, match="class_names must be distinct, got 'dog' twice"):
        tensor_tasks(torch.ones(3, 1), torch.arange(3), class_names=["dog", "cat", "dog"])


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (torch.ones(3), torch.arange(3), r"inputs must be \[points, ...\] .* got shape \(3,\)"),
        (torch.ones(0, 2), torch.arange(0), r"at least one point, got shape \(0, 2\)"),
        (torch.ones(3, 2), torch.arange(2), r"one for each of the 3 points, got shape \(2,\)"),
        (
            torch.tensor([[1.0], [math.inf]]),
            torch.arange(2),
            "inputs must be finite, got NaN or infinity in point 1",
        ),
    ],
)
def test_invalid_tensors_are_rejected(inputs, labels, message):
    with pytest.raises(ValueError, match=message):
        tensor_tasks(inputs, labels)


def test_labels_that_are_not_integers_are_rejected():
    with pytest.raises(TypeError, match=r"labels must be integers, got torch.float32"):
        tensor_tasks(torch.ones(2, 1), torch.ones(2))


@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64])
def test_labels_of_another_type_are_rejected(dtype):
    with pytest.raises(TypeError, match=f"labels must be integers, got {dtype}"):
        tensor_tasks(torch.ones(2, 1), torch.ones(2, dtype=dtype))


def test_labels_may_be_any_integers_and_cost_nothing_by_their_size():
    """A list with an entry for each number up to the largest label would not fit in memory."""
    labels = torch.tensor([7, 10**15, -3, 7, 10**15, -3])
    inputs = torch.arange(6.0).unsqueeze(1)
    split = {"train": ["7", str(10**15), "-3"]}
    data = tensor_tasks(inputs, labels, split=split).data("train")
    assert data.class_names == ("7", str(10**15), "-3")
    rows = [data.members[s : s + c].tolist() for s, c in zip(data.starts, data.counts, strict=True)]
    assert rows == [[0, 3], [1, 4], [2, 5]]


def test_numbers_without_points_are_no_classes():
    tasks = tensor_tasks(torch.ones(4, 1), torch.tensor([0, 5, 0, 5]), validation=0, test=0)
    assert tasks.num_classes("train") == 2


def test_a_negative_label_has_no_name():
    with pytest.raises(ValueError, match="labels must be 0 to 1, got -1 at index 1"):
        tensor_tasks(torch.ones(2, 1), torch.tensor([0, -1]), class_names=["a", "b"])


def test_labels_beyond_the_names_are_rejected():
    with pytest.raises(ValueError, match="labels must be 0 to 1, got 2 at index 2"):
        tensor_tasks(torch.ones(3, 1), torch.arange(3), class_names=["a", "b"])


# Folders.


def write_classes(folder: Path, names: list[str]) -> Path:
    """Four 6×4 images a class; red is the class, in the order of the names."""
    for index, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(4):
            pixels = np.empty((4, 6, 3), np.uint8)
            pixels[:] = (10 * index, number, 99)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def test_class_folders_become_classes(tmp_path):
    write_classes(tmp_path / "birds", list("abcdefghij"))
    tasks = folder_tasks(DataPlace(tmp_path), path="birds", image_size=8)
    assert (tasks.name, tasks.input_shape) == ("folder", (3, 8, 8))
    assert tasks.protocol["folder"] == "birds"
    names = {split: tasks.data(split).class_names for split in tasks.splits}
    assert sorted(name for part in names.values() for name in part) == list("abcdefghij")
    assert [len(part) for part in names.values()] == [6, 2, 2]
    batch = tasks.sample(30, SHAPE, split="test", generator=generator())
    reds = (batch.query.inputs[:, :, 0, 0, 0] * 255).round().long().unique().tolist()
    assert reds == [10 * "abcdefghij".index(name) for name in names["test"]]


def test_folders_named_for_splits_are_the_splits(tmp_path):
    folders = ["train/a", "train/b", "val/c", "val/d", "test/e", "test/f"]
    path = write_classes(tmp_path / "birds", folders)
    tasks = folder_tasks(DataPlace(), path=path, image_size=4, colors="L")
    assert tasks.data("train").class_names == ("train/a", "train/b")
    assert tasks.data("validation").class_names == ("val/c", "val/d")
    assert tasks.data("test").class_names == ("test/e", "test/f")
    assert tasks.input_shape == (1, 4, 4)
    assert tasks.protocol["resize"] == "4×4 (Lanczos), L / 255"


def test_folders_of_splits_may_have_capitals(tmp_path):
    folders = ["Train/a", "Train/b", "VALID/c", "Validation/d", "Test/e"]
    path = write_classes(tmp_path / "outer" / "birds", folders)
    for place in (path, path.parent):
        tasks = folder_tasks(DataPlace(), path=place, image_size=4)
        assert tasks.data("train").class_names == ("Train/a", "Train/b")
        assert tasks.data("validation").class_names == ("VALID/c", "Validation/d")
        assert tasks.data("test").class_names == ("Test/e",)


def test_a_class_in_two_splits_is_rejected(tmp_path):
    path = write_classes(tmp_path / "birds", ["train/a", "train/b", "test/b", "test/c"])
    message = "in one split only, test/b and train/b have the same name: remove or rename one"
    with pytest.raises(ValueError, match=message):
        folder_tasks(DataPlace(), path=path, image_size=4)


@pytest.mark.parametrize("other", ["extra/c", "c", "testing/c"])
def test_classes_next_to_the_folders_of_splits_are_rejected(tmp_path, other):
    path = write_classes(tmp_path / "birds", ["train/a", "train/b", other])
    message = f"in train, val and test, or none of them; train/a does and {other} does not"
    with pytest.raises(ValueError, match=message):
        folder_tasks(DataPlace(), path=path, image_size=4)


def test_a_class_may_have_the_name_of_a_split(tmp_path):
    path = write_classes(tmp_path / "vehicles", ["train", "car", "bus"])
    tasks = folder_tasks(DataPlace(), path=path, image_size=4, validation=0, test=0)
    assert set(tasks.data("train").class_names) == {"train", "car", "bus"}


def test_the_folder_can_be_named_as_data_dir(tmp_path):
    write_classes(tmp_path / "birds", ["a", "b", "c"])
    tasks = folder_tasks(DataPlace(tmp_path / "birds"), image_size=4, validation=0, test=0.4)
    assert tasks.num_classes("train") == 2
    assert tasks.protocol["folder"] == "birds"


def test_a_folder_around_everything_is_not_part_of_the_names(tmp_path):
    write_classes(tmp_path / "outer" / "birds", ["a", "b", "c"])
    tasks = folder_tasks(DataPlace(), path=tmp_path / "outer", image_size=4, validation=0, test=0.4)
    assert tasks.splits == ("train", "test")
    assert sorted(sum((tasks.data(s).class_names for s in tasks.splits), ())) == ["a", "b", "c"]


def test_invalid_folders_are_rejected(tmp_path):
    place = DataPlace(tmp_path)
    with pytest.raises(ValueError, match="data set folder needs data_dir, the folder that holds"):
        folder_tasks(DataPlace())
    with pytest.raises(FileNotFoundError, match=r"path must be a folder .*absent does not"):
        folder_tasks(place, path="absent")
    write_classes(tmp_path / "birds", ["a", "b"])
    (tmp_path / "birds" / "loose.png").write_bytes((tmp_path / "birds/a/0.png").read_bytes())
    with pytest.raises(ValueError, match=r"must hold class folders .* got loose.png outside"):
        folder_tasks(place, path="birds")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty must hold images, it holds none"):
        folder_tasks(place, path="empty")
    with pytest.raises(ValueError, match="image_size must be 1 or more, got 0"):
        folder_tasks(place, path="birds", image_size=0)
    with pytest.raises(ValueError, match="colors must be one of RGB, L, got 'gray'"):
        folder_tasks(place, path="birds", colors="gray")  # type: ignore[arg-type]
