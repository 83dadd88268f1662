"""Measure what was trained: `metarl evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from metarl.console import plain_console
from metarl.evaluation.results import write_evaluations
from metarl.experiments.measure_agent import EvaluateConfig, evaluate
from metarl.experiments.measure_learner import EvaluateFewShotConfig
from metarl.experiments.measure_learner import evaluate as evaluate_evaluate_fewshot
from metarl.fewshot.results import write_json
from metarl.plots.adaptation import adaptation_figure
from metarl.plots.style import figure_png
from metarl.report.terminal import print_evaluation, print_table
from metarl.runs.seeds import SEEDS_FILE, holds_seeds
from metarl.scripts.command_line import given_options, parse, run
from metarl.storage.checkpoints import read_header
from metarl.storage.files import read_json_object, write_output

__all__ = ["main", "main_evaluate_fewshot"]


def main(arguments: Sequence[str]) -> None:
    """The command `metarl evaluate`."""
    if any(_is_fewshot(word) for word in arguments):
        main_evaluate_fewshot(arguments)
        return
    config = parse(EvaluateConfig, arguments, program="metarl evaluate")
    evaluations = evaluate(config, given=given_options(arguments))
    console = plain_console()
    for evaluation in evaluations:
        print_evaluation(console, evaluation)
    if config.json_file is not None:
        write_evaluations(config.json_file, evaluations)
        console.print(f"wrote {config.json_file}", soft_wrap=True)
    elif config.own_run is not None:
        console.print(
            f"{config.own_run.path} was published, so its evaluation.json stays as it is; "
            "--json FILE writes these numbers",
            soft_wrap=True,
        )
    if config.plot is not None:
        write_output(config.plot, figure_png(adaptation_figure(evaluations), dpi=150))


def _is_fewshot(word: str) -> bool:
    """Whether an argument is a run, several seeds or a checkpoint of a few-shot learner."""
    path = Path(word)
    try:
        if path.is_dir():
            file = SEEDS_FILE if holds_seeds(path) else "config.json"
            agent = read_json_object(path / file).get("agent")
        elif path.suffix == ".safetensors":
            agent = read_header(path).get("agent")
        else:
            return False
    except (OSError, ValueError):  # what is wrong with it is told later
        return False
    return isinstance(agent, str) and agent.startswith("fewshot-")


def main_evaluate_fewshot(arguments: Sequence[str]) -> None:
    """`metarl evaluate` for a run whose agent is a few-shot learner."""
    config = parse(EvaluateFewShotConfig, arguments, program="metarl evaluate")
    measured = evaluate_evaluate_fewshot(config)
    console = plain_console()
    print_table(console, measured)
    if config.json is not None:
        write_json(measured, config.json)
        console.print(f"wrote {config.json}", soft_wrap=True)


if __name__ == "__main__":
    run(main)
