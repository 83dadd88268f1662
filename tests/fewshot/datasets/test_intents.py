"""CLINC150 and BANKING77 from small files in the official layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from intent_files import INTENTS, clinc

from metarl.fewshot.data.batches import EpisodeShape
from metarl.fewshot.data.files import DataPlace
from metarl.fewshot.datasets.intents import banking77_tasks, clinc150_tasks


@pytest.fixture
def place(tmp_path: Path, monkeypatch) -> DataPlace:
    monkeypatch.setenv("METARL_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "clinc150_data_full.json").write_text(json.dumps(clinc()))
    for part, count in (("train", 6), ("test", 2)):
        rows = [f'"{part}, {intent} {i}",{intent}' for intent in INTENTS for i in range(count)]
        text = "\n".join(["text,category", *rows, ""])
        (folder / f"banking77_{part}.csv").write_text(text)
    return DataPlace(tmp_path, download=False)


@pytest.mark.parametrize(("make", "count"), [(clinc150_tasks, 7), (banking77_tasks, 8)])
def test_all_parts_are_used_and_every_intent_is_in_one_split(place, make, count):
    tasks = make(place)
    names = {split: tasks.data(split).class_names for split in tasks.splits}
    assert [len(part) for part in names.values()] == [6, 2, 2]
    assert sorted(name for part in names.values() for name in part) == INTENTS
    for split in tasks.splits:
        assert set(tasks.data(split).counts.tolist()) == {count}


def test_requests_are_vectors_of_length_one(place):
    tasks = clinc150_tasks(place, num_features=256)
    generator = torch.Generator().manual_seed(0)
    batch = tasks.sample(30, EpisodeShape(2, 2, 5), split="test", generator=generator)
    assert tasks.input_shape == (256,)
    assert batch.query.inputs.shape == (30, 10, 256)
    torch.testing.assert_close(batch.query.inputs.norm(dim=-1), torch.ones(30, 10))


def test_a_request_is_the_same_vector_with_and_without_the_cache(place):
    first, second = (clinc150_tasks(place).data("train") for _ in range(2))
    assert first.points.equal(second.points)
    assert clinc150_tasks(place, num_features=512).data("train").points.shape[1] == 512


def test_the_split_depends_on_its_seed(place):
    digests = {clinc150_tasks(place, split_seed=s).protocol["split_digest"] for s in range(3)}
    assert len(digests) == 3


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"train": 1}', '{"train": [["a"]]}'])
def test_a_damaged_file_is_rejected(place, tmp_path, text):
    (tmp_path / "text" / "clinc150_data_full.json").write_text(text)
    with pytest.raises(ValueError, match=r"clinc150_data_full.json is damaged \(.*\); fetch it"):
        clinc150_tasks(place)


@pytest.mark.parametrize("text", ["text\nhello\n", "text,category\nhello\n"])
def test_a_damaged_table_is_rejected(place, tmp_path, text):
    (tmp_path / "text" / "banking77_test.csv").write_text(text)
    with pytest.raises(ValueError, match=r"banking77_test.csv is damaged \(.*\); fetch it"):
        banking77_tasks(place)


def test_invalid_arguments_are_rejected(place, tmp_path):
    with pytest.raises(ValueError, match="num_features must be 1 or more, got 0"):
        clinc150_tasks(place, num_features=0)
    (tmp_path / "text" / "banking77_test.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"banking77 needs the file .*banking77_test.csv"):
        banking77_tasks(place)


def test_both_missing_tables_are_named(tmp_path):
    message = "needs the files .*banking77_train.csv and .*banking77_test.csv; fetch .* put them"
    with pytest.raises(FileNotFoundError, match=message):
        banking77_tasks(DataPlace(tmp_path, download=False))
