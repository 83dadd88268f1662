"""Consoles that print text as it is: brackets and colons are never read as markup or emoji."""

from __future__ import annotations

from typing import IO

from rich.console import Console

__all__ = ["plain_console"]


def plain_console(
    *,
    stderr: bool = False,
    width: int | None = None,
    file: IO[str] | None = None,
    quiet: bool = False,
) -> Console:
    """A console for paths, names and messages of users, in lines, tables and titles.

    Args:
        stderr: print on standard error instead of standard output.
        width: columns; None: those of the terminal.
        file: where to print instead; a stream that is not a terminal gets no colors.
        quiet: print nothing.
    """
    return Console(stderr=stderr, width=width, file=file, quiet=quiet, markup=False, emoji=False)
