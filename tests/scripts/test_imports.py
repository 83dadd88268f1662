"""Help, the version and lists of names do not import the slow libraries."""

from __future__ import annotations

import subprocess
import sys

import pytest

SLOW = ("torch", "numpy", "gymnasium", "mujoco", "matplotlib", "rich.console", "pandas")
RUN = """
import contextlib, io, sys
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    exec(sys.argv[1])
print(*sys.modules)
"""


@pytest.mark.parametrize(
    "statement",
    [
        "import metarl",
        "import metarl.__main__",
        *(
            f"from metarl.scripts.cli import dispatch; dispatch({line.split()})"
            for line in (
                *("--help", "--version", "list agents", "list references", "train --help"),
                *("list learners", "list datasets", "fewshot --help", "fewshot --list"),
            )
        ),
    ],
)
def test_slow_libraries_are_not_imported(statement):
    ended = subprocess.run(
        [sys.executable, "-c", RUN, statement],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    loaded = set(ended.stdout.split())
    assert "metarl" in loaded
    assert loaded & set(SLOW) == set()
