"""The catalog of data sets: every entry loads, fulfills the contract, and names missing files."""

from __future__ import annotations

import inspect
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from metarl.fewshot.data.batches import EpisodeShape
from metarl.fewshot.datasets.catalog import DATASETS, make_tasks

WITHOUT_FILES = ["sinusoid", "harmonic", "glyphs"]


@pytest.mark.parametrize("name", [entry.name for entry in DATASETS])
def test_every_entry_can_be_loaded_and_has_a_docstring(name):
    make = DATASETS.load(name)
    assert inspect.getdoc(make)
    assert DATASETS.get(name).description


@pytest.mark.parametrize("name", WITHOUT_FILES)
def test_data_sets_without_files_fulfill_the_contract(name):
    tasks = make_tasks(name)
    shape = EpisodeShape(1 if tasks.kind == "regression" else 5, 2, 3)
    assert tasks.name == name
    for split in tasks.splits:
        batch = tasks.sample(4, shape, split=split, generator=torch.Generator().manual_seed(0))
        for part, points in zip(batch, (2 * shape.ways, 3 * shape.ways), strict=True):
            assert part.inputs.shape == (4, points, *tasks.input_shape)
            assert part.inputs.dtype == torch.float32
            assert part.targets.shape[:2] == (4, points)
            if tasks.kind == "classification":
                assert part.targets.dtype == torch.int64
    assert all(isinstance(v, str | int | float | bool) for v in tasks.protocol.values())
    assert all(math.isfinite(v) for v in tasks.protocol.values() if not isinstance(v, str))


@pytest.mark.parametrize(
    "name", [entry.name for entry in DATASETS if entry.name not in (*WITHOUT_FILES, "folder")]
)
def test_a_missing_file_is_named_with_its_place_in_one_sentence(name, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        make_tasks(name, data_dir=tmp_path, download=False)
    sentence = str(caught.value)
    family = name.split("-vinyals")[0].split("-antialiased")[0]
    assert f"data set {family} needs" in sentence
    assert str(tmp_path) in sentence
    assert "data_dir" in sentence
    assert "\n" not in sentence


def test_options_reach_the_data_set(tmp_path: Path):
    assert make_tasks("glyphs", glyph_seed=3).protocol["glyph_seed"] == 3
    for label in "abc":
        (tmp_path / "birds" / label).mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "birds" / label / "0.png")
    tasks = make_tasks("folder", data_dir=tmp_path, path="birds", image_size=5, colors="L")
    assert tasks.input_shape == (1, 5, 5)


def test_unknown_names_and_options_are_rejected_with_the_nearest():
    with pytest.raises(ValueError, match=r"dataset must be one of .* did you mean 'omniglot'"):
        make_tasks("omniglott")
    with pytest.raises(TypeError, match=r"option of glyphs must be one of .* mean 'glyph_seed'"):
        make_tasks("glyphs", glyphs_seed=1)
    with pytest.raises(TypeError, match="option of omniglot must be one of resize, split, "):
        make_tasks("omniglot", place=1)
    with pytest.raises(TypeError, match=r"option of glyphs must be one of glyph_seed, .* 'name'"):
        make_tasks("glyphs", name="glyphs")
    with pytest.raises(ValueError, match="data set folder needs data_dir"):
        make_tasks("folder")


@pytest.mark.parametrize(("name", "option"), [("glyphs", "glyph_seed"), ("clinc150", "split_seed")])
def test_a_negative_seed_is_rejected_by_the_name_of_its_option(name, option, tmp_path):
    with pytest.raises(ValueError, match=f"^{option} must be 0 or more, got -1"):
        make_tasks(name, data_dir=tmp_path, download=False, **{option: -1})


def test_a_folder_may_have_a_number_for_a_name(tmp_path):
    for label in "abc":
        (tmp_path / "2024" / label).mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "2024" / label / "0.png")
    tasks = make_tasks("folder", data_dir=tmp_path, path=2024, image_size=4)
    assert tasks.protocol["folder"] == "2024"
    for value in (1.5, True, None):
        message = (
            f"option path of folder must be a path, got {value}; write a folder of that name as"
        )
        with pytest.raises(ValueError, match=message):
            make_tasks("folder", data_dir=tmp_path, path=value)
