"""Train and evaluate a few-shot learner: `metarl fewshot`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any

import tyro

from metarl.console import plain_console
from metarl.fewshot.datasets.catalog import DATASETS
from metarl.fewshot.learners.catalog import LEARNERS, recipe
from metarl.printable import printable
from metarl.progress import Activity
from metarl.scripts.command_line import choose, given_options, parse, run
from metarl.scripts.train import exit_if_stopped

if TYPE_CHECKING:  # these import torch, which listing the learners does not need
    from metarl.experiments.train_learner import FewShotConfig
    from metarl.fewshot.contract.settings import FewShotSettings

__all__ = ["main"]


def main(arguments: Sequence[str]) -> None:
    """The command `metarl fewshot`."""
    if list(arguments) == ["--list"]:
        _print_list()
        return
    with Activity("importing plug-ins", prints_lines=False):
        learners = {entry.name: entry.description for entry in LEARNERS}
    name = choose("learner", arguments, learners, program="metarl fewshot")
    with Activity(f"importing learner {name}", prints_lines=False):
        from metarl.experiments.train_learner import LearnerExperiment, train_and_measure
    config, settings = _parsed(name, arguments[1:])
    experiment, console = LearnerExperiment(name, config, settings), plain_console()
    with exit_if_stopped():
        measured = train_and_measure(
            experiment, given=given_options(arguments[1:]), console=console
        )
    from metarl.report.terminal import print_table  # slow, and --help does not need it

    print_table(console, measured)


def _parsed(name: str, arguments: Sequence[str]) -> tuple[FewShotConfig, FewShotSettings]:
    """Settings of the command and of the learner; the recipe of the data set gives the defaults."""
    from metarl.experiments.train_learner import FewShotConfig, default_dataset, unused_settings

    dataset = _named_dataset(arguments) or default_dataset(name)
    default = recipe(name, dataset)
    options: Any = tyro.conf.OmitArgPrefixes[type(default)]  # type: ignore[misc] # known at run time
    whole = dataclasses.make_dataclass(
        "FewShot",
        [
            ("learner", options, field(default=default)),
            ("dataset", str, dataset),
            *(
                (unused, object, field(default=getattr(FewShotConfig, unused), init=False))
                for unused in unused_settings(name)  # which are no options
            ),
        ],
        bases=(FewShotConfig,),
        frozen=True,
    )
    whole.__doc__ = FewShotConfig.__doc__
    parsed: Any = parse(whole, arguments, program=f"metarl fewshot {name}")
    shared = {each.name: getattr(parsed, each.name) for each in dataclasses.fields(FewShotConfig)}
    return FewShotConfig(**shared), parsed.learner


def _named_dataset(arguments: Sequence[str]) -> str | None:
    """The data set on a command line, or None.

    Raises:
        ValueError: if the data set is unknown.
    """
    words = [word for argument in arguments for word in argument.split("=", 1)]
    if "--dataset" in words[:-1]:
        return DATASETS.get(words[words.index("--dataset") + 1]).name
    return None


def _print_list() -> None:
    for heading, registry in (("learners", LEARNERS), ("data sets", DATASETS)):
        print(heading)
        width = max(len(entry.name) for entry in registry)
        for entry in registry:
            print(f"  {entry.name:{width}}  {printable(entry.description)}")


if __name__ == "__main__":
    run(main)
