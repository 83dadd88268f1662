"""Selection of the device, number of usable cores, and memory: its size and its reuse.

torch is imported only when a device is resolved, since the help of commands imports this module.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

__all__ = [
    "DeviceName",
    "keep_freed_memory",
    "require_memory",
    "resolve_device",
    "usable_cores",
]


DeviceName = Literal["auto", "cpu", "cuda"]


def resolve_device(name: str) -> torch.device:
    """The device of a name; "auto" is the GPU if there is one.

    Raises:
        ValueError: if the name is unknown, or a GPU is requested but not available.
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
    """Number of cores that this process may use; all cores if the system does not provide it."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def require_memory(name: str, num_bytes: float, *, remedy: str) -> None:
    """Reject work that needs more memory than this machine has.

    Args:
        name: subject of the message, such as "num_tasks 1000000".
        num_bytes: a lower bound on the memory needed.
        remedy: the change that needs less memory.

    Raises:
        ValueError: stating both sizes.
    """
    available = _total_memory_bytes()
    if num_bytes > available:
        raise ValueError(
            f"{name} needs {_gigabytes(num_bytes)} of memory or more, this machine has "
            f"{_gigabytes(available)}; {remedy}"
        )


def _total_memory_bytes() -> float:
    """Bytes of physical memory; infinite if the system does not provide it."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # Windows
        return math.inf


def _gigabytes(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:,.0f} GB"


_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # constants of glibc's malloc.h
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process reuse freed memory instead of returning large blocks to the system.

    glibc requests each block of more than 32 MiB from the system, which must clear its pages: a
    quarter to a third of the time of training on images on a CPU. With this setting the memory of
    the process does not shrink. It applies to the whole process, so only programs should call it.
    On a GPU, torch reuses memory itself.

    Returns:
        Whether the setting is supported: with glibc, on most Linux systems.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # another C library
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))
