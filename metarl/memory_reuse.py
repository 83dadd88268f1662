"""Keeping freed memory for the next tensors, which the C library of Linux does not do by itself."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

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
