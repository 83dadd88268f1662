"""Tests of the provenance of results."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from metarl.storage import provenance

SCRIPT = "from metarl.storage.provenance import source_commit; print(source_commit())"
IDENTITY = ["-c", "user.name=a", "-c", "user.email=a@b.c"]


def printed_commit(folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", SCRIPT]
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the two packages that the module needs."""
    source = Path(provenance.__file__).parents[1]
    (tmp_path / "metarl/storage").mkdir(parents=True)
    for name in ("__init__.py", "lazy.py", "storage/__init__.py", "storage/provenance.py"):
        shutil.copy(source / name, tmp_path / "metarl" / name)
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    command = ["git", *IDENTITY, *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_commit_of_a_checkout_says_if_files_were_changed(checkout: Path) -> None:
    git(checkout, "init", "-q")
    git(checkout, "add", "metarl")
    git(checkout, "commit", "-q", "-m", "a")
    commit = git(checkout, "rev-parse", "--short", "HEAD")
    assert printed_commit(checkout) == commit
    with (checkout / "metarl/lazy.py").open("a") as file:
        file.write("# changed\n")
    assert printed_commit(checkout) == f"{commit}-dirty"


def test_a_package_outside_a_checkout_or_ignored_in_another_has_no_commit(checkout: Path) -> None:
    assert printed_commit(checkout) == "None"
    git(checkout, "init", "-q")
    git(checkout, "commit", "-q", "--allow-empty", "-m", "a")
    assert printed_commit(checkout) == "None"
