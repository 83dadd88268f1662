"""No command is silent on a terminal for more than a few seconds while it works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from silence import Heard, listen

METARL = (sys.executable, "-m", "metarl")
_TRAIN = "--iterations 1 --meta-batch-size 2 --num-episodes 2 --hidden-sizes 4 --device cpu"


def metarl(line: str, folder: Path) -> Heard:
    return listen([*METARL, *line.split()], cwd=folder, env={"OMP_NUM_THREADS": "1"})


@pytest.mark.slow
def test_commands_that_work_for_long_are_never_silent(tmp_path: Path):
    for line in (
        "list envs",
        "check CartPoleMass:rllib",
        f"train maml-trpo --env CartPoleMass:rllib --out run {_TRAIN}",
        "evaluate run --scratch --references all",
        "report run --out page.html",
        "fewshot maml --iterations 20 --out shots --device cpu",
    ):
        heard = metarl(line, tmp_path)
        assert heard.code == 0, heard.text
        assert heard.longest_gap[0] < 3, (line, heard.longest_gap)


def test_nothing_is_drawn_elsewhere():
    done = subprocess.run([*METARL, "list", "agents"], capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stderr == ""
