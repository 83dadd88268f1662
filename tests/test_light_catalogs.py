"""Registries, catalogs and package roots load without torch."""

import subprocess
import sys

import pytest

NAMES = """
import sys
from metarl.agents import AGENTS
from metarl.envs import FAMILIES, family_ids
from metarl.rl.registry import REFERENCES
assert [entry.name for entry in AGENTS][:2] == ["maml-trpo", "rl2"]
assert FAMILIES.get("Bandit").variants and REFERENCES.get("ucb1").description
assert "Navigation2D:maml17" in family_ids()
"""


@pytest.mark.parametrize("code", ["import metarl", NAMES])
def test_names_are_listed_without_torch(code):
    heavy = "[m for m in ('torch', 'mujoco', 'scipy', 'matplotlib') if m in sys.modules]"
    program = f"import sys\n{code}\nprint({heavy})"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_public_names_are_found_at_their_first_use():
    program = (
        "import metarl, metarl.agents, metarl.envs\n"
        "for package in (metarl, metarl.agents, metarl.envs):\n"
        "    assert set(package.__all__) <= {n for n in package.__all__ if getattr(package, n)}\n"
        "    assert 'no_such_name' not in dir(package) and not hasattr(package, 'no_such_name')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
