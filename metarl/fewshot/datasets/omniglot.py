"""Omniglot: 1,623 handwritten characters of 50 alphabets, 20 drawings each.

The images are 1-bit, and Pillow resizes such images by nearest neighbor, whatever the filter.
So MAML, Reptile and Prototypical Networks all trained on *binary* 28×28 images ("nearest", the
default here), while learn2learn and torchmeta convert to grayscale first and smooth
("antialiased"). Ink is 1 and the background 0.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from metarl.fewshot.data.class_tasks import ClassTasks, Rotations
from metarl.fewshot.data.files import DataPlace, OfficialFile, cached, locate_all
from metarl.fewshot.data.images import ImageFiles, read_images, resized
from metarl.fewshot.data.packed import ClassData, data_of_labels, pack_bits
from metarl.fewshot.data.splits import (
    Split,
    listed_split,
    packaged_split,
    seeded_split,
    split_facts,
    split_loaders,
)
from metarl.validation import unknown_name

__all__ = ["antialiased_omniglot_tasks", "omniglot_tasks", "vinyals_omniglot_tasks"]

Resize = Literal["nearest", "antialiased"]

_SIDE = 28
_DRAWINGS = 20
_URL = "https://github.com/brendenlake/omniglot/raw/master/python/"
_FILES = (
    OfficialFile(
        "omniglot/images_background.zip",
        f"{_URL}images_background.zip",
        "md5:68d2efa1b9178cc56df9314c21c6e718",
        "omniglot/images_background",
    ),
    OfficialFile(
        "omniglot/images_evaluation.zip",
        f"{_URL}images_evaluation.zip",
        "md5:6b91aef0f799c5bb55b94e3f2daec811",
        "omniglot/images_evaluation",
    ),
)
_CHARACTERS = (964, 659)  # in the two files
_MAML_SIZES = (1100, 100, 423)


def omniglot_tasks(
    place: DataPlace,
    *,
    resize: Resize = "nearest",
    split: Literal["maml", "vinyals"] = "maml",
    split_seed: int = 1,
    rotations: Rotations | None = None,
) -> ClassTasks:
    """Omniglot with the split and the rotations of a paper.

    Args:
        place: location of omniglot/images_background.zip and images_evaluation.zip, or of the
            folders that they extract to.
        resize: "nearest" (binary) or "antialiased" (grayscale, Lanczos).
        split: "maml": 1100 / 100 / 423 characters at random; the original ones are unknown,
            because MAML's code shuffled an unsorted directory. "vinyals": the list of Vinyals et
            al., 1028 / 172 / 423, as used by Prototypical Networks.
        split_seed: seed of the random split.
        rotations: None: "drawn" with the split "maml", also at test time; "classes" with "vinyals".

    Raises:
        FileNotFoundError: if files are missing and cannot be downloaded.
        ValueError: if an option is unknown, or a file is incomplete or unreadable.

    Source: Lake et al. 2015; Finn et al. 2017 (arXiv:1703.03400), sec. 5.2; Vinyals et al. 2016
    (arXiv:1606.04080), with the lists of Snell et al. 2017 (arXiv:1703.05175).
    """
    if resize not in ("nearest", "antialiased"):
        raise ValueError(unknown_name("resize", resize, ("nearest", "antialiased")))
    if split not in ("maml", "vinyals"):
        raise ValueError(unknown_name("split", split, ("maml", "vinyals")))
    data = _load(place, resize)
    if split == "maml":
        classes = seeded_split(data.class_names, _MAML_SIZES, split_seed)
        facts = split_facts(f"random, seed {split_seed}", classes)
    else:
        classes = _vinyals_split(data.class_names)
        facts = split_facts("Vinyals", classes)
    return ClassTasks(
        "omniglot",
        split_loaders(data, classes),
        input_shape=data.input_shape,
        protocol={"resize": f"{resize} {_SIDE}×{_SIDE}, ink 1", **facts},
        rotations=rotations or ("drawn" if split == "maml" else "classes"),
    )


def vinyals_omniglot_tasks(place: DataPlace, *, resize: Resize = "nearest") -> ClassTasks:
    """Omniglot with the split and rotations of Prototypical Networks."""
    return _renamed(omniglot_tasks(place, resize=resize, split="vinyals"), "omniglot-vinyals")


def antialiased_omniglot_tasks(place: DataPlace) -> ClassTasks:
    """Omniglot with MAML's split and smoothed grayscale images, as in learn2learn."""
    return _renamed(omniglot_tasks(place, resize="antialiased"), "omniglot-antialiased")


def _renamed(tasks: ClassTasks, name: str) -> ClassTasks:
    tasks.name = name
    return tasks


def _load(place: DataPlace, resize: Resize) -> ClassData:
    sources = locate_all("omniglot", _FILES, place)
    names = [_drawings(source, number) for source, number in zip(sources, _CHARACTERS, strict=True)]
    packed = cached(
        f"omniglot-{resize}", sources, f"1 {resize} {_SIDE}", partial(_pack, sources, names, resize)
    )
    characters = ["/".join(name.split("/")[-3:-1]) for part in names for name in part[::_DRAWINGS]]
    labels = torch.arange(len(characters)).repeat_interleave(_DRAWINGS)
    return data_of_labels(
        packed,
        labels,
        characters,
        encoding="bits" if resize == "nearest" else "uint8",
        input_shape=(1, _SIDE, _SIDE),
    ).to(place.device)


def _drawings(source: Path, num_characters: int) -> list[str]:
    """Sorted names of all drawings; each 20 consecutive ones show the same character."""
    with ImageFiles(source) as files:
        names = files.names
    characters = {name.rsplit("/", 1)[0] for name in names}
    if len(characters) != num_characters or len(names) != _DRAWINGS * num_characters:
        raise ValueError(
            f"{source} must hold {num_characters} characters of {_DRAWINGS} drawings, it holds "
            f"{len(names)} drawings of {len(characters)}; fetch it again"
        )
    return names


def _pack(sources: list[Path], names: list[list[str]], resize: Resize) -> Tensor:
    """All drawings with ink 1: bits [drawings, 98], or bytes [drawings, 784]."""
    prepare = (
        resized(_SIDE, "1", Image.Resampling.NEAREST)
        if resize == "nearest"
        else resized(_SIDE, "L", Image.Resampling.LANCZOS)
    )
    parts = []
    for source, drawings in zip(sources, names, strict=True):
        with ImageFiles(source) as files:
            parts.append(torch.from_numpy(read_images(files, drawings, prepare)))
    paper = torch.cat(parts)
    return pack_bits(paper == 0) if resize == "nearest" else 255 - paper


def _vinyals_split(names: tuple[str, ...]) -> Split:
    """The split of Vinyals et al.: ranges of characters of each alphabet."""
    listed = {
        part: [
            f"{alphabet}/character{number:02}"
            for alphabet, (first, last) in alphabets.items()
            for number in range(first, last + 1)
        ]
        for part, alphabets in packaged_split("omniglot_vinyals.json").items()
    }
    return listed_split(names, listed)
