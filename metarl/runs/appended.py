"""A file to which whole records are appended: a failed write is undone."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["AppendedFile"]


class AppendedFile:
    """A file opened for appending, unbuffered, so that a full disk is reported at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)

    def write(self, record: bytes) -> None:
        """Append one record.

        Raises:
            OSError: naming the file, which is restored to its previous length.
        """
        start = self._file.seek(0, os.SEEK_END)
        rest = record
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except BaseException as error:
            self._file.truncate(start)
            if isinstance(error, OSError):
                error.filename = str(self._path)
            raise

    def flush(self) -> None:
        """Do nothing: records are not buffered."""

    def sync(self) -> None:
        """Wait until the records are on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()
