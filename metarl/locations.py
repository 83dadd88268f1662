"""Descriptions of errors, with their place in the user's code."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["describe_error", "describe_error_with_traceback", "user_place"]

_INSTALLED = ("site-packages", "dist-packages")
_PROGRAMS = (Path(__file__).resolve().parents[1] / "scripts", Path(sysconfig.get_path("scripts")))
"""Folders of this package's own programs, whose module is `__main__` while they run."""


def describe_error(error: BaseException) -> str:
    """The class and first line of an error, with the last line of user code that it passed.

    Code of this package, of Python and of other installed packages is not the user's.

    >>> describe_error(ValueError("too large"))
    'ValueError: too large'
    """
    message = str(error).partition("\n")[0]
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    place = user_place(error)
    return f"{text} ({place})" if place else text


def describe_error_with_traceback(error: BaseException) -> str:
    """The line of `describe_error`, followed by Python's traceback."""
    return f"{describe_error(error)}\n{''.join(traceback.format_exception(error))}"


def user_place(error: BaseException) -> str:
    """File and line of the last frame in the user's code; empty if there is none."""
    frames = [
        (frame.f_code, line, _module(frame.f_globals))
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    for code, line, module in reversed(frames):
        if _is_users(Path(code.co_filename), module):
            return f"{Path(code.co_filename).name}, line {line}"
    return ""


def _module(space: Mapping[str, Any]) -> str:
    """The module's name; of a module run by `python -m`, the name of its package."""
    name = str(space.get("__name__"))
    return str(space.get("__package__") or name) if name == "__main__" else name


def _is_users(file: Path, module: str) -> bool:
    if module.partition(".")[0] == "metarl" or not file.is_file():
        return False
    is_python = file.is_relative_to(sysconfig.get_paths()["stdlib"])
    is_program = module == "__main__" and any(map(file.resolve().is_relative_to, _PROGRAMS))
    return not (is_python or is_program or set(_INSTALLED) & set(file.parts))
