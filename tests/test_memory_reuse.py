"""Freed memory is kept: the pages of a large tensor are not asked for again."""

from __future__ import annotations

import subprocess
import sys

import pytest

from metarl.memory_reuse import keep_freed_memory

_COUNT = """
import resource, sys
import torch
from metarl.memory_reuse import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit("not this C library")
torch.ones(48 << 20)  # 192 MiB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(32 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str) -> int:
    """Pages that a tensor asks the system for after a larger one, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _COUNT, mode], capture_output=True, text=True, check=False
    )
    if "not this C library" in done.stderr:
        pytest.skip("only glibc keeps memory when it is told to")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are Linux's")
def test_a_large_tensor_takes_the_pages_of_one_before_it():
    assert page_faults("kept") < page_faults("given back") / 20


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
