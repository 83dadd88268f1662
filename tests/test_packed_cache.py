"""The cache of packed data: found again, made anew when something changed, never in the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from metarl.fewshot.packed_cache import cached


class Maker:
    """Counts how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Tensor:
        self.calls += 1
        return torch.tensor([[1, 2], [3, 250]], dtype=torch.uint8)


@pytest.fixture
def source(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("METARL_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "set.zip").write_bytes(b"pictures")
    return tmp_path / "set.zip"


def files(source: Path) -> list[Path]:
    return sorted((source.parent / "cache" / "packed").iterdir())


def test_the_second_time_nothing_is_made(source):
    make = Maker()
    first, second = (cached("set", [source], "28", make) for _ in range(2))
    assert make.calls == 1
    assert second.equal(first)
    assert second.dtype == torch.uint8
    assert len(files(source)) == 1


def test_other_settings_and_a_changed_source_are_made_anew(source):
    make = Maker()
    cached("set", [source], "28", make)
    cached("set", [source], "32", make)
    assert make.calls == 2
    source.write_bytes(b"more pictures")
    cached("set", [source], "28", make)
    assert make.calls == 3
    os.utime(source, ns=(1, 1))
    cached("set", [source], "28", make)
    assert make.calls == 4


def test_a_damaged_cache_is_made_anew(source):
    make = Maker()
    cached("set", [source], "28", make)
    (file,) = files(source)
    for content in (b"", file.read_bytes()[:-1], b"x" * 100):
        file.write_bytes(content)
        assert cached("set", [source], "28", make).tolist() == [[1, 2], [3, 250]]
    assert make.calls == 4


def test_a_cache_that_cannot_be_written_is_done_without(source, monkeypatch):
    monkeypatch.setenv("METARL_CACHE_DIR", str(source))  # a file, not a folder
    make = Maker()
    assert cached("set", [source], "28", make).tolist() == [[1, 2], [3, 250]]
    assert make.calls == 1


def test_folders_are_not_cached(source):
    make = Maker()
    for _ in range(2):
        cached("set", [source.parent], "28", make)
    assert make.calls == 2
