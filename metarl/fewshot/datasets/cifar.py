"""CIFAR-FS and FC100: the 100 classes of CIFAR-100 split for few-shot learning.

The published files are Python pickles, which can run any code when they are read. The reader here
accepts only the parts of arrays.
"""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from metarl.fewshot.data.class_tasks import ClassTasks
from metarl.fewshot.data.files import DataPlace, OfficialFile, locate, read_limited
from metarl.fewshot.data.packed import ClassData, data_of_labels
from metarl.fewshot.data.splits import listed_split, packaged_split, split_facts, split_loaders

__all__ = ["cifar_fs_tasks", "fc100_tasks"]

_FOLDER = "cifar-100-python"
_SHAPE = (3, 32, 32)
_ARCHIVE = OfficialFile(
    f"{_FOLDER}.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    "sha256:85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    _FOLDER,
)
_MAX_BYTES = 1 << 29  # bytes of one file in the archive; the largest published one has 155 MB
_reconstruct: Any = np.empty(0).__reduce__()[0]
_ARRAY_PARTS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


def cifar_fs_tasks(place: DataPlace) -> ClassTasks:
    """CIFAR-FS: 64 / 16 / 20 classes at random, 600 images of 32×32 each.

    Args:
        place: location of the folder cifar-100-python or its archive.

    Raises:
        FileNotFoundError: if it is missing and cannot be downloaded.
        ValueError: if a file is damaged.

    Source: Bertinetto et al. 2019 (arXiv:1805.08136), sec. 4.1.
    """
    return _tasks("cifar-fs", "fine", place)


def fc100_tasks(place: DataPlace) -> ClassTasks:
    """FC100: 60 / 20 / 20 classes, split by superclass, so that test classes are dissimilar.

    Arguments and errors are as for `cifar_fs_tasks`.

    Source: Oreshkin et al. 2018 (arXiv:1805.10123), sec. 4.
    """
    return _tasks("fc100", "coarse", place)


def _tasks(name: str, level: Literal["fine", "coarse"], place: DataPlace) -> ClassTasks:
    data, superclass = _load(name, place)
    listed = packaged_split("cifar_splits.json")[name]
    if level == "coarse":
        listed = {
            part: [fine for fine in data.class_names if superclass[fine] in names]
            for part, names in listed.items()
        }
    split = listed_split(data.class_names, listed)
    return ClassTasks(
        name,
        split_loaders(data, split),
        input_shape=_SHAPE,
        protocol={"resize": "32×32, RGB / 255", **split_facts("published", split)},
    )


def _load(name: str, place: DataPlace) -> tuple[ClassData, dict[str, str]]:
    """All images, training and test together, and the superclass of each class."""
    source = locate(name, _ARCHIVE, place)
    meta, *parts = (_read(source, file) for file in ("meta", "train", "test"))
    try:
        fine, coarse = (
            [text.decode() for text in meta[f"{level}_label_names".encode()]]
            for level in ("fine", "coarse")
        )
        pixels = np.concatenate([part[b"data"] for part in parts])
        labels = np.concatenate([part[b"fine_labels"] for part in parts])
        superclasses = np.concatenate([part[b"coarse_labels"] for part in parts])
        superclass = {
            fine[label]: coarse[parent] for label, parent in zip(labels, superclasses, strict=True)
        }
        data = data_of_labels(
            torch.from_numpy(pixels),
            torch.from_numpy(labels),
            fine,
            encoding="uint8",
            input_shape=_SHAPE,
        )
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{source} is not CIFAR-100 as published: {error!r}") from error
    return data.to(place.device), superclass


def _read(source: Path, file: str) -> dict[bytes, Any]:
    try:
        if source.is_dir():
            content = (source / file).read_bytes()
        else:
            with tarfile.open(source) as archive:
                member = archive.extractfile(f"{_FOLDER}/{file}")
                content = b"" if member is None else read_limited(member, file, _MAX_BYTES)
        held = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    except (OSError, tarfile.TarError, KeyError) as error:
        raise ValueError(f"{source} must hold {file!r} of CIFAR-100: {error}") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(f"{file} of {source} is damaged: {error}") from error
    if not isinstance(held, dict):
        raise ValueError(f"{file} of {source} is damaged: it must hold a dictionary")
    return held


class _ArraysOnly(pickle.Unpickler):
    """Reads numbers, strings, lists and arrays; rejects everything that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ARRAY_PARTS:
            return _ARRAY_PARTS[module, name]
        if (module, name) == ("_codecs", "encode"):
            return lambda text, _: text.encode("latin1")
        raise pickle.UnpicklingError(f"it uses {module}.{name}, which arrays do not need")
