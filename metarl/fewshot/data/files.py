"""Files of data sets: found in a folder, or downloaded into it with pooch.

A file is searched for in the folder that the caller names; if it is missing, the official one is
downloaded and verified; it appears there complete or not at all. Without a network, one sentence
states what to fetch and where to put it.

Packed images are kept in the user's cache, so that the second start is quick.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from metarl.progress import Progress, ignore_progress
from metarl.storage.files import write_atomically

__all__ = [
    "DataPlace",
    "OfficialFile",
    "cache_dir",
    "cached",
    "download",
    "locate",
    "locate_all",
    "read_limited",
]


_CHUNK_BYTES = 1 << 18
_TIMEOUT_SECONDS = 30
_RETRIES = 2
_HTTP_CLIENT_ERRORS = range(400, 500)


@dataclass(frozen=True)
class DataPlace:
    """The folder that data sets are read from, and the device of their tensors."""

    data_dir: Path | None = None
    """Folder of the data sets; None: the folder "data" in `cache_dir`."""
    device: torch.device | str = "cpu"
    """Device of the packed data."""
    download: bool = True
    """Whether missing official files are downloaded."""
    progress: Progress = ignore_progress
    """Called during downloads."""

    @property
    def folder(self) -> Path:
        """Folder of the data sets."""
        return cache_dir() / "data" if self.data_dir is None else Path(self.data_dir)


@dataclass(frozen=True)
class OfficialFile:
    """A file published by the authors of a data set."""

    path: str
    """Path inside the folder of the data sets, with forward slashes."""
    url: str
    checksum: str = ""
    """ "sha256:…" or "md5:…"; empty if no official one is known."""
    extracted: str = ""
    """Folder that the archive extracts to, accepted instead of it; empty if it is not an
    archive."""
    max_bytes: int = 1 << 30
    """Downloads of more bytes are aborted."""


def cache_dir() -> Path:
    """Folder of reproducible files: METARL_CACHE_DIR, or "metarl" in the user's cache."""
    chosen = os.environ.get("METARL_CACHE_DIR")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "metarl"


def locate(name: str, file: OfficialFile, place: DataPlace) -> Path:
    """Find one file, or the folder that it extracts to; see `locate_all`."""
    return locate_all(name, (file,), place)[0]


def locate_all(name: str, files: Sequence[OfficialFile], place: DataPlace) -> list[Path]:
    """Find files, or the folders that they extract to; download missing ones if allowed.

    Args:
        name: name of the data set, for the message.
        files: all files that the data set needs.
        place: folder to search, and whether to download.

    Raises:
        FileNotFoundError: if files are missing and cannot be downloaded; the message names all
            of them and where to put them.
    """
    reason = "downloads are off"
    if place.download:
        try:
            for file in files:
                if _existing(file, place) is None:
                    download(file, place.folder / file.path, place.progress)
        except (OSError, ValueError) as error:
            reason = f"the download failed: {error}"
    paths = [_existing(file, place) for file in files]
    found = [path for path in paths if path is not None]
    if len(found) < len(files):
        missing = [file for file, path in zip(files, paths, strict=True) if path is None]
        raise FileNotFoundError(_what_to_fetch(name, missing, place, reason))
    return found


def _existing(file: OfficialFile, place: DataPlace) -> Path | None:
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


def download(file: OfficialFile, target: Path, progress: Progress = ignore_progress) -> None:
    """Download and verify a file; the target appears once it is complete.

    Interrupted connections are retried.

    Args:
        file: the file.
        target: where it is stored.
        progress: called with the number of kB that have arrived.

    Raises:
        OSError: if it cannot be downloaded, or is larger than allowed.
        ValueError: if its checksum is wrong.
    """
    import pooch

    pooch.get_logger().setLevel(logging.ERROR)
    folder = pooch.create(
        path=target.parent,
        base_url="",
        registry={target.name: file.checksum or None},
        urls={target.name: file.url},
        retry_if_failed=_RETRIES,
    )
    try:
        folder.fetch(target.name, downloader=lambda url, out, _: _fetch(url, out, file, progress))
    except ValueError as error:
        raise ValueError(
            f"{file.url} must have the checksum {file.checksum}, the downloaded file does not"
        ) from error
    target.chmod(
        target.parent.stat().st_mode & 0o666
    )  # temporary files are readable by their owner only


def _fetch(url: str, output: str, file: OfficialFile, progress: Progress) -> None:
    """Attempt a download once; pooch retries after a `RequestException`."""
    import pooch
    import requests

    meter = _Meter(file, Path(output), progress)
    fetch = pooch.HTTPDownloader(
        progressbar=meter, chunk_size=_CHUNK_BYTES, timeout=_TIMEOUT_SECONDS
    )
    try:
        fetch(url, output, None)
    except requests.HTTPError as error:
        if error.response is not None and error.response.status_code in _HTTP_CLIENT_ERRORS:
            raise OSError(str(error)) from error  # another attempt would not help
        raise
    except requests.exceptions.ChunkedEncodingError as error:
        raise requests.ConnectionError(
            f"{url} must have {meter.total} bytes, the connection ended early"
        ) from error


class _Meter:
    """Reports pooch's progress, and aborts the download of a file that is too large."""

    def __init__(self, file: OfficialFile, output: Path, progress: Progress) -> None:
        self._file, self._output, self._progress, self._total = file, output, progress, 0
        self._report(0)

    @property
    def total(self) -> int:
        """Bytes that the server announced, 0 if none."""
        return self._total

    @total.setter
    def total(self, size: int) -> None:
        self._check(size)
        self._total = size
        self._report(0)

    def update(self, _: int) -> None:
        """Update the count from the file's size; the argument is only an upper bound."""
        received = self._output.stat().st_size
        self._check(received)
        self._report(received)

    def reset(self) -> None:
        """Do nothing: the counter is the size of the file."""

    def close(self) -> None:
        """Do nothing: the last report remains."""

    def _report(self, received: int) -> None:
        name = Path(self._file.path).name
        self._progress(f"downloading {name} (kB)", received // 1000, self._total // 1000)

    def _check(self, size: int) -> None:
        if size > self._file.max_bytes:
            raise OSError(f"{self._file.url} must have {self._file.max_bytes:,} bytes or fewer")


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def read_limited(stream: _Readable, name: str, max_bytes: int) -> bytes:
    """Read a stream that decompresses to an unknown number of bytes.

    Raises:
        ValueError: if there are more than `max_bytes`, naming the file.
    """
    content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"{name} must hold {max_bytes:,} bytes or fewer")
    return content


_NAME = "packed"


def cached(
    label: str, sources: Sequence[Path], settings: str, make: Callable[[], Tensor]
) -> Tensor:
    """The result of `make`, read from the cache if it was made from the same sources and settings.

    Sources are identified by path, size and modification time. An unreadable cache file is
    replaced; if the cache cannot be written, the result is not cached.

    Args:
        label: prefix of the file's name.
        sources: files that the tensor is made of; nothing is cached if one is a folder.
        settings: identifies the preparation; change it when the preparation changes.
        make: function that makes the tensor, on the CPU.
    """
    if not all(source.is_file() for source in sources):
        return make()
    facts = [
        (os.path.realpath(s), status.st_size, status.st_mtime_ns)
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
        pass  # no space or no permission; the cache is optional
    return tensor
