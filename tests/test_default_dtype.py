"""Training and evaluation do not depend on torch's default dtype."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.dtype_runs import digests

ROOT = Path(__file__).parents[1]


def test_every_agent_and_learner_trains_to_the_same_bits_under_a_float64_default():
    line = [sys.executable, "-m", "tests.support.dtype_runs", "float64"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found, wanted = json.loads(done.stdout), digests()
    assert [name for name in wanted if found.get(name) != wanted[name]] == []
    assert len(found) == len(wanted) > 30
