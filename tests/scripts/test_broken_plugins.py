"""Commands with broken installed packages: a line for each, and everything else works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = {
    "raises": "raise RuntimeError('no license')",
    "exits": "import sys; sys.exit(0)",
    "lacks": "import no_such_module_of_ours",
    "aborts": "class Abort(BaseException): pass\nraise Abort('at once')",
    "talks": "import time\nprint('welcome')\ntime.sleep(3.5)",
    "thief": """
from metarl.envs import register_family
register_family("Stolen", "a:b", description="never seen", variants=("v",))
register_family("Navigation2D", "a:b", description="not theirs", variants=("maml17",))
""",
    "good": """
from metarl.envs import register_family
from metarl.envs.bandits import Bandit

class Own(Bandit):
    name = "Own"

class Fails(Bandit):
    name = "Fails"
    def __init__(self, variant):
        raise NotImplementedError("not yet")

class Quits(Bandit):
    name = "Quits"
    def __init__(self, variant):
        raise SystemExit(0)

for family in (Own, Fails, Quits):
    register_family(family.__name__, family, description="theirs", variants=("n10-k5",))
""",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder on the path with the packages, as installers leave them."""
    folder = tmp_path_factory.mktemp("installed")
    for name, code in PACKAGES.items():
        (folder / f"plugin_{name}.py").write_text(code)
        info = folder / f"{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[metarl.families]\nx = plugin_{name}\n")
    return folder


def run(installed: Path, words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "metarl", *words.split()],
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_all_environments_are_listed_and_broken_packages_named_in_one_line_each(installed):
    done = run(installed, "list envs")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert any(line.startswith("    Navigation2D:maml17 ") for line in lines)
    assert any(line.startswith("    Own:n10-k5 ") for line in lines)
    assert "    n10-k5: cannot be created (NotImplementedError: not yet)" in lines
    assert "    n10-k5: cannot be created (SystemExit: 0)" in lines
    assert "Stolen" not in done.stdout
    warnings = done.stderr.splitlines()
    assert "package 'talks' is still being imported" in warnings
    assert "welcome" in warnings
    assert "welcome" not in done.stdout
    failed = [line.split("'")[1] for line in warnings if line.startswith("warning: package ")]
    assert sorted(failed) == ["aborts", "exits", "lacks", "raises", "thief"]
    assert len(warnings) == len(failed) + 2


def test_unknown_names_are_rejected_with_the_packages_that_failed(installed):
    done = run(installed, "check Stolen:v")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(
        "metarl: environment 'Stolen' is not available: package 'thief' could not be loaded "
        "(ValueError: environment 'Navigation2D' is registered already)"
    )
    done = run(installed, "check Onw:n10-k5")
    assert done.returncode == 2
    assert "did you mean 'Own'?" in done.stderr
    done = run(installed, "check Quits:n10-k5")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        2,
        "metarl: the factory of Quits:n10-k5 failed with SystemExit: 0 (plugin_good.py, line 16)",
    )


def test_a_family_whose_constructor_raises_is_one_sentence(installed):
    done = run(installed, "check Fails:n10-k5")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "metarl: the factory of Fails:n10-k5 failed with NotImplementedError: not yet "
        "(plugin_good.py, line 11)"
    )
