"""The console of rich behind `metarl.console.plain_console`, which imports it when it is needed."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Any

from rich.console import Console
from rich.text import Text

from metarl.printable import printable

__all__ = ["LiteralConsole"]


class LiteralConsole(Console):
    """Escapes control characters in text, and becomes quiet if nobody can read its output."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Convert a text of a line, a table's cell or a title."""
        return super().render_str(printable(text), **options)

    def on_broken_pipe(self) -> None:
        """Print nothing more; rich would end the process, and its results would be lost."""
        self.quiet = True
        with contextlib.suppress(OSError, ValueError):  # a stream without a descriptor
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, self.file.fileno())
            os.close(devnull)

    def _check_buffer(self) -> None:
        """Write what is due; prints nothing more if the terminal was closed."""
        try:
            super()._check_buffer()
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self.quiet = True
            self._buffer.clear()
