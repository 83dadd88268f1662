"""Where the files of a data set lie, and how they get there.

A file is looked for in the folder that the caller names; if it is not there, the official one is
downloaded to that place, checked, and appears whole or not at all. Without network, one sentence
says what to fetch and where to put it.

Packed pictures kept in the user's cache, so that the second start is quick.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from metarl.storage.files import write_atomically

__all__ = ["DataPlace", "OfficialFile", "cache_dir", "download", "locate", "locate_all", "cached"]


_CHUNK_BYTES = 1 << 18
_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class DataPlace:
    """Where data sets are read from and where their tensors go."""

    data_dir: Path | None = None
    """Folder of the data sets; None is the folder "data" of `cache_dir`."""
    device: torch.device | str = "cpu"
    """Where the packed data lie."""
    download: bool = True
    """Whether official files that are missing are downloaded."""

    @property
    def folder(self) -> Path:
        """Folder of the data sets."""
        return cache_dir() / "data" if self.data_dir is None else Path(self.data_dir)


@dataclass(frozen=True)
class OfficialFile:
    """A file as its authors publish it."""

    path: str
    """Where it lies in the folder of the data sets, with forward slashes."""
    url: str
    checksum: str = ""
    """ "sha256:…" or "md5:…"; empty where no official one is known."""
    extracted: str = ""
    """Folder that it extracts to, which serves as well; empty for what is no archive."""


def cache_dir() -> Path:
    """Folder for what can be made or fetched again: METARL_CACHE_DIR, or the user's cache."""
    chosen = os.environ.get("METARL_CACHE_DIR")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "metarl"


def locate(name: str, file: OfficialFile, place: DataPlace) -> Path:
    """The file or the folder that it extracts to, as `locate_all` finds several."""
    return locate_all(name, (file,), place)[0]


def locate_all(name: str, files: Sequence[OfficialFile], place: DataPlace) -> list[Path]:
    """The files, or the folders that they extract to; what is missing is downloaded if it may be.

    Args:
        name: of the data set, for the message.
        files: all that the data set needs.
        place: where to look.

    Raises:
        FileNotFoundError: if some are not there and cannot be fetched, with all of them and what
            to do.
    """
    reason = "downloads are off"
    if place.download:
        try:
            for file in files:
                if _held(file, place) is None:
                    download(file, place.folder / file.path)
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = f"the download failed: {error}"
    held = [_held(file, place) for file in files]
    found = [path for path in held if path is not None]
    if len(found) < len(files):
        missing = [file for file, path in zip(files, held, strict=True) if path is None]
        raise FileNotFoundError(_what_to_fetch(name, missing, place, reason))
    return found


def _held(file: OfficialFile, place: DataPlace) -> Path | None:
    for path in (file.path, file.extracted):
        if path and (place.folder / path).exists():
            return place.folder / path
    return None


def _what_to_fetch(
    name: str, missing: Sequence[OfficialFile], place: DataPlace, reason: str
) -> str:
    targets = [
        f"{place.folder / file.path}"
        + (f" (or the folder {place.folder / file.extracted})" if file.extracted else "")
        for file in missing
    ]
    files, them = ("file", "it") if len(missing) == 1 else ("files", "them")
    return (
        f"data set {name} needs the {files} {' and '.join(targets)}; "
        f"fetch {' and '.join(file.url for file in missing)} and put {them} there, "
        f"or name another folder as data_dir ({reason})"
    )


def download(file: OfficialFile, target: Path) -> None:
    """Fetch a file and check it; the target appears when all is well. A terminal sees progress.

    Raises:
        OSError: if it cannot be fetched.
        ValueError: if it came in part, or with another checksum.
    """
    with urllib.request.urlopen(file.url, timeout=_TIMEOUT_SECONDS) as response:
        content = _read_with_progress(response, target.name)
    if file.checksum:
        algorithm, expected = file.checksum.split(":")
        found = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
        if found != expected:
            raise ValueError(f"{file.url} must have {algorithm} {expected}, it has {found}")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, content)


def _read_with_progress(response: http.client.HTTPResponse, label: str) -> bytes:
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdigit() else None
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    received = bytearray()
    with bar:
        task = bar.add_task(label, total=total)
        while chunk := response.read(_CHUNK_BYTES):
            received += chunk
            bar.update(task, completed=len(received))
    if total is not None and len(received) != total:
        raise ValueError(
            f"{label} must have {total} bytes, the connection ended after {len(received)}"
        )
    return bytes(received)


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
