"""Episodes from packed classes: sampling, uniformity, and errors."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from metarl.fewshot.data.batches import EpisodeRanges, EpisodeShape
from metarl.fewshot.data.class_tasks import ClassTasks
from metarl.fewshot.data.episodes import sample_classes, sample_members, sample_pairs
from metarl.fewshot.data.packed import ClassData, data_of_classes, data_of_labels

COUNTS = (5, 9, 7, 6, 12, 5)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(counts: tuple[int, ...] = COUNTS) -> ClassData:
    """Point i of class c is the vector (c, i); rows are shuffled, so order cannot help."""
    points = torch.tensor([[c, i] for c, count in enumerate(counts) for i in range(count)])
    points = points[torch.randperm(len(points), generator=generator(9))]
    names = [f"class {c}" for c in range(len(counts))]
    return data_of_labels(points.float(), points[:, 0], names, encoding="float32", input_shape=(2,))


def numbered_tasks(**settings: Any) -> ClassTasks:
    data = numbered()
    return ClassTasks(
        "numbers",
        {"train": lambda: data.of([0, 1, 2, 3]), "test": lambda: data.of([4, 5])},
        input_shape=(2,),
        protocol={"split": "by hand"},
        **settings,
    )


def images() -> Tensor:
    """Four classes of three 3×3 images, all 36 · 3 pixels different."""
    return torch.arange(108, dtype=torch.uint8).view(12, 9)


def image_tasks(rotations: Any) -> ClassTasks:
    data = data_of_labels(
        images(),
        torch.arange(4).repeat_interleave(3),
        list("abcd"),
        encoding="uint8",
        input_shape=(1, 3, 3),
    )
    return ClassTasks(
        "images",
        {"train": lambda: data},
        input_shape=(1, 3, 3),
        protocol={},
        rotations=rotations,
    )


# Fixed episodes.


def test_an_episode_has_different_classes_and_different_points_ordered_by_class():
    shape = EpisodeShape(ways=3, shots=2, queries=3)
    batch = numbered_tasks().sample(200, shape, split="train", generator=generator())
    assert batch.support.inputs.shape == (200, 6, 2)
    assert batch.query.inputs.shape == (200, 9, 2)
    assert batch.support.mask is None
    assert batch.support.inputs.dtype == torch.float32
    assert batch.support.targets.dtype == torch.int64
    assert batch.support.targets[3].tolist() == [0, 0, 1, 1, 2, 2]
    assert batch.query.targets[3].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for task in range(200):
        classes = batch.support.inputs[task, ::2, 0]
        assert len(set(classes.tolist())) == 3
        assert batch.support.inputs[task, :, 0].equal(classes.repeat_interleave(2))
        assert batch.query.inputs[task, :, 0].equal(classes.repeat_interleave(3))
        sampled = torch.cat([batch.support.inputs[task], batch.query.inputs[task]])
        assert len({tuple(point) for point in sampled.tolist()}) == 15


def test_every_class_and_every_point_of_a_class_is_sampled_equally_often():
    shape = EpisodeShape(ways=2, shots=1, queries=1)
    batch = numbered_tasks().sample(12_000, shape, split="train", generator=generator())
    for part in batch:
        classes, points = part.inputs[..., 0].flatten(), part.inputs[..., 1].flatten()
        for c, count in enumerate(COUNTS[:4]):
            share = 24_000 / 4
            assert abs(int((classes == c).sum()) - share) < 5 * math.sqrt(share)
            seen = torch.bincount(points[classes == c].long(), minlength=count)
            assert len(seen) == count
            assert float((seen - share / count).abs().max()) < 5 * math.sqrt(share / count)


def test_every_class_gets_every_label():
    shape = EpisodeShape(ways=4, shots=1, queries=1)
    batch = numbered_tasks().sample(4000, shape, split="train", generator=generator())
    first = torch.bincount(batch.support.inputs[:, 0, 0].long(), minlength=4)
    assert float((first - 1000).abs().max()) < 5 * math.sqrt(1000)


def test_splits_share_no_class():
    shape = EpisodeShape(ways=2, shots=2, queries=3)
    tasks = numbered_tasks()
    train, test = (
        tasks.sample(50, shape, split=split, generator=generator()).query.inputs[..., 0]
        for split in ("train", "test")
    )
    assert set(train.flatten().tolist()) == {0, 1, 2, 3}
    assert set(test.flatten().tolist()) == {4, 5}


def test_all_points_of_the_smallest_class_can_be_sampled():
    shape = EpisodeShape(ways=4, shots=2, queries=3)
    batch = numbered_tasks().sample(20, shape, split="train", generator=generator())
    whole = torch.cat([part.inputs[part.inputs[..., 0] == 0] for part in batch])
    assert sorted(whole[:, 1].tolist()) == sorted(20 * [0, 1, 2, 3, 4])


def test_the_same_generator_gives_the_same_episodes():
    shape = EpisodeShape(2, 1, 2)
    first, again, other = (
        numbered_tasks().sample(9, shape, split="train", generator=generator(seed))
        for seed in (0, 0, 1)
    )
    assert first.query.inputs.equal(again.query.inputs)
    assert not first.query.inputs.equal(other.query.inputs)


def test_a_split_is_loaded_once_and_only_when_it_is_needed():
    loads = []

    def load() -> ClassData:
        loads.append(1)
        return numbered()

    def never() -> ClassData:
        raise AssertionError

    tasks = ClassTasks("lazy", {"train": load, "test": never}, input_shape=(2,), protocol={})
    for _ in range(2):
        tasks.sample(1, EpisodeShape(2, 1, 1), split="train", generator=generator())
    assert loads == [1]
    assert tasks.splits == ("train", "test")


def test_splits_joined_by_a_plus_are_one_split_of_all_their_points():
    tasks = numbered_tasks()
    shape = EpisodeShape(ways=6, shots=1, queries=4)
    batch = tasks.sample(300, shape, split="train+test", generator=generator())
    points = torch.cat([part.inputs.flatten(0, 1) for part in batch]).tolist()
    assert {tuple(point) for point in points} == {
        (c, i) for c, count in enumerate(COUNTS) for i in range(count)
    }
    labels = tasks.sample_points(500, split="test+train", generator=generator())
    assert tasks.num_classes("test+train") == 6
    assert tasks.data("test+train").class_names[:2] == ("class 4", "class 5")
    for point, label in zip(labels[0].tolist(), labels[1].tolist(), strict=True):
        assert point[0] == (4, 5, 0, 1, 2, 3)[label]
    with pytest.raises(ValueError, match="split must be one of train, test, got 'trian'"):
        tasks.sample(1, shape, split="trian+test", generator=generator())


def test_the_size_of_joined_splits_is_known_without_loading_what_is_slow():
    sizes = {"train": 7, "test": 5}
    tasks = ClassTasks(
        "slow", {"train": numbered, "test": numbered}, input_shape=(2,), protocol={}, sizes=sizes
    )
    assert tasks.num_classes("train+test") == 12


# Rotations.


@pytest.mark.parametrize("rotations", ["drawn", "classes"])
def test_all_points_of_a_class_are_rotated_by_the_same_quarter_turn(rotations):
    shape = EpisodeShape(ways=2, shots=1, queries=2)
    batch = image_tasks(rotations).sample(400, shape, split="train", generator=generator())
    originals = (images().float() / 255).view(12, 3, 3)
    turned = torch.stack([originals.rot90(k, (1, 2)) for k in range(4)])  # [4, 12, 3, 3]
    seen = set()
    for task in range(400):
        for way in range(2):
            found = set()
            mine = (batch.support.targets[task] == way, batch.query.targets[task] == way)
            for part, rows in zip(batch, mine, strict=True):
                for image in part.inputs[task][rows]:
                    equal = (turned == image[0]).flatten(2).all(2).nonzero()
                    assert len(equal) == 1
                    turn, row = equal[0].tolist()
                    found.add((turn, row // 3))
            assert len(found) == 1
            seen |= found
    assert len(seen) == 16


def test_a_task_has_two_rotations_of_a_character_only_if_rotations_are_classes():
    shape = EpisodeShape(ways=4, shots=1, queries=1)
    for rotations, may_meet in (("none", False), ("drawn", False), ("classes", True)):
        tasks = image_tasks(rotations)
        batch = tasks.sample(100, shape, split="train", generator=generator())
        letters = (batch.support.inputs.flatten(2).amin(2) * 255).round().long() // 27
        met = any(len(set(task.tolist())) < 4 for task in letters)
        assert met == may_meet
    assert image_tasks("classes").num_classes("train") == 16


def test_rotations_are_part_of_the_protocol():
    assert image_tasks("drawn").protocol == {"rotations": "drawn"}
    assert numbered_tasks().protocol == {"split": "by hand", "rotations": "none"}


# Pairs.


def test_a_task_of_pairs_is_negative_and_positive_of_one_assay():
    tasks = ClassTasks("assays", {"train": numbered}, input_shape=(2,), protocol={}, pairs=True)
    shape = EpisodeShape(ways=2, shots=1, queries=3)
    batch = tasks.sample(60, shape, split="train", generator=generator())
    classes = batch.support.inputs[..., 0]
    assert set(map(tuple, classes.tolist())) == {(0, 1), (2, 3), (4, 5)}
    with pytest.raises(ValueError, match=r"ways must be 2 for assays, .* got 3"):
        tasks.sample(1, EpisodeShape(3, 1, 1), split="train", generator=generator())
    ranges = EpisodeRanges(ways=(1, 2), shots=(1, 1), queries=1)
    with pytest.raises(ValueError, match=r"ways must be 2 for assays, .* got 1"):
        tasks.sample_variable(1, ranges, split="train", generator=generator())
    ranges = EpisodeRanges(ways=(2, 2), shots=(1, 2), queries=1)
    varying = tasks.sample_variable(30, ranges, split="train", generator=generator()).support
    assert varying.mask is not None
    assert set(varying.mask.sum(1).tolist()) == {2, 4}


def test_classes_may_share_points():
    points = torch.arange(4, dtype=torch.float32).unsqueeze(1)
    data = data_of_classes(
        points,
        [torch.tensor([0, 1]), torch.tensor([1, 2, 3])],
        ["a", "b"],
        encoding="float32",
        input_shape=(1,),
    )
    tasks = ClassTasks("shared", {"train": lambda: data}, input_shape=(1,), protocol={})
    batch = tasks.sample(300, EpisodeShape(2, 1, 1), split="train", generator=generator())
    together = torch.cat([batch.support.inputs, batch.query.inputs], 1).squeeze(-1)
    assert {frozenset(task[[0, 2]].tolist()) for task in together} == {
        frozenset(pair) for pair in ([0, 1], [1, 2], [1, 3], [2, 3])
    }


# Points without episodes.


def test_points_are_sampled_uniformly_from_the_classes_with_their_labels():
    tasks = numbered_tasks()
    inputs, labels = tasks.sample_points(8000, split="test", generator=generator())
    assert inputs[:, 0].equal(labels.float() + 4)
    assert abs(int(labels.sum()) - 4000) < 5 * math.sqrt(2000)
    assert set(inputs[labels == 0, 1].tolist()) == set(range(12))
    assert set(inputs[labels == 1, 1].tolist()) == set(range(5))


# Ways and shots that vary.


def test_variable_episodes_mask_all_other_points():
    ranges = EpisodeRanges(ways=(2, 4), shots=(1, 3), queries=2)
    batch = numbered_tasks().sample_variable(3000, ranges, split="train", generator=generator())
    assert batch.support.mask is not None
    assert batch.query.mask is not None
    support = batch.support.mask.view(3000, 4, 3)
    query = batch.query.mask.view(3000, 4, 2)
    ways, shots = support.any(2).sum(1), support.any(1).sum(1)
    for counts, low, high in ((ways, 2, 4), (shots, 1, 3)):
        seen = torch.bincount(counts)[low:]
        assert len(seen) == high - low + 1
        assert float((seen - 1000).abs().max()) < 5 * math.sqrt(1000)
    expected = (torch.arange(4) < ways[:, None])[:, :, None]
    assert support.equal(expected & (torch.arange(3) < shots[:, None])[:, None])
    assert query.equal(expected.expand(-1, -1, 2))
    for part in batch:
        assert part.mask is not None
        assert float(part.inputs[~part.mask].abs().max()) == 0
        assert int(part.inputs[part.mask][:, 0].max()) == 3
    assert abs(float(torch.corrcoef(torch.stack([ways, shots]).float())[0, 1])) < 0.1


# Invalid arguments.


@pytest.mark.parametrize(
    ("shape", "split", "message"),
    [
        ((5, 1, 1), "train", "ways must be 4 or less: split 'train' of numbers has 4 classes, got"),
        ((2, 3, 3), "train", "class 'class 0' of split 'train' of numbers has 5 points and an "
         r"episode needs 6 \(3 shots \+ 3 queries\); reduce them"),
        ((2, 1, 1), "tset", "split must be one of train, test, got 'tset'; did you mean 'test'"),
    ],
)  # fmt: skip
def test_episodes_larger_than_the_split_are_rejected(shape, split, message):
    with pytest.raises(ValueError, match=message):
        numbered_tasks().sample(1, EpisodeShape(*shape), split=split, generator=generator())


def test_counts_below_one_are_rejected():
    with pytest.raises(ValueError, match="num_tasks must be 1 or more, got 0"):
        numbered_tasks().sample(0, EpisodeShape(1, 1, 1), split="train", generator=generator())
    for position, name in enumerate(("ways", "shots", "queries")):
        counts = [1, 1, 1]
        counts[position] = 0
        with pytest.raises(ValueError, match=f"{name} must be 1 or more, got 0"):
            EpisodeShape(*counts)
    with pytest.raises(ValueError, match=r"ways must be \(minimum, maximum\), got \(3, 2\)"):
        EpisodeRanges((3, 2), (1, 1), 1)
    with pytest.raises(ValueError, match="shots must be 1 or more, got 0"):
        EpisodeRanges((1, 2), (0, 1), 1)


def test_invalid_rotations_are_rejected():
    with pytest.raises(ValueError, match="rotations must be one of none, drawn, classes"):
        image_tasks("turned")
    with pytest.raises(ValueError, match=r"rotations need square images .* got inputs \(2,\)"):
        numbered_tasks(rotations="drawn")


def test_a_generator_on_another_device_is_rejected():
    elsewhere = numbered().to("meta")
    tasks = ClassTasks("far", {"train": lambda: elsewhere}, input_shape=(2,), protocol={})
    with pytest.raises(ValueError, match="generator must be on the device of the data, meta"):
        tasks.sample_points(1, split="train", generator=generator())


# The data.


def test_invalid_labels_and_points_are_rejected():
    points = torch.ones(3, 2)

    def make(points: Tensor, labels: Tensor) -> ClassData:
        return data_of_labels(points, labels, ["a", "b"], encoding="float32", input_shape=(2,))

    with pytest.raises(ValueError, match=r"labels must be 0 to 1, got 2 at index 1"):
        make(points, torch.tensor([0, 2, 1]))
    with pytest.raises(ValueError, match=r"labels must be 0 to 1, got -1 at index 2"):
        make(points, torch.tensor([0, 1, -1]))
    with pytest.raises(ValueError, match=r"one for each of the 3 points, got shape \(2,\)"):
        make(points, torch.tensor([0, 1]))
    with pytest.raises(TypeError, match=r"labels must be integers, got torch.float32"):
        make(points, torch.tensor([0.0, 1.0, 1.0]))
    points[1, 1] = math.nan
    with pytest.raises(ValueError, match="inputs must be finite, got NaN or infinity in point 1"):
        make(points, torch.tensor([0, 1, 1]))


def test_some_classes_share_the_points_of_all():
    data = numbered()
    part = data.of([4, 1])
    assert part.points is data.points
    assert part.class_names == ("class 4", "class 1")
    assert part.counts.tolist() == [12, 9]
    rows = part.members[part.starts[1] : part.starts[1] + part.counts[1]]
    assert set(data.points[rows, 0].tolist()) == {1}


# Sampling.


def test_samples_are_without_replacement_and_within_bounds():
    classes = sample_classes(500, 6, 6, generator())
    assert classes.sort(1).values.equal(torch.arange(6).expand(500, -1))
    counts = torch.tensor([[3, 5], [4, 3]])
    members = sample_members(counts.repeat(200, 1), 3, generator())
    assert bool((members < counts.repeat(200, 1).unsqueeze(-1)).all())
    assert bool((members.sort(-1).values.diff(dim=-1) > 0).all())
    pairs = sample_pairs(300, 8, generator())
    assert set(map(tuple, pairs.tolist())) == {(0, 1), (2, 3), (4, 5), (6, 7)}
