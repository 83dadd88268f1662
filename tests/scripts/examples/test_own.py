"""The examples of a user's agent, learner and family, used in three ways.

Each file is used as a module that a command imports, as an installed plug-in, and as the source of
`python -c`, the way a notebook runs it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

EXAMPLES = Path(__file__).parents[3] / "scripts" / "examples"


class Example(NamedTuple):
    module: str
    group: str
    """Entry-point group of plug-ins."""
    train: str
    """Arguments of the command that trains for an iteration or two."""
    evaluate: str
    call: str
    """The same training from Python."""


FEW = "--num-tasks 2 --exploration-episodes 2 --evaluation-episodes 2 --adaptation-steps 1"
EPISODES = "--num-tasks 2 --adaptation-steps 1"
EXAMPLE_FILES = {
    "agent": Example(
        "my_agent",
        "metarl.agents",
        "train reptile --env Navigation2D:maml17 --meta-batch-size 2 --iterations 1",
        FEW,
        "metarl.train('reptile', env='Navigation2D:maml17', meta_batch_size=2, iterations=1,",
    ),
    "family": Example(
        "my_family",
        "metarl.families",
        "train rl2 --env Pendulums:wide --meta-batch-size 4 --memory-size 4 --iterations 1",
        EPISODES,
        "metarl.train('rl2', env='Pendulums:wide', meta_batch_size=4, memory_size=4, iterations=1,",
    ),
    "learner": Example(
        "my_learner",
        "metarl.learners",
        "fewshot cosines --dataset glyphs --filters 4 4 --iterations 2 --test-queries 1",
        "--num-tasks 5",
        "metarl.train('cosines', dataset='glyphs', filters=(4, 4), iterations=2, test_queries=1,",
    ),
}
pytestmark = pytest.mark.parametrize("example", EXAMPLE_FILES.values(), ids=EXAMPLE_FILES)


def python(folder: Path, *words: str, path: Path | None = None) -> str:
    """The output of a new Python process in a folder; it must succeed."""
    environment = {**os.environ, "PYTHONPATH": str(path) if path else ""}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def metarl(folder: Path, line: str, path: Path | None = None) -> str:
    return python(folder, "-m", "metarl", *line.split(), path=path)


def test_an_example_is_short(example):
    source = (EXAMPLES / f"{example.module}.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) < 60


def test_a_module_is_imported_by_the_commands(example, tmp_path):
    (tmp_path / f"{example.module}.py").write_bytes(
        (EXAMPLES / f"{example.module}.py").read_bytes()
    )
    own = f"--import {example.module}"
    metarl(tmp_path, f"{example.train} {own} --tracker none --out run")
    metarl(tmp_path, f"evaluate run {own} {example.evaluate} --json run/evaluation.json")
    metarl(tmp_path, f"report run {own} --out report.html")
    assert "Results" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_an_installed_plug_in_needs_no_option(example, tmp_path):
    site = tmp_path / "site"
    info = site / "my_package-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{example.group}]\nmine = {example.module}\n")
    (site / f"{example.module}.py").write_bytes((EXAMPLES / f"{example.module}.py").read_bytes())
    metarl(tmp_path, f"{example.train} --tracker none --out run", path=site)
    metarl(tmp_path, f"evaluate run {example.evaluate} --json found.json", path=site)
    assert (tmp_path / "found.json").is_file()


def test_a_notebook_trains_measures_and_reports(example, tmp_path):
    source = (EXAMPLES / f"{example.module}.py").read_text(encoding="utf-8")
    program = f"""{source}
import metarl
run = {example.call} out='run', tracker='none', progress=False)
run.evaluate(num_tasks=2, json='run/evaluation.json')
print(run.report('report.html', behavior=False))
print(len(run.metrics()), 'rows')
"""
    printed = python(tmp_path, "-c", program)
    assert "report.html" in printed
    assert "rows" in printed
