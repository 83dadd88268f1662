"""A Python program that trains, is killed, is resumed by the command, and measures and reports."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import metarl as toolkit
from metarl.scripts.cli import dispatch
from metarl.scripts.faults.kills import fingerprint

SETTINGS = {
    "env": "PointRobot:pearl", "checkpoint_every": 2, "seed": 3, "device": "cpu", "threads": 1,
    "tracker": "none", "meta_batch_size": 2, "num_episodes": 2, "hidden_sizes": [4],
    "cg_iterations": 2,
}  # fmt: skip
PROGRAM = f"""
import sys
import metarl

metarl.train("maml-trpo", out=sys.argv[1], iterations=1_000_000, **{SETTINGS})
"""


def test_a_python_program_is_killed_resumed_by_the_command_and_equals_one_that_was_not(tmp_path):
    program, killed = tmp_path / "program.py", tmp_path / "killed"
    program.write_text(PROGRAM, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(program), str(killed)], stdout=subprocess.DEVNULL
    )
    metrics, until = killed / "metrics.jsonl", time.monotonic() + 60
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < 3:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL

    run = toolkit.Run(killed)
    total = int(run.metrics()[-1]["iteration"]) + 3
    dispatch(["train", "maml-trpo", "--resume", "--iterations", str(total), "--out", str(killed)])
    straight = tmp_path / "straight"
    toolkit.train("maml-trpo", out=straight, iterations=total, **SETTINGS)
    assert fingerprint(killed) == fingerprint(straight)
    assert run.config["command"] == ["program.py", str(killed)]

    options = {"num_tasks": 3, "adaptation_steps": 1, "device": "cpu"}
    (mine, *_), (theirs, *_) = run.evaluate(**options), toolkit.evaluate(straight, **options)
    assert (mine.measured.returns == theirs.measured.returns).all()
    assert mine.iterations == (total,)
    page = toolkit.report([killed], out=tmp_path / "report.html", behavior=False, device="cpu")
    assert "maml-trpo" in page.read_text(encoding="utf-8")
