"""Files that a command must not trip over: damaged, of another kind, or links in a circle."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import zipfile
from contextlib import suppress
from pathlib import Path

import torch
from PIL import Image

__all__ = ["make_bad_files"]

_NULL_DEVICE = (1, 3)  # major and minor number


def make_bad_files(folder: Path, *, run: Path) -> None:
    """Create one file of each kind in a folder.

    Args:
        folder: the folder; it is created.
        run: a complete run, of which damaged copies are made.
    """
    folder.mkdir()
    _files(folder)
    _links(folder)
    for name in ("config.json", "metrics.jsonl", "best.safetensors"):
        _damaged_run(folder, run, name)
    checkpoint = next((run / "checkpoints").iterdir())
    shutil.copy(checkpoint, folder / "checkpoint.safetensors")
    (folder / "cut.safetensors").write_bytes(checkpoint.read_bytes()[:-9])


def _files(folder: Path) -> None:
    texts = {
        "text.json": "{",
        "list.json": "[]",
        "[bold]b": "x",
        "a.safetensors": "x",
        "data": "",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "noise.zip").write_bytes(bytes(range(256)) * 9)
    (folder / "empty").mkdir()
    images = folder / "images"
    for label in ("a", "b"):
        (images / label).mkdir(parents=True)
        (images / label / "cut.png").write_bytes(_png()[:-20])
    with zipfile.ZipFile(folder / "model.zip", "w") as archive:
        archive.writestr("data", json.dumps({"policy_class": 3}))
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, buffer)
    (folder / "pickle.safetensors").write_bytes(buffer.getvalue())
    (folder / "module_that_exits.py").write_text("raise SystemExit(0)\n", encoding="utf-8")


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").save(buffer, "png")
    return buffer.getvalue()


def _links(folder: Path) -> None:
    (folder / "circle.json").symlink_to("circle.json")
    (folder / "dangling.json").symlink_to(folder / "nowhere" / "a.json")
    (folder / "loop").mkdir()
    (folder / "loop" / "again").symlink_to(folder / "loop", target_is_directory=True)
    with suppress(OSError):  # not everyone may create devices; this is a copy of the null device
        os.mknod(folder / "device.json", stat.S_IFCHR | 0o666, os.makedev(*_NULL_DEVICE))


def _damaged_run(folder: Path, run: Path, name: str) -> None:
    copy = folder / f"damaged_{Path(name).stem}"
    shutil.copytree(run, copy)
    (copy / name).write_bytes(b'{"iteration": 1}\n')
