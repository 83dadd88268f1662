"""Measure a trained few-shot learner: what `metarl evaluate RUN` does for a few-shot run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from metarl.checkpoints import read_header
from metarl.devices import DeviceName, resolve_device
from metarl.durable_files import read_json_object, require_file_place, write_atomically
from metarl.fewshot.batches import FewShotTasks
from metarl.fewshot.catalog import make_tasks
from metarl.fewshot.evaluation import NUM_TEST_TASKS, FewShotEvaluation, evaluate_fewshot
from metarl.fewshot.learners import LEARNERS
from metarl.fewshot.measured_runs import MeasuredRuns
from metarl.fewshot.training import FewShotTraining
from metarl.ranges import require_at_least
from metarl.runs import RunDirectory
from metarl.scripts.command_line import parse, run
from metarl.scripts.number_text import fixed_text
from metarl.scripts.progress import measuring
from metarl.scripts.several_seeds import (
    TrainedRun,
    expanded,
    require_one_experiment,
    run_names,
)
from metarl.stored_settings import read_settings

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

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN ...")]
    """Directories of runs, one of several seeds, or checkpoints. Several are runs of one
    experiment: means and intervals are over all of them."""
    split: str = "test"
    """Which classes: train, validation or test."""
    num_tasks: int = NUM_TEST_TASKS
    """Tasks."""
    steps: int | None = None
    """Adaptation steps; 10 if not given, those trained if more, or the learner's own test."""
    ways: int | None = None
    """Classes of a task; the run's own if not given, and for learners whose head has one output
    per class."""
    shots: int | None = None
    """Support points per class; the run's own if not given."""
    queries: int | None = None
    """Query points per class; 15 if not given."""
    seed: int = 0
    """Of the tasks."""
    data_dir: Path | None = None
    """Folder of the data; the run's own if not given, as config.json has it beside a checkpoint."""
    device: DeviceName = "auto"
    """Where everything is computed."""
    json: Path | None = None
    """Write protocol, means, intervals and the score of every task here."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("run must be given: the directory of one or more, or a checkpoint")
        require_at_least("num_tasks", self.num_tasks, 1)
        require_at_least("seed", self.seed, 0)
        if self.steps is not None:
            require_at_least("steps", self.steps, 0)
        for name in ("ways", "shots", "queries"):
            if getattr(self, name) is not None:
                require_at_least(name, getattr(self, name), 1)
        if self.json is not None:
            require_file_place("json", self.json)


class DataOptions(NamedTuple):
    """Where a run's data are and how they are made."""

    data_dir: Path | None = None
    options: tuple[str, ...] = ()
    """Each name=value."""

    def make(self, dataset: str, device: torch.device) -> FewShotTasks:
        """The tasks; a value that reads as JSON is what it says, others are texts."""
        pairs = (option.split("=", 1) for option in self.options)
        options: dict[str, Any] = {name: _value(text) for name, text in pairs}
        for name in ("data_dir", "device"):
            if name in options:
                option = "--" + name.replace("_", "-")
                raise ValueError(f"dataset_options must not hold {name}, give {option} instead")
        return make_tasks(dataset, data_dir=self.data_dir, device=device, **options)


def main(arguments: Sequence[str]) -> None:
    """`metarl evaluate` for a run whose agent is a few-shot learner."""
    config = parse(EvaluateFewShotConfig, arguments, program="metarl evaluate")
    measured = evaluate(config)
    console = Console()
    print_table(console, measured)
    if config.json is not None:
        write_json(measured, config.json)
        console.print(f"wrote {config.json}", soft_wrap=True)


def evaluate(config: EvaluateFewShotConfig) -> MeasuredRuns:
    """Load the newest checkpoint of each run and measure them on the same tasks.

    Raises:
        ValueError: if there is no run, one is of another kind of agent, they are not of one
            experiment, or one is named twice.
    """
    words = [single for path in config.runs for single in expanded(str(path))]
    names = run_names(words)
    if len(set(names)) < len(names):
        raise ValueError(f"runs must differ, got {' '.join(map(str, config.runs))}")
    checkpoints = [_checkpoint(Path(word)) for word in words]
    trained = [_trained(checkpoint, read_header(checkpoint)) for checkpoint in checkpoints]
    if len({type(run.settings) for run in trained}) == 1:  # else the learners differ, see below
        require_one_experiment(words, trained)
    evaluations = (_evaluate_one(checkpoint, config) for checkpoint in checkpoints)
    return MeasuredRuns(dict(zip(names, evaluations, strict=True)))


def _checkpoint(path: Path) -> Path:
    """The newest of a run, or that which was named."""
    if not path.exists():
        raise ValueError(f"run must be a directory or a checkpoint, there is nothing at {path}")
    return RunDirectory.open(path).newest_checkpoint() if path.is_dir() else path


def _trained(checkpoint: Path, header: Mapping[str, Any]) -> TrainedRun:
    agent = str(header.get("agent"))
    if not agent.startswith(_AGENT):
        raise ValueError(f"run must be of a few-shot learner, {checkpoint} is of {agent!r}")
    config_type: Any = LEARNERS.load(agent.removeprefix(_AGENT)).config_type
    settings = read_settings(config_type, header.get("config"), where=f"checkpoint {checkpoint}")
    counters = header.get("counters")
    count = counters.get("num_iterations") if isinstance(counters, dict) else None
    return TrainedRun(settings, int(count or 0), header.get("seed", 0))


def _evaluate_one(checkpoint: Path, config: EvaluateFewShotConfig) -> FewShotEvaluation:
    data, header = _data_beside(checkpoint), read_header(checkpoint)
    learner = str(header["agent"]).removeprefix(_AGENT)
    device = resolve_device(config.device)
    data = data._replace(data_dir=config.data_dir or data.data_dir)
    tasks = data.make(str(header["environment"]), device)
    training = FewShotTraining.load(checkpoint, learner, tasks, device=device)
    with measuring(Console(), config.num_tasks) as callback:
        return evaluate_fewshot(
            training,
            num_tasks=config.num_tasks,
            num_steps=config.steps,
            split=config.split,
            ways=config.ways,
            shots=config.shots,
            queries=config.queries,
            seed=config.seed,
            callback=callback,
        )


def _data_beside(checkpoint: Path) -> DataOptions:
    """What the run of a checkpoint says of its data; nothing where it lies alone."""
    for folder in (checkpoint.parent, checkpoint.parent.parent):
        if (folder / "config.json").is_file():
            return stored_data(read_json_object(folder / "config.json"))
    return DataOptions()


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


def write_json(measured: MeasuredRuns, file: Path) -> None:
    """Write everything measured in one step, a line for each number of adaptation steps."""
    content = measured.to_json()
    rows = (json.dumps(row, separators=(",", ":")) for row in content.pop("steps"))
    fields = {name: json.dumps(value, ensure_ascii=False) for name, value in content.items()}
    fields["steps"] = "[\n  " + ",\n  ".join(rows) + "\n ]"
    lines = ",\n ".join(f'"{name}": {text}' for name, text in fields.items())
    write_atomically(file, f"{{{lines}}}\n".encode())


def print_table(console: Console, measured: MeasuredRuns) -> None:
    """The protocol in words, and a row for each number of adaptation steps."""
    protocol, first = measured.protocol, measured.first
    for name, fact in protocol.items():
        console.print(f"{name}: {fact}", soft_wrap=True, highlight=False, markup=False)
    num_runs = len(measured.runs)
    runs = f" × {num_runs} runs" if num_runs > 1 else ""
    title = (
        f"{first.dataset}, {first.learner}, {protocol['ways']}-way {protocol['shots']}-shot, "
        f"{protocol['num_tasks']} {protocol['split']} tasks{runs}"
    )
    console.print(title, soft_wrap=True, highlight=False, markup=False)
    table = Table(box=box.SIMPLE)
    is_error = first.metric == "mse"
    table.add_column("steps", justify="right")
    table.add_column("query MSE" if is_error else "accuracy %", justify="right")
    table.add_column("± 1.96 s/√n" if num_runs == 1 else "±", justify="right")
    if num_runs > 1:
        table.add_column("each run", justify="right")
    scale, digits = (1, 3) if is_error else (100, 2)
    rows = zip(first.steps, measured.intervals(), measured.scores, strict=True)
    for step, interval, scores in rows:
        if interval is None:
            lost = (~np.isfinite(scores)).any(0).sum()
            cells = ["diverged", f"{lost} of {scores.shape[-1]} tasks"]
        else:
            numbers = [interval.mean, interval.high - interval.mean]
            cells = [fixed_text(number * scale, digits) for number in numbers]
        if num_runs > 1:
            means = scores.mean(-1)
            cells.append("  ".join(fixed_text(mean * scale, digits) for mean in means))
        table.add_row(str(step), *cells)
    console.print(table)


if __name__ == "__main__":
    run(main)
