"""Versions of libraries and code, and the command, which are stored with every result."""

from __future__ import annotations

import functools
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["library_versions", "source_commit", "command_words", "provenance"]


_NAMES = ("metarl-toolkit", "torch", "numpy", "gymnasium", "mujoco")


def library_versions() -> dict[str, str]:
    """Versions of Python and of the main libraries, by distribution name."""
    return dict(_versions())


@functools.cache
def _versions() -> tuple[tuple[str, str], ...]:
    found = ((name, metadata.version(name)) for name in _NAMES)
    return (("python", platform.python_version()), *found)


@functools.cache
def source_commit() -> str | None:
    """Abbreviated commit of the checkout that metarl is imported from; None if it is installed.

    It ends in "-dirty" if tracked files were changed.
    """
    package = Path(__file__).parents[1]
    commands = (
        ["git", "ls-files", "--error-unmatch", "__init__.py"],
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
    )
    output = ""
    for command in commands:
        try:
            output = subprocess.run(
                command, cwd=package, capture_output=True, text=True, check=True, timeout=10
            ).stdout
        except (OSError, subprocess.SubprocessError):
            return None
    return output.strip()


def command_words() -> list[str]:
    """The current command: the program's name without its folder, then its arguments."""
    program, *arguments = sys.argv
    return [Path(program).name, *arguments]


def provenance() -> dict[str, Any]:
    """Versions, commit and command of the current process, as entries of config.json."""
    return {
        "versions": library_versions(),
        "commit": source_commit(),
        "command": command_words(),
    }
