"""Which device a name means on this machine."""

from __future__ import annotations

import os
from typing import Literal

import torch

__all__ = ["DeviceName", "resolve_device", "usable_cores"]

DeviceName = Literal["auto", "cpu", "cuda"]


def resolve_device(name: str) -> torch.device:
    """The device of a name; "auto" is the GPU where there is one.

    Raises:
        ValueError: if the device is unknown, or a GPU is asked for and none can be used.
    """
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
