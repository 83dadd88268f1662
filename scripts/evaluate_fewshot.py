"""Measure a trained few-shot learner: what `metarl evaluate RUN` does for a few-shot run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from metarl.checkpoints import read_header
from metarl.devices import DeviceName, resolve_device
from metarl.durable_files import write_atomically
from metarl.fewshot.catalog import make_tasks
from metarl.fewshot.evaluation import FewShotEvaluation, evaluate_fewshot
from metarl.fewshot.training import FewShotTraining
from metarl.ranges import require_at_least
from metarl.runs import RunDirectory
from metarl.scripts.command_line import parse, run

__all__ = ["EvaluateFewShotConfig", "evaluate", "main", "print_table", "write_json"]

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
    path, data_dir = config.run, config.data_dir
    if not path.exists():
        raise ValueError(f"run must be a directory or a checkpoint, there is nothing at {path}")
    checkpoint = path
    if path.is_dir():
        directory = RunDirectory.open(path)
        checkpoint = directory.newest_checkpoint()
        held = directory.config().get("data_dir")
        data_dir = data_dir or (Path(held) if isinstance(held, str) else None)
    header = read_header(checkpoint)
    agent = str(header.get("agent"))
    if not agent.startswith(_AGENT):
        raise ValueError(f"run must be of a few-shot learner, {path} is of {agent!r}")
    device = resolve_device(config.device)
    tasks = make_tasks(str(header["environment"]), data_dir=data_dir, device=device)
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
