"""Publish runs of reinforcement-learning agents, and list them in the table of results."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from metarl.evaluation.files import read_evaluations, write_evaluations
from metarl.evaluation.measured import Scores
from metarl.evaluation.overlap import OVERLAP_WORDS
from metarl.evaluation.results import Evaluation
from metarl.plots.adaptation import learning_figure
from metarl.report.numbers import interval_text
from metarl.runs.directory import RunDirectory
from metarl.runs.metrics import read_metrics
from metarl.scripts.publish.folder import (
    provenance,
    require_equal_training,
    require_measured_runs,
    write_thinned,
)
from metarl.statistics.estimate import Estimate
from metarl.statistics.numbers import number_text

__all__ = ["agents_table", "estimate_text", "own_scores", "publish_agent"]

_COLUMNS = (
    "environment", "agent", "tasks × runs", "random", "the agent", "each run", "oracle",
    "published",
)  # fmt: skip
_WITH_REGRET = "DependentBandit"  # the papers report the regret of this family
_MAX_EPISODES = 4  # shown individually
_MAX_TASK_PARAMETERS = 16  # stored for each task

# Published results for comparison, and their meaning.
_PUBLISHED = {
    "Navigation2D:maml17": "about −10 after 1 step, −5 after 3 (read off a figure, Finn 2017)",
    "HalfCheetahVel:promp": "−170 … −40 after 0–3 steps (axis range of a published plot)",
    "Bandit:n10-k5": "RL² 6.7 (its best in training), Gittins 6.6; exact optimum 6.660",
    "Bandit:n10-k10": "RL² 6.7 (its best in training), Gittins 6.6; exact optimum 6.714",
    "Bandit:n10-k50": "RL² 6.8 (its best in training), Gittins 6.5; exact optimum 6.714",
    "Bandit:n100-k5": "RL² 78.7, SNAIL 79.1 (their best in training), Gittins 78.3",
    "Bandit:n100-k10": "RL² 83.5, SNAIL 83.5 (their best in training), Gittins 82.8",
    "Bandit:n100-k50": "RL² 84.9, SNAIL 85.1 (their best in training), Gittins 85.2",
    "Bandit:n500-k5": "RL² 401.6, SNAIL 408.1 (their best in training), Gittins 405.8",
    "TabularMDP:rl2": "10 episodes together: RL² 156.2, SNAIL 159.1 (their best), PSRL 138.1; "
    "25: RL² 445.7, SNAIL 447.2, PSRL 408.8",
    "DarkRoom:dpt": "known goal 91.99 (computed)",
    "HalfCheetahVel:varibad": "−33 and −62 for both episodes together (RESeL, 5 M steps)",
    "HalfCheetahDir:varibad": "VariBAD 2,104 (Beck et al. 2022, 100 M steps)",
    "DependentBandit:easy": "regret: Bayes optimum 0.63, Thompson sampling 2.13 (computed)",
    "DependentBandit:medium": "regret: Bayes optimum 1.00, Thompson sampling 3.01 (computed)",
    "DependentBandit:hard": "regret: Bayes optimum 2.31, Thompson sampling 4.08 (computed)",
    "DependentBandit:independent": "regret: Bayes optimum 1.75, Thompson sampling 2.78 (computed)",
    "DependentBandit:uniform": "regret: Bayes optimum 1.22, Thompson sampling 2.79 (computed)",
    "ElevenArmBandit:wang16": "20.55 if the distribution of bandits is known (computed)",
    "GridNavigation:varibad": "Bayes-optimal first episode 4.0; known goal 11.07 (computed)",
}


def publish_agent(
    directories: Sequence[RunDirectory], evaluation: Path, out: Path, name: str | None
) -> Path:
    """Copy the small files of runs into a folder of results, and return the folder.

    Args:
        directories: the seeds of one experiment.
        evaluation: evaluation file of these runs, from `metarl evaluate`.
        out: folder of all results.
        name: name of the folder under its environment; None: the agent's name.

    Raises:
        ValueError: if the evaluation is not one of these runs.
    """
    configs = [directory.config() for directory in directories]
    environment, agent = str(configs[0]["environment"]), str(configs[0]["agent"])
    measured = read_evaluations(evaluation, Evaluation)
    trained = require_equal_training(directories)
    for one in measured:
        require_measured_runs(evaluation, directories, agent, (one.agent, one.runs))
        _require_current(evaluation, one, environment, trained)
    first = directories[0]
    checkpoint = first.newest_checkpoint()
    metrics = [row for row in read_metrics(first) if row["iteration"] <= trained]
    target = out / environment.replace(":", "-") / (name or agent)
    shutil.rmtree(target, ignore_errors=True)  # after everything that can fail
    target.mkdir(parents=True)
    shutil.copy(first.path / "config.json", target)
    shutil.copy(checkpoint, target / "checkpoint.safetensors")
    write_thinned(target / "metrics.jsonl", metrics)
    write_evaluations(target / "evaluation.json", [_without_long_tasks(one) for one in measured])
    title = f"{environment}, {agent}, seed {configs[0]['seed']}"
    learning_figure(metrics, title).savefig(target / "curve.png", dpi=110)
    seconds = sum(row["time/sampling_seconds"] + row["time/update_seconds"] for row in metrics)
    line = provenance(configs, len(metrics), seconds)
    (target / "README.md").write_text(line, encoding="utf-8")
    return target


def _require_current(file: Path, evaluation: Evaluation, environment: str, trained: int) -> None:
    """Reject evaluations in another environment, or from before training was continued."""
    if evaluation.environment != environment:
        raise ValueError(
            f"{file} must be an evaluation in {environment}, got {evaluation.environment}"
        )
    if {*evaluation.iterations} - {trained, None}:
        raise ValueError(
            f"{file} must be an evaluation after {trained} iterations, got "
            f"{', '.join(map(str, evaluation.iterations))}; run metarl evaluate again"
        )


def _without_long_tasks(evaluation: Evaluation) -> Evaluation:
    """An evaluation without large task parameters, such as MDPs, which seed and split determine."""
    if evaluation.tasks.shape[-1] <= _MAX_TASK_PARAMETERS:
        return evaluation
    return replace(evaluation, tasks=evaluation.tasks[..., :0])


def agents_table(out: Path) -> list[str]:
    """A Markdown table of all results of agents in a directory, as lines."""
    lines = [
        "Returns are means over tasks and runs with 95 % intervals. With several runs an interval",
        "is for new runs and new tasks (two-way random effects), and with two or three runs it is",
        "wide; a single run has its interval over tasks. Tasks are from the split test unless",
        "stated. *Regret* is the oracle's return minus the agent's, on the same tasks.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "|---" * len(_COLUMNS) + "|",
    ]
    for file in sorted(out.glob("*/*/evaluation.json")):
        lines += [_row(file.parent, one) for one in read_evaluations(file, Evaluation)]
    return lines


def _row(folder: Path, evaluation: Evaluation) -> str:
    split = evaluation.protocol.split
    environment = evaluation.environment + ("" if split == "test" else f", {split} tasks")
    link = f"[{folder.name}]({folder.parent.name}/{folder.name})"
    count = f"{evaluation.num_tasks} × {len(evaluation.runs)}"
    if split != "train" and (shared := OVERLAP_WORDS[evaluation.overlap]):
        count += f"<br>({shared})"
    stages = "<br>".join(
        f"{name} {estimate_text(evaluation.estimate(scores))}"
        for name, scores in own_scores(evaluation)
    )
    if evaluation.environment.startswith(_WITH_REGRET):
        best = evaluation.reference("oracle").reshape(-1, evaluation.num_tasks)
        regret = best - evaluation.scores(-1)
        stages += f"<br>regret {estimate_text(evaluation.estimate(regret))}"
    last = own_scores(evaluation)[-1][1]
    each = ", ".join(number_text(float(mean)) for mean in last.mean(-1)) if len(last) > 1 else ""
    random, oracle = (_reference(evaluation, name) for name in ("random", "oracle"))
    published = _PUBLISHED.get(evaluation.environment, "")
    cells = [environment, link, count, random, stages, each, oracle, published]
    return f"| {' | '.join(cells)} |"


def own_scores(evaluation: Evaluation) -> list[tuple[str, Scores]]:
    """Stages by name (of many episodes only the first and the last), and all episodes together."""
    rows = [(name, evaluation.scores(k)) for k, name in enumerate(evaluation.stages)]
    together = evaluation.trial_returns
    if together is None:
        return rows
    shown = rows if len(rows) <= _MAX_EPISODES else [rows[0], rows[-1]]
    return [*shown, ("all episodes", together)]


def _reference(evaluation: Evaluation, name: str) -> str:
    if name not in evaluation.references:
        return "none"
    return estimate_text(evaluation.reference_estimate(name))


def estimate_text(estimate: Estimate) -> str:
    """A mean with its interval."""
    value, interval = interval_text(estimate)
    return f"{value} [{interval}]"
