"""Locks on directories: one holder, a clear sentence for others, and release by the system."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from metarl.storage.files import locked

HOLD = """
import sys, time
from pathlib import Path
from metarl.storage.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that holds the directory."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_directory_has_one_holder_until_it_is_killed(tmp_path, holder):
    message = f"^run {tmp_path} is being written by another process; wait until that has ended"
    with pytest.raises(ValueError, match=message), locked(tmp_path):
        pass
    holder.kill()
    holder.wait()
    with locked(tmp_path):
        pass


def test_a_directory_can_be_held_again_after_its_release_even_by_an_error(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    with locked(tmp_path), pytest.raises(ValueError, match="another process"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_directory_that_does_not_exist_cannot_be_held(tmp_path):
    with pytest.raises(FileNotFoundError), locked(tmp_path / "none"):
        pass
