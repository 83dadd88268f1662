"""Checkpoints: one safetensors file with the tensors and a JSON header. Loading runs no code."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

__all__ = [
    "FORMAT_VERSION",
    "load_checkpoint",
    "read_header",
    "save_checkpoint",
    "write_atomically",
]

FORMAT_VERSION = 1


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file in one step: a reader finds the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_checkpoint(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write tensors and header in one step.

    Args:
        path: the file; its folder must exist.
        tensors: by name, any device.
        header: what JSON can hold.
    """
    stored = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    text = json.dumps({"format_version": FORMAT_VERSION, **header})
    write_atomically(path, save(stored, metadata={"metarl": text}))


def read_header(path: Path) -> dict[str, Any]:
    """The header of a checkpoint.

    Raises:
        ValueError: if the file is missing, damaged, or no checkpoint of this format.
    """
    return _read(path)[1]


def load_checkpoint(
    path: Path, *, agent: str, environment: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors on the CPU, and the header, of a checkpoint of this agent and environment.

    Raises:
        ValueError: as `read_header`, and if agent or environment differ.
    """
    tensors, header = _read(path)
    for kind, wanted in (("agent", agent), ("environment", environment)):
        if header.get(kind) != wanted:
            raise ValueError(
                f"checkpoint {path} must be of {kind} {wanted!r}, it is of {header.get(kind)!r}"
            )
    return tensors, header


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not path.is_file():
        raise ValueError(f"checkpoint must be a file, there is none at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            header = json.loads((file.metadata() or {})["metarl"])
    except (SafetensorError, KeyError, json.JSONDecodeError, OSError) as error:
        raise ValueError(f"checkpoint {path} is damaged or not a metarl checkpoint") from error
    if not isinstance(header, dict):
        raise ValueError(f"checkpoint {path} is damaged or not a metarl checkpoint")
    if header.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"checkpoint {path} has format {header.get('format_version')!r}, "
            f"this version reads {FORMAT_VERSION}"
        )
    return tensors, header
