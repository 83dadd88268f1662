"""Files and directories that are complete after a crash, and locks of directories."""

from __future__ import annotations

import errno
import glob
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
"""Files of a run, which the output files of commands must not replace."""
_RUN_MARKS = ("config.json", "seeds.json")  # a folder with one of these is a run


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file in one step: a reader sees the old content or the new content.

    Content and name are on the disk when the function returns.
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
        if error.errno is not None:  # the calls above name the temporary file or none
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk, if the file system supports it."""
    if os.name == "nt":  # Windows cannot open a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems do not support it
            raise
    finally:
        os.close(descriptor)


def require_output_file(name: str, path: Path) -> None:
    """Reject an invalid output file of a command before the command does its work.

    Devices, pipes and symbolic links are allowed; see `write_output`.

    Args:
        name: name of the argument, for the message.
        path: the output file.

    Raises:
        ValueError: if its folder does not exist or cannot be written to, it is a folder, or it is
            one of the files of a run.
        OSError: if it cannot be resolved, for example because of a cycle of links.
    """
    folders = (path.absolute().parent, _without_links(path).parent)
    if not all(folder.is_dir() for folder in folders) or stat.S_ISDIR(_mode(path)):
        raise ValueError(f"{name} must be a file in a directory that exists, got {path}")
    if stat.S_ISREG(_mode(path)) and not os.access(_without_links(path).parent, os.W_OK):
        raise ValueError(f"{name} must be a file in a directory that can be written to, got {path}")
    if _is_run_file(_without_links(path)):
        raise ValueError(
            f"{name} must not replace a file that belongs to a run, got {path}; choose another name"
        )


def write_output(path: Path, content: bytes) -> None:
    """Write the output of a command to the file that the user named.

    A regular file is replaced in one step; symbolic links to it are kept. Devices and pipes are
    written to.

    Raises:
        OSError: if it cannot be written.
    """
    if stat.S_ISREG(_mode(path)):
        write_atomically(_without_links(path), content)
        return
    with path.open("wb") as file:
        file.write(content)


def _mode(path: Path) -> int:
    """Mode of the file after resolving links; a missing file counts as a regular file."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return stat.S_IFREG


def _without_links(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _is_run_file(path: Path) -> bool:
    """Whether a path without links is, or would be, a file of a run."""
    folder = path.parent
    if folder.name == "checkpoints":
        return _is_run(folder.parent)
    is_own = path.name in _RUN_FILES or path.name.startswith("events.out.")
    return is_own and _is_run(folder)


def _is_run(folder: Path) -> bool:
    return any((folder / mark).is_file() for mark in _RUN_MARKS)


def read_json_object(file: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        ValueError: if the file is damaged or holds another value.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} is damaged: it must hold a JSON object")
    return content


def create_whole(path: Path, fill: Callable[[Path], None]) -> None:
    """Create a directory with its content in one step.

    It is filled under a hidden name in the same folder, then renamed. Hidden directories that a
    killed process left are removed.

    Raises:
        ValueError: if the path exists.
    """
    exists = ValueError(
        f"out must be a new directory, {path} exists; "
        "choose another, or continue that run with --resume"
    )
    if path.exists():
        raise exists
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.new"):
        _remove_abandoned(left)
    hidden = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        hidden.mkdir()
        with locked(hidden):
            fill(hidden)
            try:
                hidden.rename(path)
            except OSError as error:
                raise exists from error
            sync_folder(path.parent)
    except OSError as error:
        if error.errno is not None and error.filename:  # the user does not know the hidden name
            error.filename = os.fsdecode(error.filename).replace(str(hidden), str(path))
        raise
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
        return  # the process that creates it is alive
