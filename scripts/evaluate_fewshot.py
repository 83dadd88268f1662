"""Measure a trained few-shot learner: what `metarl evaluate RUN` does for a few-shot run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from metarl.checkpoints import read_header
from metarl.devices import DeviceName, resolve_device
from metarl.durable_files import write_atomically
from metarl.fewshot.batches import FewShotTasks
from metarl.fewshot.catalog import make_tasks
from metarl.fewshot.evaluation import FewShotEvaluation, evaluate_fewshot
from metarl.fewshot.training import FewShotTraining
from metarl.ranges import require_at_least
from metarl.runs import RunDirectory
from metarl.scripts.command_line import parse, run

__all__ = [
    "DataOptions",
    "EvaluateFewShotConfig",
    "evaluate",
    "main",
    "print_table",
    "stored_data",
    "write_json",
]

_AGENT = "fewshot-"


@dataclass(frozen=True)
class EvaluateFewShotConfig:
    """Measure a few-shot learner before and after each adaptation step on unseen tasks."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Directory of the run, or a checkpoint file."""
    split: str = "test"
    """Which classes: train, validation or test."""
    num_tasks: int = 600
    """Tasks."""
    steps: int = 10
    """Adaptation steps, each measured."""
    shots: int | None = None
    """Support points per class; the run's own if not given."""
    queries: int | None = None
    """Query points per class; 15 if not given."""
    seed: int = 0
    """Of the tasks."""
    data_dir: Path | None = None
    """Folder of the data; the run's own if not given."""
    device: DeviceName = "auto"
    """Where everything is computed."""
    json: Path | None = None
    """Write protocol, means, intervals and the score of every task here."""

    def __post_init__(self) -> None:
        require_at_least("num_tasks", self.num_tasks, 1)
        for name in ("steps", "seed"):
            require_at_least(name, getattr(self, name), 0)
        for name in ("shots", "queries"):
            if getattr(self, name) is not None:
                require_at_least(name, getattr(self, name), 1)
        if self.json is not None and not self.json.absolute().parent.is_dir():
            raise ValueError(f"json must lie in a directory that exists, got {self.json}")


class DataOptions(NamedTuple):
    """Where a run's data are and how they are made."""

    data_dir: Path | None = None
    options: tuple[str, ...] = ()
    """Each name=value."""

    def make(self, dataset: str, device: torch.device) -> FewShotTasks:
        """The tasks; a value that reads as JSON is what it says, others are texts."""
        pairs = (option.split("=", 1) for option in self.options)
        options: dict[str, Any] = {name: _value(text) for name, text in pairs}
        return make_tasks(dataset, data_dir=self.data_dir, device=device, **options)


def main(arguments: Sequence[str]) -> None:
    """`metarl evaluate` for a run whose agent is a few-shot learner."""
    config = parse(EvaluateFewShotConfig, arguments, program="metarl evaluate")
    evaluation = evaluate(config)
    print_table(Console(), evaluation)
    if config.json is not None:
        write_json(evaluation, config.json)


def evaluate(config: EvaluateFewShotConfig) -> FewShotEvaluation:
    """Load the newest checkpoint and measure it.

    Raises:
        ValueError: if there is no run, or it is of another kind of agent.
    """
    path, data = config.run, DataOptions()
    if not path.exists():
        raise ValueError(f"run must be a directory or a checkpoint, there is nothing at {path}")
    checkpoint = path
    if path.is_dir():
        directory = RunDirectory.open(path)
        checkpoint = directory.newest_checkpoint()
        data = stored_data(directory.config())
    header = read_header(checkpoint)
    agent = str(header.get("agent"))
    if not agent.startswith(_AGENT):
        raise ValueError(f"run must be of a few-shot learner, {path} is of {agent!r}")
    device = resolve_device(config.device)
    data = data._replace(data_dir=config.data_dir or data.data_dir)
    tasks = data.make(str(header["environment"]), device)
    training = FewShotTraining.load(checkpoint, agent.removeprefix(_AGENT), tasks, device=device)
    return evaluate_fewshot(
        training,
        num_tasks=config.num_tasks,
        num_steps=config.steps,
        split=config.split,
        shots=config.shots,
        queries=config.queries,
        seed=config.seed,
    )


def stored_data(config: Mapping[str, Any]) -> DataOptions:
    """What a run's config.json says of its data; runs of earlier versions say nothing.

    Raises:
        ValueError: if it is damaged.
    """
    folder, options = config.get("data_dir"), config.get("dataset_options", [])
    is_list = isinstance(options, list) and all(isinstance(option, str) for option in options)
    if not is_list or not (folder is None or isinstance(folder, str)):
        raise ValueError("config.json is damaged: data_dir must be a text, dataset_options texts")
    return DataOptions(None if folder is None else Path(folder), tuple(options))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def write_json(evaluation: FewShotEvaluation, file: Path) -> None:
    """Write everything measured, in one step."""
    write_atomically(file, json.dumps(evaluation.to_json(), indent=1).encode())


def print_table(console: Console, evaluation: FewShotEvaluation) -> None:
    """The protocol in words, and a row for each number of adaptation steps."""
    protocol = evaluation.protocol
    for name, fact in protocol.items():
        console.print(f"{name}: {fact}", soft_wrap=True, highlight=False, markup=False)
    is_error = evaluation.metric == "mse"
    table = Table(
        title=f"{evaluation.dataset}, {evaluation.learner}, {protocol['ways']}-way "
        f"{protocol['shots']}-shot, {protocol['num_tasks']} {protocol['split']} tasks",
        title_justify="left",
        box=box.SIMPLE,
    )
    table.add_column("steps", justify="right")
    table.add_column("query MSE" if is_error else "accuracy %", justify="right")
    table.add_column("± 1.96 s/√n", justify="right")
    scale, digits = (1, 3) if is_error else (100, 2)
    for step, interval in zip(evaluation.steps, evaluation.intervals(), strict=True):
        half = (interval.high - interval.mean) * scale
        table.add_row(str(step), f"{interval.mean * scale:.{digits}f}", f"{half:.{digits}f}")
    console.print(table)


if __name__ == "__main__":
    run(main)
