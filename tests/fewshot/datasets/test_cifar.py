"""CIFAR-FS and FC100 from files in the official layout, and pickles that are more than arrays."""

from __future__ import annotations

import json
import pickle
import tarfile
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from metarl.fewshot.data.batches import EpisodeShape
from metarl.fewshot.data.files import DataPlace
from metarl.fewshot.datasets import cifar
from metarl.fewshot.datasets.cifar import cifar_fs_tasks, fc100_tasks

SPLITS = json.loads(
    resources.files("metarl.fewshot.datasets").joinpath("assets/cifar_splits.json").read_text()
)
FINE = sorted(name for names in SPLITS["cifar-fs"].values() for name in names)
COARSE = sorted(name for names in SPLITS["fc100"].values() for name in names)


def write(folder: Path, file: str, content: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(pickle.dumps(content, protocol=2))


def write_set(folder: Path) -> None:
    """Six images a class, five of them to train; class i is in superclass i // 5.

    The pixels are i in red, the number of the image in green, and 7 in blue.
    """
    names = {
        b"fine_label_names": [name.encode() for name in FINE],
        b"coarse_label_names": [name.encode() for name in COARSE],
    }
    write(folder, "meta", names)
    for file, numbers in (("train", range(5)), ("test", range(5, 6))):
        labels = [label for label in range(100) for _ in numbers]
        pixels = np.empty((len(labels), 3, 1024), np.uint8)
        pixels[:, 0] = np.array(labels)[:, None]
        pixels[:, 1] = np.tile(numbers, 100)[:, None]
        pixels[:, 2] = 7
        part = {
            b"data": pixels.reshape(-1, 3072),
            b"fine_labels": labels,
            b"coarse_labels": [label // 5 for label in labels],
        }
        write(folder, file, part)


@pytest.fixture
def place(tmp_path: Path) -> DataPlace:
    write_set(tmp_path / "cifar-100-python")
    return DataPlace(tmp_path, download=False)


def test_cifar_fs_has_the_published_classes(place):
    tasks = cifar_fs_tasks(place)
    for split, names in SPLITS["cifar-fs"].items():
        assert set(tasks.data(split).class_names) == set(names)
    assert [tasks.num_classes(split) for split in tasks.splits] == [64, 16, 20]


def test_fc100_is_split_by_superclass(place):
    tasks = fc100_tasks(place)
    assert [tasks.num_classes(split) for split in tasks.splits] == [60, 20, 20]
    for split, superclasses in SPLITS["fc100"].items():
        found = {COARSE[FINE.index(name) // 5] for name in tasks.data(split).class_names}
        assert found == set(superclasses)


def test_all_images_are_used_and_channels_are_in_order(place):
    tasks = cifar_fs_tasks(place)
    generator = torch.Generator().manual_seed(0)
    batch = tasks.sample(9, EpisodeShape(5, 1, 5), split="test", generator=generator)
    assert batch.query.inputs.shape == (9, 25, 3, 32, 32)
    together = torch.cat([batch.support.inputs, batch.query.inputs], 1)
    red, green, blue = (together[..., 0, 0] * 255).round().long().unbind(-1)
    assert {FINE[label] for label in red.flatten().tolist()} <= set(SPLITS["cifar-fs"]["test"])
    assert sorted(green[0].tolist()) == sorted(5 * list(range(6)))
    assert blue.unique().tolist() == [7]


def test_the_archive_gives_the_same_data_as_the_folder(place, tmp_path):
    folder = tmp_path / "cifar-100-python"
    with tarfile.open(tmp_path / "cifar-100-python.tar.gz", "w:gz") as archive:
        archive.add(folder, arcname="cifar-100-python")
    expected = cifar_fs_tasks(place).data("train")
    folder.rename(tmp_path / "elsewhere")
    found = cifar_fs_tasks(place).data("train")
    assert found.points.equal(expected.points)
    assert found.class_names == expected.class_names


def test_python_2_pickles_are_read(tmp_path):
    """The official files contain old names of NumPy's modules."""
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    plain = pickle.dumps({b"data": array, b"fine_labels": [1, 2]}, protocol=2)
    old = plain.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert old != plain
    (tmp_path / "train").write_bytes(old)
    held = cifar._read(tmp_path, "train")
    assert held[b"data"].tolist() == array.tolist()
    assert held[b"fine_labels"] == [1, 2]


class Trap:
    """Unpickling it would run a command."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (__import__("os").system, ("false",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(Trap()), r"meta of .* is damaged: it uses \w+.system, which arrays"),
        (b"", "meta of .* is damaged"),
        (b"nonsense", "meta of .* is damaged"),
        (pickle.dumps([1]), "meta of .* is damaged: it must hold a dictionary"),
        (pickle.dumps({b"fine_label_names": []}), "is not CIFAR-100 as published"),
    ],
)
def test_damaged_and_dangerous_files_are_rejected(place, tmp_path, content, message):
    (tmp_path / "cifar-100-python" / "meta").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        cifar_fs_tasks(place)


def test_missing_files_are_named(place, tmp_path):
    (tmp_path / "cifar-100-python" / "test").unlink()
    with pytest.raises(ValueError, match="cifar-100-python must hold 'test' of CIFAR-100"):
        cifar_fs_tasks(place)
    nowhere = DataPlace(tmp_path / "empty", download=False)
    with pytest.raises(
        FileNotFoundError, match=r"needs .*python.tar.gz \(or the folder .*-python\); fetch"
    ):
        fc100_tasks(nowhere)
