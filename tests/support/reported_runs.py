"""Short runs with evaluations, for tests of their presentation."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from short_runs import ROBOT

from metarl.scripts.cli import dispatch

BANDIT = ROBOT.replace("PointRobot:pearl", "DependentBandit:easy")
MEASURE = (
    "--num-tasks 3 --exploration-episodes 2 --evaluation-episodes 2 --adaptation-steps 1 "
    "--device cpu"
)


def train(out: Path, *, line: str = ROBOT, options: str = "") -> Path:
    """A run of two iterations, measured on three tasks."""
    dispatch(f"{line} --iterations 2 {options} --out {out}".split())
    dispatch(f"evaluate {out} {MEASURE}".split())
    return out


class Reported(NamedTuple):
    """A run on `PointRobot:pearl`, one on `DependentBandit:easy`, and the page about both."""

    robot: Path
    bandit: Path
    page: Path


def make_reported(folder: Path) -> Reported:
    """Train, measure and report."""
    made = Reported(
        train(folder / "robot"), train(folder / "bandit", line=BANDIT), folder / "report.html"
    )
    words = ["report", made.robot, made.bandit, "--out", made.page, "--device", "cpu"]
    dispatch([str(word) for word in words])
    return made
