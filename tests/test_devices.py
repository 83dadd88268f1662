"""Which device a name means, with and without a GPU."""

import os
import re

import pytest
import torch

from metarl.devices import resolve_device, usable_cores


@pytest.fixture
def cuda(monkeypatch):
    """Says whether torch finds a GPU."""
    return lambda found: monkeypatch.setattr(torch.cuda, "is_available", lambda: found)


@pytest.mark.parametrize(("found", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_the_gpu_where_there_is_one(cuda, found, expected):
    cuda(found)
    assert resolve_device("auto") == torch.device(expected)


@pytest.mark.parametrize("found", [True, False])
def test_cpu_is_the_cpu_with_and_without_a_gpu(cuda, found):
    cuda(found)
    assert resolve_device("cpu") == torch.device("cpu")


def test_cuda_is_the_gpu_or_refused_never_replaced(cuda):
    cuda(True)
    assert resolve_device("cuda") == torch.device("cuda")
    cuda(False)
    with pytest.raises(ValueError, match="this torch finds no CUDA device; use auto or cpu"):
        resolve_device("cuda")


@pytest.mark.parametrize("name", ["gpu", "cuda:1", "CPU", ""])
def test_an_unknown_name_is_refused(name):
    message = f"device must be auto, cpu or cuda, got {name!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        resolve_device(name)


def test_where_the_system_does_not_tell_all_cores_are_usable(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 4, 5}, raising=False)
    assert usable_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert usable_cores() == 7
