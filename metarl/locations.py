"""The place in a user's code at which an error occurred."""

from __future__ import annotations

import sys
import sysconfig
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["located", "user_place"]

_INSTALLED = ("site-packages", "dist-packages")


def located(error: BaseException) -> str:
    """The class and first line of an error, with the last line of user code that it passed.

    Code of this package, of Python and of other installed packages is not the user's.

    >>> located(ValueError("too large"))
    'ValueError: too large'
    """
    message = str(error).partition("\n")[0]
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    place = user_place(error)
    return f"{text} ({place})" if place else text


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
    is_program = module == "__main__" and file.resolve() == Path(sys.argv[0]).resolve()
    return not (is_python or is_program or set(_INSTALLED) & set(file.parts))
