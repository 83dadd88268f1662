"""Measure what was trained: `metarl evaluate`."""

from __future__ import annotations

from collections.abc import Sequence

from metarl.console import plain_console
from metarl.evaluation.results import write_evaluations
from metarl.experiments.measure import is_fewshot
from metarl.experiments.measure_agent import EvaluateConfig, evaluate
from metarl.experiments.measure_learner import EvaluateFewShotConfig
from metarl.experiments.measure_learner import evaluate as evaluate_evaluate_fewshot
from metarl.fewshot.results import write_json
from metarl.plots.adaptation import adaptation_figure
from metarl.plots.style import figure_png
from metarl.report.terminal import print_evaluation, print_table
from metarl.scripts.command_line import given_options, parse, run
from metarl.storage.files import write_output

__all__ = ["main", "main_evaluate_fewshot"]


def main(arguments: Sequence[str]) -> None:
    """The command `metarl evaluate`."""
    if any(is_fewshot(word) for word in arguments):
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
