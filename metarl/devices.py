"""Which device a computation runs on, and what becomes of freed memory.

torch is imported when a device is resolved: the command line imports this module for its help.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

__all__ = ["DeviceName", "resolve_device", "usable_cores", "keep_freed_memory"]


DeviceName = Literal["auto", "cpu", "cuda"]


def resolve_device(name: str) -> torch.device:
    """The device of a name; "auto" is the GPU where there is one.

    Raises:
        ValueError: if the device is unknown, or a GPU is asked for and none can be used.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda, but this torch finds no CUDA device; use auto or cpu")
    return torch.device(name)


def usable_cores() -> int:
    """Cores that this process may use; all, where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, instead of giving large blocks back at once.

    glibc takes blocks of more than 32 MiB from the system anew each time, which then has to clear
    every page of them: a quarter to a third of the time of training on pictures on a CPU. A process
    that keeps them stays as large as it was at its largest. For programs, not for libraries: it
    holds for everything in the process. On a GPU, torch keeps its memory itself.

    Returns:
        Whether it could be done: with glibc, that is on most Linux systems.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # another C library
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))
