"""The device of a name, with and without a GPU.

Freed memory is kept: the pages of a large tensor are not requested from the system again.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import torch

from metarl.devices import keep_freed_memory, require_memory, resolve_device, usable_cores


@pytest.fixture
def cuda(monkeypatch):
    """Sets whether torch finds a GPU."""
    return lambda found: monkeypatch.setattr(torch.cuda, "is_available", lambda: found)


@pytest.mark.parametrize(("found", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_the_gpu_if_there_is_one(cuda, found, expected):
    cuda(found)
    assert resolve_device("auto") == torch.device(expected)


@pytest.mark.parametrize("found", [True, False])
def test_cpu_is_the_cpu_with_and_without_a_gpu(cuda, found):
    cuda(found)
    assert resolve_device("cpu") == torch.device("cpu")


def test_cuda_is_the_gpu_or_an_error(cuda):
    cuda(True)
    assert resolve_device("cuda") == torch.device("cuda")
    cuda(False)
    with pytest.raises(ValueError, match="this torch finds no CUDA device; use auto or cpu"):
        resolve_device("cuda")


@pytest.mark.parametrize("name", ["gpu", "cuda:1", "CPU", ""])
def test_an_unknown_name_is_rejected(name):
    message = f"device must be auto, cpu or cuda, got {name!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        resolve_device(name)


def test_all_cores_are_usable_if_the_system_does_not_provide_the_number(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 4, 5}, raising=False)
    assert usable_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert usable_cores() == 7


_COUNT = """
import resource, sys
import torch
from metarl.devices import keep_freed_memory
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
        pytest.skip("only glibc supports keeping memory")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are Linux's")
def test_a_large_tensor_reuses_the_pages_of_a_freed_one():
    assert page_faults("kept") < page_faults("given back") / 20


def test_other_systems_are_not_changed(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()


def test_work_that_cannot_fit_into_memory_is_rejected(monkeypatch):
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 10**6, "SC_PAGE_SIZE": 4096}.get)
    require_memory("a net", 4.0e9, remedy="use a smaller one")
    needed = "a net needs 5 GB of memory or more, this machine has 4 GB; use a smaller one"
    with pytest.raises(ValueError, match=needed):
        require_memory("a net", 5.0e9, remedy="use a smaller one")
    monkeypatch.delattr(os, "sysconf")  # as on Windows
    require_memory("a net", 1e30, remedy="use a smaller one")
