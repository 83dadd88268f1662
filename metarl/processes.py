"""The main module of a program that starts processes."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

__all__ = ["require_main_process", "without_main_module"]


def require_main_process(caller: str) -> None:
    """Reject a call by a script that a new process imports, which would repeat the whole program.

    Args:
        caller: name of the function, at the start of the message.

    Raises:
        RuntimeError: stating how to protect the script.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(
            f"{caller} must be called under `if __name__ == '__main__':` in a script that defines "
            "a class which worker processes need, because they import the script"
        )


@contextmanager
def without_main_module() -> Iterator[None]:
    """Within the block, new processes do not import the main module, whose classes they lack."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
