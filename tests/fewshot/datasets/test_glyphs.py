"""Glyphs: strokes are rendered correctly, classes are distinguishable, examples differ."""

from __future__ import annotations

import pytest
import torch

from metarl.fewshot.data.batches import EpisodeShape
from metarl.fewshot.datasets.glyphs import GlyphTasks, render_strokes


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def strokes(*controls: list[tuple[float, float]]) -> torch.Tensor:
    return torch.tensor([list(controls)])


# Rendering.


def test_a_straight_stroke_inks_its_row_and_the_rows_next_to_it():
    line = strokes([(0.25, 0.5), (0.5, 0.5), (0.75, 0.5)])
    image = render_strokes(line, torch.tensor([[True]]), 20)[0]
    assert image.shape == (20, 20)
    assert bool((image[9:11, 6:14] == 1).all())
    assert float(image[:7].max()) == 0
    assert float(image[13:].max()) == 0
    assert float(image[:, :3].max()) == 0


def test_x_runs_along_columns_and_y_along_rows():
    dot = strokes([(0.8, 0.2)] * 3)
    image = render_strokes(dot, torch.tensor([[True]]), 10)[0]
    places = torch.arange(10) + 0.5
    assert float(image.sum(0) @ places / image.sum()) == pytest.approx(8, abs=0.05)
    assert float(image.sum(1) @ places / image.sum()) == pytest.approx(2, abs=0.05)


def test_a_curve_passes_through_its_ends_and_not_through_its_handle():
    """At t = ½ a quadratic Bézier curve is at ¼ c₀ + ½ c₁ + ¼ c₂."""
    bend = strokes([(0.1, 0.9), (0.5, 0.1), (0.9, 0.9)])
    image = render_strokes(bend, torch.tensor([[True]]), 40)[0]
    assert float(image[35:37, 3:5].max()) > 0.4
    assert float(image[19:21, 19:21].max()) > 0.4
    assert float(image[:16].max()) == 0


def test_strokes_that_are_not_inked_and_ink_beyond_the_border_leave_nothing():
    pair = strokes([(0.2, 0.2)] * 3, [(0.8, 0.8)] * 3)
    image = render_strokes(pair, torch.tensor([[True, False]]), 20)[0]
    assert float(image[10:, 10:].max()) == 0
    outside = strokes([(1.5, 0.5), (2.0, 3.0), (-1.0, 1.5)])
    assert float(render_strokes(outside, torch.tensor([[True]]), 20).max()) == 0


def test_images_do_not_depend_on_each_other():
    controls = torch.rand((3, 2, 3, 2), generator=generator())
    inked = torch.tensor([[True, True], [True, False], [True, True]])
    together = render_strokes(controls, inked, 28)
    for i in range(3):
        alone = render_strokes(controls[i : i + 1], inked[i : i + 1], 28)
        torch.testing.assert_close(together[i : i + 1], alone)


# Tasks.


def test_an_episode_has_different_glyphs_and_no_example_twice():
    shape = EpisodeShape(5, 2, 3)
    batch = GlyphTasks().sample(20, shape, split="test", generator=generator())
    assert batch.support.inputs.shape == (20, 10, 1, 28, 28)
    assert batch.query.inputs.shape == (20, 15, 1, 28, 28)
    assert batch.query.targets[0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert float(batch.query.inputs.min()) == 0
    assert float(batch.query.inputs.max()) == 1
    every = torch.cat([batch.support.inputs, batch.query.inputs], 1).flatten(2)
    distances = torch.cdist(every, every) + 1e3 * torch.eye(25)
    assert float(distances.min()) > 0.1


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_examples_are_nearer_to_their_own_class_but_not_always(split):
    """Nearest neighbor on pixels: far better than guessing (20 %), and not solved."""
    batch = GlyphTasks().sample(100, EpisodeShape(5, 1, 5), split=split, generator=generator())
    distances = torch.cdist(batch.query.inputs.flatten(2), batch.support.inputs.flatten(2))
    right = (distances.argmin(-1) == batch.query.targets).float().mean()
    assert 0.5 < float(right) < 0.9


def test_without_shake_and_distortion_all_examples_are_the_class_itself():
    tasks = GlyphTasks(shake=0.0, distortion=0.0)
    first, labels = tasks.sample_points(30, split="test", generator=generator())
    second, again = tasks.sample_points(30, split="test", generator=generator())
    assert labels.equal(again)
    assert first.equal(second)
    batch = tasks.sample(1, EpisodeShape(3, 1, 1), split="train", generator=generator())
    assert batch.support.inputs.equal(batch.query.inputs)


def test_splits_share_no_class():
    tasks = GlyphTasks(shake=0.0, distortion=0.0)
    seen = [
        {image.numpy().tobytes() for image in tasks.sample_points(
            3000, split=split, generator=generator())[0]}
        for split in tasks.splits
    ]  # fmt: skip
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]
    assert [tasks.num_classes(split) for split in tasks.splits] == [1000, 100, 400]
    assert len(seen[1]) == 100


def test_glyphs_depend_on_their_seed_and_episodes_on_the_generator():
    shape = EpisodeShape(2, 1, 1)
    first, again, other_glyphs, other_episodes = (
        GlyphTasks(glyph_seed=seed).sample(2, shape, split="train", generator=generator(sampled))
        for seed, sampled in ((0, 0), (0, 0), (1, 0), (0, 1))
    )
    assert first.query.inputs.equal(again.query.inputs)
    assert not first.query.inputs.equal(other_glyphs.query.inputs)
    assert not first.query.inputs.equal(other_episodes.query.inputs)


@pytest.mark.parametrize(
    ("shape", "split", "message"),
    [
        ((101, 1, 1), "validation", "ways must be 100 or less: split 'validation' of glyphs has"),
        ((2, 1, 1), "trian", "split must be one of train, validation, test, got 'trian'; did you"),
    ],
)
def test_episodes_larger_than_the_split_are_rejected(shape, split, message):
    with pytest.raises(ValueError, match=message):
        GlyphTasks().sample(1, EpisodeShape(*shape), split=split, generator=generator())


def test_settings_out_of_range_are_rejected():
    with pytest.raises(ValueError, match=r"shake must lie in \[0, 1\], got -0.1"):
        GlyphTasks(shake=-0.1)
    with pytest.raises(ValueError, match=r"distortion must lie in \[0, 1\], got 2"):
        GlyphTasks(distortion=2)


def test_splits_joined_by_a_plus_have_the_glyphs_of_both():
    tasks = GlyphTasks(shake=0.0, distortion=0.0)
    assert tasks.num_classes("test+validation") == 500
    images, labels = tasks.sample_points(40, split="test+validation", generator=generator())
    assert {bool(label < 400) for label in labels} == {True, False}
    for split, first, last in (("test", 0, 400), ("validation", 400, 500)):
        shape = EpisodeShape(last - first, 1, 1)
        episode = tasks.sample(1, shape, split=split, generator=generator()).support.inputs[0]
        for image, label in zip(images, labels.tolist(), strict=True):
            is_here = bool((episode == image).flatten(1).all(1).any())
            assert is_here == (first <= label < last)
