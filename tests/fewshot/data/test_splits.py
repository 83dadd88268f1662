"""Splits: every class once, the same on every machine, and errors."""

import pytest
import torch

from metarl.fewshot.data.packed import data_of_labels
from metarl.fewshot.data.splits import (
    fraction_sizes,
    listed_split,
    packaged_split,
    seeded_split,
    split_facts,
    split_loaders,
    split_named,
)

NAMES = [f"class {letter}" for letter in "abcdefghij"]


def test_every_class_is_in_one_split():
    split = seeded_split(NAMES, (6, 1, 3), 0)
    assert {part: len(names) for part, names in split.items()} == {
        "train": 6, "validation": 1, "test": 3,
    }  # fmt: skip
    assert sorted(name for names in split.values() for name in names) == NAMES


def test_the_split_depends_on_the_seed_and_not_on_the_order():
    split = seeded_split(NAMES, (6, 1, 3), 0)
    assert seeded_split(NAMES[::-1], (6, 1, 3), 0) == split
    assert seeded_split(NAMES, (6, 1, 3), 1) != split


def test_every_class_is_equally_likely_to_be_a_test_class():
    seen = [name for seed in range(1000) for name in seeded_split(NAMES, (6, 1, 3), seed)["test"]]
    for name in NAMES:
        assert abs(seen.count(name) - 300) < 5 * (1000 * 0.3 * 0.7) ** 0.5


def test_the_split_of_a_seed_is_frozen():
    assert seeded_split(NAMES, (6, 1, 3), 0)["test"] == ("class a", "class g", "class i")


def test_digests_of_different_splits_differ():
    first, again, other = (split_facts("x", seeded_split(NAMES, (6, 1, 3), s)) for s in (0, 0, 1))
    assert first == again
    assert first["split"] == "x: 6 train, 1 validation, 3 test"
    assert first["split_digest"] != other["split_digest"]


def test_a_wrong_number_of_classes_is_rejected():
    with pytest.raises(
        ValueError, match="number of classes must be 10 for splits of 6, 1, 3, got 9"
    ):
        seeded_split(NAMES[:9], (6, 1, 3), 0)


def test_shares_must_leave_classes_to_train_on():
    assert fraction_sizes(150, 0.2, 0.2) == (90, 30, 30)
    assert fraction_sizes(7, 0.0, 0.3) == (5, 0, 2)
    with pytest.raises(ValueError, match=r"validation and test must leave .* take 3 of 3"):
        fraction_sizes(3, 0.5, 0.4)
    with pytest.raises(ValueError, match=r"test must lie in \[0, 1\), got 1"):
        fraction_sizes(3, 0, 1)


def test_a_list_with_unknown_or_repeated_classes_is_rejected():
    assert listed_split(NAMES, {"train": NAMES[:2]}) == {"train": tuple(NAMES[:2])}
    with pytest.raises(ValueError, match="split 'test' lists class 'class z', which the data set"):
        listed_split(NAMES, {"test": ["class z"]})
    with pytest.raises(ValueError, match="class 'class a' is in split 'train' and in 'test'"):
        listed_split(NAMES, {"train": ["class a"], "test": ["class a"]})


def test_splits_have_their_short_names_and_others_are_rejected_with_the_nearest():
    assert [split_named(name) for name in ("TRAIN", "val", "Valid", "Validation", "dev")] == [
        "train", "validation", "validation", "validation", None,
    ]  # fmt: skip
    listed = listed_split(NAMES, {"Train": NAMES[:2], "val": NAMES[2:3], "test": NAMES[3:]})
    assert list(listed) == ["train", "validation", "test"]
    with pytest.raises(ValueError, match=r"split must be one of .*, got 'tets'; .* mean 'test'"):
        listed_split(NAMES, {"train": NAMES[:2], "tets": NAMES[2:]})
    with pytest.raises(ValueError, match="list 'validation' once, got 'validation' as a second"):
        listed_split(NAMES, {"val": NAMES[:2], "validation": NAMES[2:]})


def test_a_negative_seed_is_rejected_by_the_name_of_its_argument():
    with pytest.raises(ValueError, match=r"^split_seed must be 0 or more, got -1"):
        seeded_split(NAMES, (6, 1, 3), -1)


def test_a_loader_gives_the_classes_of_its_split():
    data = data_of_labels(
        torch.arange(3.0).unsqueeze(1),
        torch.arange(3),
        ["a", "b", "c"],
        encoding="float32",
        input_shape=(1,),
    )
    loaders = split_loaders(data, {"train": ("c", "a"), "validation": (), "test": ("b",)})
    assert list(loaders) == ["train", "test"]
    assert loaders["train"]().class_names == ("c", "a")


def test_the_published_lists_have_their_published_sizes():
    cifar = packaged_split("cifar_splits.json")
    sizes = {name: [len(classes) for classes in split.values()] for name, split in cifar.items()}
    assert sizes == {"cifar-fs": [64, 16, 20], "fc100": [12, 4, 4]}
    for split in cifar.values():
        names = [name for classes in split.values() for name in classes]
        assert len(set(names)) == len(names)
    vinyals = packaged_split("omniglot_vinyals.json")
    counts = [
        sum(last - first + 1 for first, last in alphabets.values())
        for alphabets in vinyals.values()
    ]
    assert counts == [1028, 172, 423]
