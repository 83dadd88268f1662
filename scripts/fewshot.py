"""Train a supervised few-shot learner: `metarl fewshot maml --dataset sinusoid --out DIRECTORY`."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console

from metarl.checkpoints import read_header
from metarl.devices import DeviceName, resolve_device
from metarl.durable_files import read_json_object
from metarl.fewshot.batches import FewShotTasks
from metarl.fewshot.catalog import DATASETS
from metarl.fewshot.evaluation import evaluate_fewshot
from metarl.fewshot.learners import LEARNERS, recipe
from metarl.fewshot.settings import FewShotSettings
from metarl.fewshot.training import FewShotTraining
from metarl.ranges import require_at_least
from metarl.runs import RunDirectory, read_metrics
from metarl.scripts.command_line import choose, fail, parse, run
from metarl.scripts.evaluate_fewshot import DataOptions, print_table, stored_data, write_json
from metarl.scripts.resuming import (
    StoredRun,
    given_options,
    note_resume,
    read_run,
    refuse_changes,
    settled,
)
from metarl.scripts.training import TrainingPlan, TrainingStopped, run_training, tidy_up
from metarl.stored_settings import read_settings
from metarl.tracking import TrackerName, require_tracker

__all__ = ["FewShotConfig", "main", "train"]

_LOG_EVERY = {"regression": 100, "classification": 50}
_DEFAULT_DATASET = "sinusoid"
_DEFAULT_OF_CLASSIFIERS = "glyphs"


@dataclass(frozen=True)
class FewShotConfig:
    """Train a few-shot learner and measure it after 0 … 10 adaptation steps on 600 test tasks."""

    out: Path
    """Directory of the run; it must be new, except with --resume."""
    dataset: str = _DEFAULT_DATASET
    """Where tasks come from, as metarl fewshot --list names it; it decides the other defaults."""
    data_dir: Path | None = None
    """Folder of the data sets that are files; None: a folder of your cache."""
    dataset_options: tuple[str, ...] = ()
    """Options of the data set, each as name=value."""
    iterations: int = 20_000
    """Meta-updates."""
    test_steps: int = 10
    """Adaptation steps in the test."""
    seed: int = 0
    """Of parameters and tasks."""
    device: DeviceName = "auto"
    """Where everything is computed."""
    threads: int = 0
    """Threads of torch on the CPU; 0: one for perceptrons, torch's choice for convolutions."""
    checkpoint_every: int = 1000
    """Iterations between checkpoints; the last one is always written."""
    tracker: TrackerName = "tensorboard"
    """Where metrics go beside metrics.jsonl; wandb and trackio are packages of their own."""
    resume: bool = False
    """Continue the run in --out with its own settings; one that is complete is measured again."""

    def __post_init__(self) -> None:
        for name in ("iterations", "checkpoint_every"):
            require_at_least(name, getattr(self, name), 1)
        for name in ("seed", "test_steps", "threads"):
            require_at_least(name, getattr(self, name), 0)
        for option in self.dataset_options:
            if not option.partition("=")[0].isidentifier() or "=" not in option:
                raise ValueError(f"dataset_options must read name=value, got {option!r}")


def main(arguments: Sequence[str]) -> None:
    """The command `metarl fewshot`."""
    if list(arguments) == ["--list"]:
        _print_list()
        return
    learners = [entry.name for entry in LEARNERS]
    name = choose("learner", arguments, learners, program="metarl fewshot")
    if name is None:
        return
    config, settings = _parsed(name, arguments[1:])
    try:
        training, config = train(name, config, settings, given=given_options(arguments[1:]))
    except TrainingStopped as stop:
        if os.environ.get("METARL_DEBUG"):
            raise
        fail(str(stop), code=stop.exit_code)
    evaluation = evaluate_fewshot(training, num_steps=config.test_steps, seed=config.seed)
    write_json(evaluation, config.out / "evaluation.json")
    print_table(Console(), evaluation)


def train(
    name: str, config: FewShotConfig, settings: FewShotSettings, *, given: Collection[str] = ()
) -> tuple[FewShotTraining, FewShotConfig]:
    """Train or resume; the learner, and the settings it ended with.

    Args:
        name: of the learner.
        config: of the command.
        settings: of the learner.
        given: settings that were named; at a resume all others are the run's own.

    Raises:
        TrainingStopped: if training ended before its last iteration.
        ValueError: if a setting or the run to resume is not as it must be.
    """
    require_tracker(config.tracker)
    if config.resume:
        return _resume(name, config, settings, given)
    config, settings = _resolved(config, settings)
    torch.set_num_threads(config.threads)
    device = resolve_device(config.device)
    training = FewShotTraining(name, _tasks(config), settings, seed=config.seed, device=device)
    described: dict[str, Any] = {
        "agent": f"fewshot-{name}",
        "environment": config.dataset,
        "seed": config.seed,
        **_loop_settings(config),
        "data_dir": None if config.data_dir is None else str(config.data_dir.absolute()),
        "dataset_options": list(config.dataset_options),
        "agent_config": dataclasses.asdict(settings),
        "protocol": {**training.tasks.protocol, **training.learner.facts()},
    }
    directory = RunDirectory.create(config.out, described, save=training.save)
    with directory.writing():
        _run(training, directory, config)
    return training, config


def _resume(
    name: str, config: FewShotConfig, settings: FewShotSettings, given: Collection[str]
) -> tuple[FewShotTraining, FewShotConfig]:
    directory = RunDirectory.open(config.out)
    file = directory.path / "config.json"
    config = _settled(name, config, settings, read_run(file), given)
    held = stored_data(read_json_object(file))
    config = dataclasses.replace(
        config, data_dir=config.data_dir or held.data_dir, dataset_options=held.options
    )
    with directory.writing():
        training = _load(name, directory, config)
        if training.num_iterations < config.iterations:
            note_resume(directory, _loop_settings(config), training.num_iterations)
            _run(training, directory, config)
        else:
            tidy_up(directory, _plan(training, config), training.num_iterations)
    return training, config


def _parsed(name: str, arguments: Sequence[str]) -> tuple[FewShotConfig, FewShotSettings]:
    """The command's settings and the learner's; defaults are the recipe of the data set."""
    dataset = _named_dataset(name, arguments)
    default = recipe(name, dataset)
    options: Any = tyro.conf.OmitArgPrefixes[type(default)]  # type: ignore[misc] # known at run time
    whole = dataclasses.make_dataclass(
        "FewShot",
        [("learner", options, field(default=default)), ("dataset", str, dataset)],
        bases=(FewShotConfig,),
        frozen=True,
    )
    whole.__doc__ = FewShotConfig.__doc__
    config: Any = parse(whole, arguments, program=f"metarl fewshot {name}")
    return config, config.learner


def _named_dataset(name: str, arguments: Sequence[str]) -> str:
    """The data set that a command line names, or the learner's default.

    Raises:
        ValueError: if there is none of the name.
    """
    words = [word for argument in arguments for word in argument.split("=", 1)]
    if "--dataset" in words[:-1]:
        return DATASETS.get(words[words.index("--dataset") + 1]).name
    return _DEFAULT_DATASET if LEARNERS.load(name).has_steps else _DEFAULT_OF_CLASSIFIERS


def _resolved(
    config: FewShotConfig, settings: FewShotSettings
) -> tuple[FewShotConfig, FewShotSettings]:
    """Both with what depends on the rest written out."""
    if settings.schedule != "constant" and settings.decay_iterations is None:
        settings = dataclasses.replace(settings, decay_iterations=config.iterations)
    threads = config.threads or (1 if settings.backbone == "mlp" else torch.get_num_threads())
    return dataclasses.replace(config, threads=threads), settings


def _tasks(config: FewShotConfig) -> FewShotTasks:
    data = DataOptions(config.data_dir, config.dataset_options)
    return data.make(config.dataset, resolve_device(config.device))


def _settled(
    name: str,
    config: FewShotConfig,
    settings: FewShotSettings,
    stored: StoredRun,
    given: Collection[str],
) -> FewShotConfig:
    """The run's own settings with those given that may change; others given are refused."""
    asked = {"agent": f"fewshot-{name}", "environment": config.dataset, "seed": config.seed}
    named = {"agent", *given} | ({"environment"} if "dataset" in given else set())
    refuse_changes(named, asked, vars(stored))
    where = f"{config.out}: agent_config"
    kept = read_settings(type(settings), stored.agent_config, where=where)
    refuse_changes(given, vars(settings), vars(kept))
    return dataclasses.replace(settled(config, stored, given), dataset=stored.environment)


def _load(name: str, directory: RunDirectory, config: FewShotConfig) -> FewShotTraining:
    checkpoint = directory.newest_checkpoint()
    torch.set_num_threads(config.threads or torch.get_num_threads())
    device = resolve_device(config.device)
    training = FewShotTraining.load(checkpoint, name, _tasks(config), device=device)
    is_complete = training.num_iterations >= config.iterations
    if not is_complete and read_header(checkpoint)["format_version"] == 1:
        raise ValueError(
            f"checkpoint {checkpoint} is of an earlier version and holds no optimiser: it can be "
            "measured, but not trained on; start a new run"
        )
    return training


def _loop_settings(config: FewShotConfig) -> dict[str, Any]:
    """Settings that a resume may change."""
    return {
        "device": resolve_device(config.device).type,
        "iterations": config.iterations,
        "checkpoint_every": config.checkpoint_every,
        "threads": config.threads,
        "tracker": config.tracker,
        "test_steps": config.test_steps,
    }


def _plan(training: FewShotTraining, config: FewShotConfig) -> TrainingPlan:
    kind = training.learner.problem.kind
    score: Callable[[Mapping[str, float]], float] = _accuracy
    if kind == "regression":
        score = _minus_error
    return TrainingPlan(
        config.iterations,
        config.checkpoint_every,
        score=score,
        news=_news,
        axis="time/iterations",
        log_every=_LOG_EVERY[kind],
        tracker=config.tracker,
    )


def _run(training: FewShotTraining, directory: RunDirectory, config: FewShotConfig) -> None:
    rows = [r for r in read_metrics(directory) if r["iteration"] <= training.num_iterations]
    before = rows[-1].get("time/seconds", 0.0) if rows else 0.0
    console, plan = Console(), _plan(training, config)
    facts = training.learner.facts()
    console.print(
        f"fewshot {training.name} on {training.tasks.name}, batch norm {facts['batch_norm']}, "
        f"{'transductive' if facts['transductive'] else 'not transductive'}; "
        f"run in {directory.path}, on {training.device}",
        soft_wrap=True,
    )
    run_training(_Timed(training, before, plan.log_every), directory, plan, console)


class _Timed:
    """A learner whose metrics tell the time, earlier parts of the run counted, and validation."""

    def __init__(self, training: FewShotTraining, seconds_before: float, log_every: int) -> None:
        self._training, self.save = training, training.save
        self._log_every = log_every
        self._started = time.perf_counter() - seconds_before

    @property
    def num_iterations(self) -> int:
        return self._training.num_iterations

    def iterate(self) -> dict[str, float]:
        metrics = self._training.iterate()
        if self.num_iterations % self._log_every == 0:
            metrics |= self._training.validate()
        seconds = time.perf_counter() - self._started
        return {**metrics, "time/iterations": self.num_iterations, "time/seconds": seconds}


def _accuracy(metrics: Mapping[str, float]) -> float:
    """On validation tasks, or on training tasks where there are no others."""
    return metrics.get("validation/accuracy", metrics.get("train/accuracy", 0.0))


def _minus_error(metrics: Mapping[str, float]) -> float:
    return -metrics["meta/query_mse"]


def _news(metrics: Mapping[str, float]) -> str:
    speed = metrics["time/iterations"] / metrics["time/seconds"]
    if "meta/query_mse" in metrics:
        return f"query MSE {metrics['meta/query_mse']:.3f}  {speed:,.0f} updates/s"
    loss, share = metrics["meta/query_loss"], _accuracy(metrics)
    return f"loss {loss:.3f}  accuracy {share:.1%}  {speed:,.2g} updates/s"


def _print_list() -> None:
    for heading, registry in (("learners", LEARNERS), ("data sets", DATASETS)):
        print(heading)
        width = max(len(entry.name) for entry in registry)
        for entry in registry:
            print(f"  {entry.name:{width}}  {entry.description}")


if __name__ == "__main__":
    run(main)
