"""Text on terminals: printed literally, without markup, emoji codes or control characters."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:  # rich is imported when a console is made, so that help texts are fast
    from rich.console import Console

__all__ = ["plain_console"]


def plain_console(
    *,
    stderr: bool = False,
    width: int | None = None,
    file: IO[str] | None = None,
    quiet: bool = False,
) -> Console:
    """A console for lines, tables and titles that contain arbitrary text.

    If the reader of its output ends, as `head` does, it becomes quiet and the work continues.

    Args:
        stderr: print on standard error instead of standard output.
        width: number of columns; None: the width of the terminal.
        file: stream to print to instead; colors are used only on a terminal.
        quiet: print nothing.
    """
    from metarl.literal_console import LiteralConsole

    return LiteralConsole(
        stderr=stderr, width=width, file=file, quiet=quiet, markup=False, emoji=False
    )
