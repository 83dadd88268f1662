"""Evaluate trained agents and learners: `metarl evaluate`."""

from __future__ import annotations

from collections.abc import Sequence

from metarl.console import plain_console
from metarl.experiments.evaluation import config_type, run_evaluation, write_results
from metarl.progress import Activity
from metarl.scripts.command_line import given_options, parse, run

__all__ = ["main"]


def main(arguments: Sequence[str]) -> None:
    """The command `metarl evaluate`, for agents and few-shot learners."""
    config = parse(config_type(arguments), arguments, program="metarl evaluate")
    console = plain_console()
    with Activity("loading the targets", console) as activity:
        given = given_options(arguments)
        evaluations = run_evaluation(config, given=given, progress=activity)
    sentences = write_results(config, evaluations)  # first: printing fails if the output is closed
    from metarl.report.terminal import print_evaluation  # slow, and --help does not need it

    for evaluation in evaluations:
        print_evaluation(console, evaluation)
    for sentence in sentences:
        console.print(sentence, soft_wrap=True)


if __name__ == "__main__":
    run(main)
