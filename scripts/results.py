"""Publish runs under results/ and regenerate its table: `python scripts/results.py [RUN ...]`.

The runs of one command, or of a directory of several seeds, are one result. They must have been
measured together: `metarl evaluate RUN [RUN ...] [--json FILE]`.
"""

from __future__ import annotations

import json
import platform
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from metarl.bootstrap import Estimate
from metarl.checkpoints import read_header
from metarl.evaluation import Evaluation, read_evaluations
from metarl.plots import learning_figure
from metarl.runs import RunDirectory, read_metrics
from metarl.scripts.command_line import parse, run
from metarl.scripts.evaluation_targets import expanded
from metarl.scripts.number_text import interval_text

__all__ = ["ResultsConfig", "main"]

_MOST_LINES = 200

# Figures of others beside ours, with what they are.
_PUBLISHED = {
    "Navigation2D:maml17": "about −10 after 1 step, −5 after 3 (read off a figure, Finn 2017)",
    "HalfCheetahVel:promp": "−170 … −40 after 0–3 steps (axis range of a published plot)",
    "Bandit:n10-k5": "RL² 6.7 (its best in training), Gittins 6.6; exact optimum 6.660",
    "Bandit:n10-k10": "RL² 6.7 (its best in training), Gittins 6.6; exact optimum 6.714",
    "Bandit:n10-k50": "RL² 6.8 (its best in training), Gittins 6.5; exact optimum 6.714",
    "DependentBandit:easy": "Bayes optimum 89.37, Thompson sampling 87.87 (computed)",
    "DependentBandit:medium": "Bayes optimum 74.00, Thompson sampling 71.99 (computed)",
    "DependentBandit:hard": "Bayes optimum 57.69, Thompson sampling 55.92 (computed)",
    "DependentBandit:independent": "regret: Bayes optimum 1.75, Thompson sampling 2.78 (computed)",
    "DependentBandit:uniform": "regret: Bayes optimum 1.22, Thompson sampling 2.79 (computed)",
    "ElevenArmBandit:wang16": "20.55 for who knows how such bandits are made (computed)",
    "GridNavigation:varibad": "Bayes-optimal first episode 4.0; known goal 11.07 (computed)",
}


@dataclass(frozen=True)
class ResultsConfig:
    """Publish runs and regenerate the table of results."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Directories of runs, or one of several seeds: together one result."""
    evaluation: Path | None = None
    """What `metarl evaluate` wrote of them; by default evaluation.json in the only directory."""
    out: Path = Path("results")
    """Where results live."""


def main(arguments: Sequence[str]) -> None:
    """The script's command line."""
    config = parse(ResultsConfig, arguments, program="python scripts/results.py")
    if config.runs:
        evaluation = config.evaluation or config.runs[0] / "evaluation.json"
        print(f"published {publish(config.runs, evaluation, config.out)}")
    (config.out / "README.md").write_text(table(config.out), encoding="utf-8")
    print(f"wrote {config.out / 'README.md'}")


def publish(runs: Sequence[Path], evaluation: Path, out: Path) -> Path:
    """Copy what is small and matters of these runs; the directory of the result.

    Args:
        runs: the seeds of one experiment; a directory of several stands for all of them.
        evaluation: what `metarl evaluate` wrote of them.
        out: where results live.

    Raises:
        ValueError: if the runs are not seeds of one experiment, or it is not they who were
            measured.
    """
    singles = [Path(single) for path in runs for single in expanded(str(path))]
    directories = [RunDirectory.open(path) for path in singles]
    configs = [directory.config() for directory in directories]
    names = {(c["agent"], c["environment"], json.dumps(c["agent_config"])) for c in configs}
    if len(names) != 1:
        raise ValueError("runs must be seeds of one agent, environment and configuration")
    _require_evaluation_of(evaluation, singles, str(configs[0]["agent"]))
    environment, agent = str(configs[0]["environment"]), str(configs[0]["agent"])
    target = out / environment.replace(":", "-") / agent
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    first = directories[0]
    shutil.copy(first.path / "config.json", target)
    checkpoint = first.newest_checkpoint()
    shutil.copy(checkpoint, target / "checkpoint.safetensors")
    trained = read_header(checkpoint)["counters"]["num_iterations"]
    metrics = [row for row in read_metrics(first) if row["iteration"] <= trained]
    every = -(-len(metrics) // _MOST_LINES)
    thinned = [row for k, row in enumerate(metrics) if k % every == 0 or k == len(metrics) - 1]
    lines = "".join(json.dumps(row) + "\n" for row in thinned)
    (target / "metrics.jsonl").write_text(lines, encoding="utf-8")
    shutil.copy(evaluation, target / "evaluation.json")
    title = f"{environment}, {agent}, seed {configs[0]['seed']}"
    learning_figure(metrics, title).savefig(target / "curve.png", dpi=110)
    (target / "README.md").write_text(_line(configs, metrics) + "\n", encoding="utf-8")
    return target


def table(out: Path) -> str:
    """The table of all results under a directory, as Markdown."""
    lines = [
        "# Results",
        "",
        "Generated by `python scripts/results.py` from the folders here; each holds the command,",
        "the configuration, the checkpoint and the raw returns of every task.",
        "Returns are means over unseen tasks and runs with 95 % bootstrap intervals, over runs",
        "where there are several, else over tasks. Tasks are of the split test, unless named.",
        "",
        "| environment | agent | tasks × runs | random | the agent | oracle | published |",
        "|---|---|---|---|---|---|---|",
    ]
    for file in sorted(out.glob("*/*/evaluation.json")):
        lines += [_row(file.parent, evaluation) for evaluation in read_evaluations(file)]
    return "\n".join(lines) + "\n"


def _row(folder: Path, evaluation: Evaluation) -> str:
    split = evaluation.protocol.split
    environment = evaluation.environment + ("" if split == "test" else f", {split} tasks")
    link = f"[{folder.name}]({folder.parent.name}/{folder.name})"
    count = f"{len(evaluation.tasks)} × {len(evaluation.runs)}"
    stages = "<br>".join(
        f"{name} {_shown(evaluation.estimate(evaluation.scores(k)))}"
        for k, name in enumerate(evaluation.stages)
    )
    random, oracle = (_reference(evaluation, name) for name in ("random", "oracle"))
    published = _PUBLISHED.get(evaluation.environment, "")
    cells = [environment, link, count, random, stages, oracle, published]
    return f"| {' | '.join(cells)} |"


def _reference(evaluation: Evaluation, name: str) -> str:
    if name not in evaluation.references:
        return "none"
    return _shown(evaluation.estimate(evaluation.reference(name)))


def _shown(estimate: Estimate) -> str:
    value, interval = interval_text(estimate)
    return f"{value} [{interval}]"


def _require_evaluation_of(file: Path, runs: Sequence[Path], agent: str) -> None:
    """Refuse an evaluation that is missing, or of other runs than these."""
    if not file.is_file():
        words = " ".join(map(str, runs))
        raise ValueError(
            f"the runs have no evaluation {file}; write it with metarl evaluate {words} "
            f"--json {file}"
        )
    for evaluation in read_evaluations(file):
        measured = sorted(Path(name).name for name in evaluation.runs)
        if evaluation.agent != agent or measured != sorted(path.name for path in runs):
            raise ValueError(
                f"{file} must be of {agent} and the runs {', '.join(p.name for p in runs)}, it is "
                f"of {evaluation.agent} and {', '.join(evaluation.runs)}"
            )


def _line(configs: list[dict[str, Any]], metrics: list[dict[str, float]]) -> str:
    command = shlex.join(["metarl", *configs[0]["command"][1:]])
    seeds = ", ".join(str(config["seed"]) for config in configs)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    seconds = sum(row["time/sampling_seconds"] + row["time/update_seconds"] for row in metrics)
    return (
        f"`{command}` (commit {commit or 'unknown'}, seeds {seeds}, "
        f"{platform.machine()} CPU, {configs[0]['device']}; {len(metrics)} iterations, "
        f"{seconds / 60:.0f} minutes of wall time for one seed)"
    )


if __name__ == "__main__":
    run(main)
