"""mini-ImageNet: 100 classes of ImageNet, 600 photographs each, split as by Ravi & Larochelle."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from PIL import Image

from metarl.fewshot.data.class_tasks import ClassTasks
from metarl.fewshot.data.files import DataPlace
from metarl.fewshot.data.images import ImageFiles, read_images, resized
from metarl.fewshot.data.packed import ClassData, data_of_names

__all__ = ["mini_imagenet_tasks"]

_SIDE = 84
_FOLDER = "mini-imagenet"
_SPLITS = {"train": ("train", 64), "validation": ("val", 16), "test": ("test", 20)}
_IMAGES = 600  # per class


def mini_imagenet_tasks(place: DataPlace) -> ClassTasks:
    """mini-ImageNet: 64 / 16 / 20 classes at 84×84, colors 0 … 1, no augmentation.

    A split is decoded at its first use, in 15 to 30 seconds for the training classes, and takes
    21 kB per image: 813, 203 and 254 MB.

    Args:
        place: location of mini-imagenet/train, val and test, each a zip file or a folder of
            label/filename.jpg. There is no official download because of ImageNet's license.

    Raises:
        FileNotFoundError: if a split is missing.
        ValueError: if the number of classes or images is wrong, or an image is unreadable.

    Source: Ravi & Larochelle 2017; Vinyals et al. 2016 (arXiv:1606.04080).
    """
    folder = place.folder / _FOLDER
    sources = {split: _find(folder, name) for split, (name, _) in _SPLITS.items()}
    loaders = {
        split: partial(_load, sources[split], num_classes, place.device)
        for split, (_, num_classes) in _SPLITS.items()
    }
    return ClassTasks(
        "mini-imagenet",
        loaders,
        input_shape=(3, _SIDE, _SIDE),
        protocol={
            "resize": f"{_SIDE}×{_SIDE} (Lanczos where a picture is not), RGB / 255",
            "split": "Ravi: 64 train, 16 validation, 20 test",
        },
        sizes={split: num_classes for split, (_, num_classes) in _SPLITS.items()},
    )


def _find(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.zip", folder / name):
        if path.exists():
            return path
    raise FileNotFoundError(
        f"data set mini-imagenet needs {folder / name}.zip or a folder {folder / name}, with "
        "images label/filename.jpg; it has no official download, so build it from ImageNet with "
        "the class lists of Ravi & Larochelle and name its parent as data_dir"
    )


def _load(source: Path, num_classes: int, device: torch.device | str) -> ClassData:
    with ImageFiles(source) as files:
        classes = [name.split("/")[-2] if "/" in name else "" for name in files.names]
        expected = num_classes, num_classes * _IMAGES
        if (len(set(classes)), len(classes)) != expected:
            raise ValueError(
                f"{source} must hold {expected[1]} images of {expected[0]} classes as "
                f"label/filename.jpg, it holds {len(classes)} of {len(set(classes))}"
            )
        prepare = resized(_SIDE, "RGB", Image.Resampling.LANCZOS)
        pixels = torch.from_numpy(read_images(files, files.names, prepare))
    return data_of_names(
        pixels.to(device), classes, encoding="uint8", input_shape=(3, _SIDE, _SIDE)
    )
