"""Output files of commands: regular files, links, pipes, devices, and files of a run."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from metarl.storage import files
from metarl.storage.files import require_output_file, write_output


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with the files of a run."""
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    return folder


def test_a_regular_file_is_created_and_replaced(tmp_path):
    path = tmp_path / "a.json"
    for content in (b"first", b"second"):
        require_output_file("json", path)
        write_output(path, content)
        assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_the_old_content_survives_a_write_that_fails(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_output(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_followed_and_kept(tmp_path, exists):
    target, link, outer = (tmp_path / name for name in ("target", "link", "outer"))
    if exists:
        target.write_bytes(b"old")
    link.symlink_to("target")
    outer.symlink_to(link)
    require_output_file("json", outer)
    write_output(outer, b"new")
    assert target.read_bytes() == b"new"
    assert link.is_symlink()
    assert outer.is_symlink()


def test_a_pipe_is_written_to_and_kept(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(path.read_bytes()), daemon=True)
    reader.start()
    require_output_file("json", path)
    write_output(path, b"numbers")
    reader.join(timeout=10)
    assert received == [b"numbers"]
    assert stat.S_ISFIFO(path.lstat().st_mode)


def test_a_device_is_written_to_in_place(tmp_path, monkeypatch):
    """The stand-in for a device is a regular file whose type is reported as another."""
    path = tmp_path / "device"
    path.write_bytes(b"")
    before = path.stat().st_ino
    monkeypatch.setattr(files, "_mode", lambda _: stat.S_IFCHR)
    require_output_file("json", path)
    write_output(path, b"numbers")
    assert (path.read_bytes(), path.lstat().st_ino) == (b"numbers", before)


@pytest.mark.parametrize(
    "name",
    [
        "config.json", "seeds.json", "metrics.jsonl", "best.safetensors", "checkpoint.safetensors",
        ".lock", "events.out.tfevents.1", "checkpoints/iteration_000001.safetensors",
        "checkpoints/a.json",
    ],
)  # fmt: skip
def test_a_file_of_a_run_is_never_replaced(run, tmp_path, name):
    (tmp_path / "link").symlink_to(run / name)
    for path in (run / name, run / ".." / "run" / name, tmp_path / "link"):
        with pytest.raises(ValueError, match="json must not replace a file that belongs to a run"):
            require_output_file("json", path)


def test_other_files_of_a_run_and_such_names_elsewhere_are_allowed(run, tmp_path):
    for name in ("evaluation.json", "report.html", "clip.gif"):
        require_output_file("out", run / name)
    for name in ("metrics.jsonl", "best.safetensors", "config.json"):
        require_output_file("out", tmp_path / name)


def test_an_impossible_path_is_rejected(tmp_path):
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere" / "a.json")
    for path in (tmp_path, tmp_path / "nowhere" / "a.json", tmp_path / "broken"):
        with pytest.raises(ValueError, match="plot must be a file in a directory that exists"):
            require_output_file("plot", path)
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(OSError, match="symbolic links"):
        require_output_file("plot", tmp_path / "circle")
