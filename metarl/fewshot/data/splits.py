"""Splits of classes into train, validation and test: random or listed, with a digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import resources
from typing import Any

import numpy as np

from metarl.fewshot.data.batches import ProtocolFacts
from metarl.fewshot.data.packed import ClassData
from metarl.seeding import derive_seed
from metarl.validation import require_at_least, require_between, unknown_name

__all__ = [
    "SPLITS",
    "fraction_sizes",
    "listed_split",
    "packaged_split",
    "seeded_split",
    "split_facts",
    "split_loaders",
    "split_named",
]

SPLITS = ("train", "validation", "test")
_SHORT_NAMES = {"val": "validation", "valid": "validation"}
Split = dict[str, tuple[str, ...]]
"""Class names by split."""


def seeded_split(names: Sequence[str], sizes: Sequence[int], split_seed: int) -> Split:
    """Assign classes at random to train, validation and test.

    The names are sorted first, so their order does not affect the split.

    Args:
        names: all classes, each once.
        sizes: number of classes of each of the three splits; the sum must be len(names).
        split_seed: seed of the shuffle, 0 or more.

    Raises:
        ValueError: if the number of classes is not sum(sizes), or the seed is negative.
    """
    require_at_least("split_seed", split_seed, 0)
    if len(names) != sum(sizes):
        raise ValueError(
            f"number of classes must be {sum(sizes)} for splits of {', '.join(map(str, sizes))}, "
            f"got {len(names)}"
        )
    ordered = sorted(names)
    keys = {name: derive_seed(split_seed, "class split", name) for name in ordered}
    shuffled = sorted(ordered, key=keys.__getitem__)
    edges = np.cumsum([0, *sizes])
    return {
        split: tuple(sorted(shuffled[low:high]))
        for split, low, high in zip(SPLITS, edges[:-1], edges[1:], strict=True)
    }


def fraction_sizes(num_classes: int, validation: float, test: float) -> tuple[int, int, int]:
    """Sizes of the three splits from the shares of validation and test, rounded.

    Raises:
        ValueError: if a share lies outside [0, 1) or no class is left for training.

    >>> fraction_sizes(10, 0.2, 0.2)
    (6, 2, 2)
    """
    for name, share in (("validation", validation), ("test", test)):
        require_between(name, share, 0, 1, open_high=True)
    held_out = round(num_classes * validation), round(num_classes * test)
    train = num_classes - sum(held_out)
    if train < 1:
        raise ValueError(
            f"validation and test must leave classes for training, they take {sum(held_out)} "
            f"of {num_classes}"
        )
    return train, *held_out


def split_named(name: str) -> str | None:
    """The split with a name or abbreviation, ignoring case; None if there is none.

    >>> split_named("Val"), split_named("test"), split_named("dogs")
    ('validation', 'test', None)
    """
    folded = name.casefold()
    part = _SHORT_NAMES.get(folded, folded)
    return part if part in SPLITS else None


def listed_split(names: Sequence[str], split: Mapping[str, Sequence[str]]) -> Split:
    """Check a split given by class names: every class exists and belongs to one split only.

    Raises:
        ValueError: naming the class; or if a split is unknown or given twice.
    """
    seen: dict[str, str] = {}
    listed: Split = {}
    for part, classes in split.items():
        known = split_named(str(part))
        if known is None:
            raise ValueError(unknown_name("split", str(part), SPLITS))
        if known in listed:
            raise ValueError(
                f"split must list {known!r} once, got {part!r} as a second name for it"
            )
        for name in classes:
            if name not in names:
                raise ValueError(
                    f"split {part!r} lists class {name!r}, which the data set does not have"
                )
            if name in seen:
                raise ValueError(f"class {name!r} is in split {seen[name]!r} and in {part!r}")
            seen[name] = part
        listed[known] = tuple(classes)
    return listed


def packaged_split(file: str) -> dict[str, Any]:
    """Read a published split that is part of the package."""
    path = resources.files("metarl.fewshot.datasets") / "assets" / file
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def split_loaders(data: ClassData, split: Split) -> dict[str, Callable[[], ClassData]]:
    """Functions that return the classes of each nonempty split, for `ClassTasks`."""
    row = {name: index for index, name in enumerate(data.class_names)}
    return {
        part: partial(data.of, [row[name] for name in names])
        for part, names in split.items()
        if names
    }


def split_facts(kind: str, split: Split) -> ProtocolFacts:
    """Facts for the protocol: the kind of split, its sizes, and a digest of the class names."""
    sizes = ", ".join(f"{len(names)} {part}" for part, names in split.items())
    text = json.dumps({part: list(names) for part, names in split.items()}).encode()
    digest = hashlib.blake2b(text, digest_size=4).hexdigest()
    return {"split": f"{kind}: {sizes}", "split_digest": digest}
