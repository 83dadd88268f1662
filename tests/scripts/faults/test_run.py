"""A small fault campaign; docs/results/reliability.md has the full one."""

import subprocess
import sys
from pathlib import Path

import pytest

from metarl.scripts.faults.run import CampaignConfig

ROOT = Path(__file__).parents[3]


def test_a_small_campaign_passes(tmp_path):
    numbers = "--kills 6 --checkpoints 7 --configs 8 --command-lines 40 --seed 1 --quick"
    ended = subprocess.run(
        [sys.executable, "scripts/faults/run.py", *numbers.split(),
         "--report", str(tmp_path / "page.md")],
        cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=300, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout[-3000:]
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:4] for line in page.splitlines() if line.startswith("|")][2:]
    counts = {
        what.strip(" *"): (tried.strip(" *"), wanted.strip(" *")) for what, tried, wanted in rows
    }
    assert all(tried == wanted for tried, wanted in counts.values())
    assert counts["malformed command lines"] == ("40", "40")
    assert counts["`maml-trpo`, SIGKILL at a random moment"] == ("1", "1")
    assert int(counts["all"][0]) >= 6 + 7 + 8 + 40 + 12


def test_the_page_describes_the_whole_campaign():
    page = (ROOT / "docs" / "results" / "reliability.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:4] for line in page.splitlines() if line.startswith("| ")][1:]
    tried = {what.strip(): int(tried) for what, tried, _ in rows[:-1]}
    assert all(tried.strip(" *") == wanted.strip(" *") for _, tried, wanted in rows)
    for kind, least in (("SIGKILL", 200), ("checkpoint:", 200), ("malformed", 300)):
        assert sum(count for what, count in tried.items() if kind in what) >= least
    assert any("worker process: hangs" in what for what in tried)


@pytest.mark.parametrize("name", ["kills", "checkpoints", "configs", "command_lines", "seed"])
def test_a_number_below_zero_is_rejected(name):
    with pytest.raises(ValueError, match=f"{name} must be 0 or more, got -1"):
        CampaignConfig(**{name: -1})
