"""Settings of the whole test run, and runs that several test files share."""

import shutil
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parent / "support"))  # folder of shared modules

from reported_runs import Reported, make_reported
from short_runs import CONFIG, ROBOT, metarl

from metarl.runs.directory import RunDirectory


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """The networks of the tests are too small to be faster with more threads."""
    torch.set_num_threads(1)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run that has just started."""
    return RunDirectory.create(tmp_path / "run", CONFIG)


@pytest.fixture(scope="session")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six iterations, never stopped. Tests read it only."""
    out = tmp_path_factory.mktemp("robot") / "straight"
    metarl(f"{ROBOT} --iterations 6 --checkpoint-every 2", out)
    return out


@pytest.fixture
def half(robot: Path, tmp_path: Path) -> Path:
    """A copy of that run as it was when killed in its fifth iteration."""
    out = tmp_path / "half"
    shutil.copytree(robot, out)
    RunDirectory(out).checkpoint_path(6).unlink()
    return out


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """A run on a robot, a run on a bandit, and the report of both. Tests read them only."""
    return make_reported(tmp_path_factory.mktemp("reported"))
