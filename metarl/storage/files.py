"""Files and directories that survive a crash: whole or not there, and held by one process."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

__all__ = [
    "create_whole",
    "locked",
    "read_json_object",
    "require_file_place",
    "sync_folder",
    "write_atomically",
]


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file in one step: a reader finds the old content or the new, never a part.

    The new content is on the disk before it takes the name, and the name before this returns.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        if error.errno is not None:  # the calls above know no name
            error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Let the names in a folder reach the disk, if its file system supports that."""
    if os.name == "nt":  # Windows cannot open a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems do not know it
            raise
    finally:
        os.close(descriptor)


def require_file_place(name: str, path: Path) -> None:
    """Refuse a path that no file can be written to, before the work whose result it is for.

    Raises:
        ValueError: if its folder does not exist, or it is a folder, naming the argument.
    """
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise ValueError(f"{name} must be a file in a directory that exists, got {path}")


def read_json_object(file: Path) -> dict[str, Any]:
    """What a JSON file holds, if that is an object.

    Raises:
        ValueError: otherwise, with the file named.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} is damaged: it must hold a JSON object")
    return content


def create_whole(path: Path, fill: Callable[[Path], None]) -> None:
    """Make a directory that appears with all its content or not at all.

    It is filled under a hidden name beside its place; what a process that was killed left there
    is removed.

    Raises:
        ValueError: if something is there already.
    """
    exists = ValueError(
        f"out must be a new directory, {path} exists; "
        "choose another, or continue that run with --resume"
    )
    if path.exists():
        raise exists
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{path.name}.*.new"):
        _remove_abandoned(left)
    hidden = path.with_name(f".{path.name}.{os.getpid()}.new")
    hidden.mkdir()
    try:
        with locked(hidden):
            fill(hidden)
            try:
                hidden.rename(path)
            except OSError as error:
                raise exists from error
            sync_folder(path.parent)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a directory for this process; the system releases the lock when the process ends.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if another process holds it.
    """
    if not folder.is_dir():  # the lock would create it
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"run {folder} is being written by another process; "
            "wait until that has ended, or choose another --out"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _remove_abandoned(folder: Path) -> None:
    try:
        with locked(folder):
            shutil.rmtree(folder, ignore_errors=True)
    except (ValueError, OSError):
        return  # its maker is alive
