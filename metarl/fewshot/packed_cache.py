"""Packed pictures kept in the user's cache, so that the second start is quick."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from metarl.durable_files import write_atomically
from metarl.fewshot.downloads import cache_dir

__all__ = ["cached"]

_NAME = "packed"


def cached(
    label: str, sources: Sequence[Path], settings: str, make: Callable[[], Tensor]
) -> Tensor:
    """What `make` gives, from the cache if these sources were packed with these settings before.

    A source counts as the same while its path, size and time of change are. A cache that cannot be
    read is made anew, and one that cannot be written is done without.

    Args:
        label: beginning of the file's name.
        sources: files that the tensor is made of; folders are not cached, they have no one size.
        settings: how it is made; change it when the preparation changes.
        make: makes the tensor, on the CPU.
    """
    if not all(source.is_file() for source in sources):
        return make()
    facts = [
        (str(s.resolve()), status.st_size, status.st_mtime_ns)
        for s in sources
        for status in [s.stat()]
    ]
    digest = hashlib.blake2b(json.dumps([facts, settings]).encode(), digest_size=8).hexdigest()
    file = cache_dir() / "packed" / f"{label}-{digest}.safetensors"
    try:
        return load(file.read_bytes())[_NAME]
    except (OSError, SafetensorError, KeyError):
        tensor = make()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, save({_NAME: tensor}))
    except OSError:
        pass  # no space or no permission: it is only a cache
    return tensor
