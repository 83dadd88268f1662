"""Time limits of commands in forks."""

from __future__ import annotations

import os
import time

import pytest

from metarl.scripts.faults import processes
from metarl.scripts.faults.processes import ForkedCommand


def work(seconds: float) -> None:
    started = time.process_time()
    while time.process_time() - started < seconds:
        pass


def start(log, prepare) -> ForkedCommand:
    def ending() -> None:
        prepare()
        os._exit(0)

    return ForkedCommand.start([], log, prepare=ending)


@pytest.mark.parametrize("prepare", [lambda: time.sleep(60), lambda: work(60)])
def test_a_command_that_hangs_or_never_ends_is_killed(tmp_path, monkeypatch, prepare):
    monkeypatch.setattr(processes, "_PATIENCE", 3.0)
    began = time.monotonic()
    assert start(tmp_path / "log", prepare).wait_at_most(0.1) is None
    assert time.monotonic() - began < 20


def test_a_command_that_waits_for_a_core_gets_more_time(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_PATIENCE", 600.0)
    waiting = start(tmp_path / "log", lambda: time.sleep(0.5))
    assert waiting.wait_at_most(0.1) == 0
