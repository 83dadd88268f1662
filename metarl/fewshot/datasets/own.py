"""Few-shot tasks from user data: labeled tensors, or a folder of class folders."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from metarl.fewshot.data.batches import ProtocolFacts
from metarl.fewshot.data.class_tasks import ClassTasks, Rotations
from metarl.fewshot.data.files import DataPlace
from metarl.fewshot.data.images import ImageFiles, read_images, resized
from metarl.fewshot.data.packed import ClassData, data_of_labels, data_of_names
from metarl.fewshot.data.splits import (
    SPLITS,
    fraction_sizes,
    listed_split,
    seeded_split,
    split_facts,
    split_loaders,
    split_named,
)
from metarl.validation import require_at_least, unknown_name

__all__ = ["folder_tasks", "tensor_tasks"]

Colors = Literal["RGB", "L"]


def tensor_tasks(
    inputs: Tensor | NDArray[Any],
    labels: Tensor | NDArray[Any],
    *,
    class_names: Sequence[str] | None = None,
    split: Mapping[str, Sequence[str]] | None = None,
    validation: float = 0.2,
    test: float = 0.2,
    split_seed: int = 0,
    rotations: Rotations = "none",
    name: str = "tensors",
) -> ClassTasks:
    """Build few-shot tasks from labeled points.

    Tensors stay on their device; arrays are copied to the CPU.

    Args:
        inputs: [points, *input_shape]; uint8 is scaled to 0 … 1, other types become float32.
        labels: integers [points]: any without `class_names`, otherwise in 0 … classes − 1.
        class_names: one distinct name for each class; None: the labels that occur.
        split: class names of "train", "validation" (or "val") and "test"; None: a random split.
        validation: fraction of the classes for validation.
        test: fraction of the classes for the test.
        split_seed: seed of the random split.
        rotations: how images (channels, side, side) are rotated.
        name: name of the data set, for messages and results.

    Raises:
        TypeError: if inputs are not numbers, or labels are not integers.
        ValueError: if there are no points, a label is out of range, an input is not finite, two
            classes have the same name, or a split is unknown or lists an unknown class.
    """
    inputs, rows = _as_tensor("inputs", inputs), _as_tensor("labels", labels)
    if inputs.dim() < 2 or not len(inputs):
        raise ValueError(
            f"inputs must be [points, ...] with at least one point, got shape {tuple(inputs.shape)}"
        )
    is_integer = not (rows.is_floating_point() or rows.is_complex())
    if class_names is None and is_integer and rows.dtype != torch.bool:
        present, rows = rows.to(torch.int64).unique(return_inverse=True)
        class_names = [str(number) for number in present.tolist()]
    names = () if class_names is None else tuple(class_names)
    _require_distinct(names)
    flat = inputs.flatten(1)
    data = data_of_labels(
        flat if inputs.dtype == torch.uint8 else flat.to(torch.float32),
        rows.to(inputs.device),
        names,
        encoding="uint8" if inputs.dtype == torch.uint8 else "float32",
        input_shape=tuple(inputs.shape[1:]),
    )
    return _tasks(
        name, data, split, (validation, test), split_seed, rotations=rotations, protocol={}
    )


def folder_tasks(
    place: DataPlace,
    *,
    path: Path | str = ".",
    image_size: int = 84,
    colors: Colors = "RGB",
    validation: float = 0.2,
    test: float = 0.2,
    split_seed: int = 0,
    rotations: Rotations = "none",
) -> ClassTasks:
    """Build few-shot tasks from images in class folders, or from a zip file of them.

    If the class folders lie in folders "train", "val" or "validation", and "test" (in upper or
    lower case), these are the splits; otherwise the classes are split at random.

    Args:
        place: location of the images, and their device, which stores a byte per channel of a pixel.
        path: the folder or zip file, relative to `data_dir`; default: `data_dir` itself.
        image_size: side that images are resized to (Lanczos), in pixels.
        colors: "RGB", or "L" for grayscale.
        validation: fraction of the classes for validation.
        test: fraction of the classes for the test.
        split_seed: seed of the random split.
        rotations: how images are rotated.

    Raises:
        FileNotFoundError: if `path` does not exist.
        ValueError: if `data_dir` is missing, the folder holds no images in class folders, an image
            is unreadable, a class is in two splits, or only some classes are in a split.
    """
    require_at_least("image_size", image_size, 1)
    if colors not in ("RGB", "L"):
        raise ValueError(unknown_name("colors", colors, ("RGB", "L")))
    if place.data_dir is None and path == ".":
        raise ValueError("data set folder needs data_dir, the folder that holds the class folders")
    source = Path(os.path.realpath(place.folder / path))
    if not source.exists():
        raise FileNotFoundError(f"path must be a folder of class folders, {source} does not exist")
    with ImageFiles(source) as files:
        classes = _classes(files)
        split = _split_of_folders(sorted(set(classes)))
        pixels = read_images(files, files.names, resized(image_size, colors, _LANCZOS))
    data = data_of_names(
        torch.from_numpy(pixels),
        classes,
        encoding="uint8",
        input_shape=(3 if colors == "RGB" else 1, image_size, image_size),
    ).to(place.device)
    return _tasks(
        "folder",
        data,
        split,
        (validation, test),
        split_seed,
        rotations=rotations,
        protocol={
            "folder": source.name,
            "resize": f"{image_size}×{image_size} (Lanczos), {colors} / 255",
        },
    )


_LANCZOS = Image.Resampling.LANCZOS


def _as_tensor(name: str, values: Tensor | NDArray[Any]) -> Tensor:
    """A tensor as it is, or an array copied to a tensor."""
    if isinstance(values, Tensor):
        return values
    try:
        array = np.array(values, order="C")
        wide = array.astype(np.int64) if array.dtype.kind == "u" and array.itemsize > 1 else array
        return torch.from_numpy(wide.astype(wide.dtype.newbyteorder("="), copy=False))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} must be a tensor or an array of numbers, got {type(values).__name__}"
            f"{f' of {values.dtype}' if isinstance(values, np.ndarray) else ''}"
        ) from error


def _require_distinct(names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"class_names must be distinct, got {name!r} twice")
        seen.add(name)


def _classes(files: ImageFiles) -> list[str]:
    """The class of each image: the path of its folder, without a common top folder."""
    for name in files.names:
        if "/" not in name:
            raise ValueError(
                f"{files.source} must hold class folders with images, got {name} outside of them"
            )
    folders = [name.rsplit("/", 1)[0] for name in files.names]
    while folders and "/" in folders[0]:  # zip files often wrap everything in one folder
        first = folders[0].split("/")[0]
        if split_named(first) or any(f.split("/")[0] != first or "/" not in f for f in folders):
            break
        folders = [folder.split("/", 1)[1] for folder in folders]
    return folders


def _split_of_folders(names: Sequence[str]) -> dict[str, list[str]] | None:
    """Classes by split, if their folders lie in "train", "val" or "test"; else None.

    Raises:
        ValueError: if only some lie in such a folder, or two classes have the same name.
    """
    split: dict[str, list[str]] = {part: [] for part in SPLITS}
    outside: list[str] = []
    seen: dict[str, str] = {}
    for name in names:
        top, _, own_name = name.partition("/")
        part = split_named(top) if own_name else None
        if part is None:
            outside.append(name)
            continue
        if own_name in seen:
            raise ValueError(
                f"a class must be in one split only, {seen[own_name]} and {name} have the same "
                "name: remove or rename one, or put all class folders into one folder, without "
                "train and test, for a random split"
            )
        seen[own_name] = name
        split[part].append(name)
    if seen and outside:
        raise ValueError(
            f"either all class folders must lie in train, val and test, or none of them; "
            f"{next(iter(seen.values()))} does and {outside[0]} does not: move or rename one"
        )
    return split if seen else None


def _tasks(
    name: str,
    data: ClassData,
    split: Mapping[str, Sequence[str]] | None,
    shares: tuple[float, float],
    split_seed: int,
    *,
    rotations: Rotations,
    protocol: ProtocolFacts,
) -> ClassTasks:
    if split is None:
        classes = seeded_split(
            data.class_names, fraction_sizes(len(data.counts), *shares), split_seed
        )
        facts = split_facts(f"random, seed {split_seed}", classes)
    else:
        classes = listed_split(data.class_names, split)
        facts = split_facts("given", classes)
    return ClassTasks(
        name,
        split_loaders(data, classes),
        input_shape=data.input_shape,
        protocol={**protocol, **facts},
        rotations=rotations,
    )
