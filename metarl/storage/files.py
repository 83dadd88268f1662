"""Files and directories that survive a crash: whole or not there, and held by one process."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

__all__ = [
    "create_whole",
    "locked",
    "read_json_object",
    "require_output_file",
    "sync_folder",
    "write_atomically",
    "write_output",
]


_RUN_FILES = frozenset(
    {
        "config.json", "seeds.json", "metrics.jsonl", "best.safetensors", "checkpoint.safetensors",
        ".lock",
    }
)  # fmt: skip
"""Files that make up a run; nothing that a command is told to write may replace them."""
_RUN_MARKS = ("config.json", "seeds.json")  # a folder with one of these is a run


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


def require_output_file(name: str, path: Path) -> None:
    """Reject a path that a command must not write to, before it does the work.

    Devices, pipes and symbolic links are allowed, as `write_output` handles them.

    Args:
        name: of the argument, for the message.
        path: where a command is told to write.

    Raises:
        ValueError: if its folder does not exist, it is a folder, or it is one of the files that
            make up a run.
        OSError: if it cannot be looked up, such as links in a circle.
    """
    folders = (path.absolute().parent, _without_links(path).parent)
    if not all(folder.is_dir() for folder in folders) or stat.S_ISDIR(_mode(path)):
        raise ValueError(f"{name} must be a file in a directory that exists, got {path}")
    if _is_run_file(_without_links(path)):
        raise ValueError(
            f"{name} must not replace a file that belongs to a run, got {path}; choose another name"
        )


def write_output(path: Path, content: bytes) -> None:
    """Write what a user asked for to the file that they named.

    A regular file is replaced in one step, at the end of any symbolic links, which stay. A device
    or a pipe is written to and not replaced.

    Raises:
        OSError: if it cannot be written.
    """
    if stat.S_ISREG(_mode(path)):
        write_atomically(_without_links(path), content)
        return
    with path.open("wb") as file:
        file.write(content)


def _mode(path: Path) -> int:
    """Type of the file that links lead to; a file that does not exist counts as a regular one."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return stat.S_IFREG


def _without_links(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _is_run_file(path: Path) -> bool:
    """Whether a path without links is, or would be, one of the files that make up a run."""
    folder = path.parent
    if folder.name == "checkpoints":
        return _is_run(folder.parent)
    is_own = path.name in _RUN_FILES or path.name.startswith("events.out.")
    return is_own and _is_run(folder)


def _is_run(folder: Path) -> bool:
    return any((folder / mark).is_file() for mark in _RUN_MARKS)


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
