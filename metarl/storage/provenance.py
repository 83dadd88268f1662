"""Versions of libraries, and the command, which are stored with every result."""

from __future__ import annotations

import functools
import platform
import sys
from importlib import metadata
from pathlib import Path

__all__ = ["library_versions", "command_words"]


_NAMES = ("metarl-toolkit", "torch", "numpy", "gymnasium", "mujoco")


def library_versions() -> dict[str, str]:
    """Versions of Python and of the main libraries, by distribution name."""
    return dict(_versions())


@functools.cache
def _versions() -> tuple[tuple[str, str], ...]:
    found = ((name, metadata.version(name)) for name in _NAMES)
    return (("python", platform.python_version()), *found)


def command_words() -> list[str]:
    """The current command: the program's name without its folder, then its arguments."""
    program, *arguments = sys.argv
    return [Path(program).name, *arguments]
