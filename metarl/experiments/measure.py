"""`metarl.evaluate`: what the command `metarl evaluate` does, from Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from metarl.evaluation.protocol import EvaluationProtocol
from metarl.evaluation.results import Evaluation, write_evaluations
from metarl.experiments.measure_agent import EvaluateConfig
from metarl.experiments.measure_agent import evaluate as evaluate_agents
from metarl.experiments.measure_learner import EvaluateFewShotConfig
from metarl.experiments.measure_learner import evaluate as evaluate_learners
from metarl.fewshot.results import MeasuredRuns, write_json
from metarl.plots.adaptation import adaptation_figure
from metarl.plots.style import figure_png
from metarl.runs.seeds import SEEDS_FILE, holds_seeds
from metarl.storage.checkpoints import read_header
from metarl.storage.files import read_json_object, write_output

__all__ = ["evaluate", "is_fewshot"]


def evaluate(
    targets: str | Path | Sequence[str | Path], **options: Any
) -> list[Evaluation] | MeasuredRuns:
    """Measure agents or few-shot learners on unseen tasks, and write what the command writes.

    Args:
        targets: one or more of what `metarl evaluate` accepts: runs, several seeds, checkpoints,
            models of Stable-Baselines3, module:attribute. Several are runs of one experiment.
        options: the command's options, with underscores; `metarl evaluate --help` and, for
            few-shot learners, `metarl evaluate RUN --help` list them.

    Returns:
        For agents an evaluation of each split, for few-shot learners their scores.

    Raises:
        ValueError: if a target or an option is invalid.
        TypeError: if there is no such option.
    """
    several = [targets] if isinstance(targets, str | Path) else targets
    words = tuple(str(target) for target in several)
    if any(is_fewshot(word) for word in words):
        learners = EvaluateFewShotConfig(runs=tuple(map(Path, words)), **_paths(options))
        measured = evaluate_learners(learners)
        if learners.json is not None:
            write_json(measured, learners.json)
        return measured
    names = {field.name for field in fields(EvaluationProtocol)} & options.keys()
    protocol = EvaluationProtocol(**{name: options[name] for name in names})
    others = {name: value for name, value in options.items() if name not in names}
    config = EvaluateConfig(targets=words, protocol=protocol, **_paths(others))
    evaluations = evaluate_agents(config, given=options.keys())
    if config.json_file is not None:
        write_evaluations(config.json_file, evaluations)
    if config.plot is not None:
        write_output(config.plot, figure_png(adaptation_figure(evaluations), dpi=150))
    return evaluations


def is_fewshot(word: str) -> bool:
    """Whether a target is a run, several seeds or a checkpoint of a few-shot learner."""
    path = Path(word)
    try:
        if path.is_dir():
            file = SEEDS_FILE if holds_seeds(path) else "config.json"
            agent = read_json_object(path / file).get("agent")
        elif path.suffix == ".safetensors":
            agent = read_header(path).get("agent")
        else:
            return False
    except (OSError, ValueError):  # the error is reported when the target is loaded
        return False
    return isinstance(agent, str) and agent.startswith("fewshot-")


def _paths(options: dict[str, Any]) -> dict[str, Any]:
    """Options with text for the files turned into paths."""
    files = ("data_dir", "json", "plot")
    return {
        name: Path(value) if name in files and value is not None else value
        for name, value in options.items()
    }
