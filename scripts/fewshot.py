"""Train a supervised few-shot learner: `metarl fewshot maml --dataset sinusoid --out DIRECTORY`."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from metarl.checkpoints import read_header
from metarl.devices import DeviceName, resolve_device
from metarl.durable_files import write_atomically
from metarl.fewshot import MAML, MAMLConfig, SinusoidTasks
from metarl.ranges import require_at_least
from metarl.runs import RunDirectory, read_metrics
from metarl.scripts.command_line import choose, fail, parse, run
from metarl.scripts.resuming import (
    StoredRun,
    given_options,
    note_resume,
    read_run,
    refuse_changes,
    settled,
)
from metarl.scripts.training import TrainingPlan, TrainingStopped, run_training, tidy_up
from metarl.seeding import torch_generator
from metarl.statistics import mean_interval
from metarl.stored_settings import read_settings
from metarl.tracking import TrackerName, require_tracker

__all__ = ["FewShotConfig", "main", "train"]

_LEARNERS = ("maml",)
_NUM_TEST_TASKS = 600
_LOG_EVERY = 100


@dataclass(frozen=True)
class FewShotConfig:
    """Train a few-shot learner and measure it after 0 … 10 adaptation steps on 600 test tasks."""

    out: Path
    """Directory of the run; it must be new, except with --resume."""
    maml: tyro.conf.OmitArgPrefixes[MAMLConfig] = field(default_factory=MAMLConfig)
    dataset: Literal["sinusoid"] = "sinusoid"
    """Where tasks come from."""
    iterations: int = 20_000
    """Meta-updates."""
    test_steps: int = 10
    """Adaptation steps in the test."""
    seed: int = 0
    """Of parameters and tasks."""
    device: DeviceName = "auto"
    """Where everything is computed."""
    threads: int = 1
    """Threads of torch on the CPU; these nets are too small for more than one."""
    checkpoint_every: int = 1000
    """Iterations between checkpoints; the last one is always written."""
    tracker: TrackerName = "tensorboard"
    """Where metrics go beside metrics.jsonl; wandb and trackio are packages of their own."""
    resume: bool = False
    """Continue the run in --out with its own settings; one that is complete is measured again."""

    def __post_init__(self) -> None:
        for name in ("iterations", "threads", "checkpoint_every"):
            require_at_least(name, getattr(self, name), 1)
        for name in ("seed", "test_steps"):
            require_at_least(name, getattr(self, name), 0)


def main(arguments: Sequence[str]) -> None:
    """The command `metarl fewshot`."""
    name = choose("learner", arguments, _LEARNERS, program="metarl fewshot")
    if name is None:
        return
    config = parse(FewShotConfig, arguments[1:], program=f"metarl fewshot {name}")
    try:
        learner, config = train(config, given=given_options(arguments[1:]))
    except TrainingStopped as stop:
        if os.environ.get("METARL_DEBUG"):
            raise
        fail(str(stop), code=stop.exit_code)
    curve = _test(learner, config)
    _print_table(Console(), learner, curve)


def train(config: FewShotConfig, *, given: Collection[str] = ()) -> tuple[MAML, FewShotConfig]:
    """Train or resume; the learner, and the settings it ended with.

    Args:
        config: of the command.
        given: settings that were named; at a resume all others are the run's own.

    Raises:
        TrainingStopped: if training ended before its last iteration.
        ValueError: if a setting or the run to resume is not as it must be.
    """
    require_tracker(config.tracker)
    if config.resume:
        directory = RunDirectory.open(config.out)
        config = _settled(config, read_run(directory.path / "config.json"), given)
        with directory.writing():
            learner = _load(directory, config)
            if learner.num_iterations < config.iterations:
                note_resume(directory, _loop_settings(config), learner.num_iterations)
                _run(learner, directory, config)
            else:
                tidy_up(directory, _plan(config), learner.num_iterations)
        return learner, config
    torch.set_num_threads(config.threads)
    device = resolve_device(config.device)
    learner = MAML(SinusoidTasks(), config.maml, seed=config.seed, device=device)
    resolved: dict[str, Any] = {
        "agent": "fewshot-maml",
        "environment": config.dataset,
        "seed": config.seed,
        **_loop_settings(config),
        "agent_config": dataclasses.asdict(config.maml),
    }
    directory = RunDirectory.create(config.out, resolved, save=learner.save)
    with directory.writing():
        _run(learner, directory, config)
    return learner, config


def _settled(config: FewShotConfig, stored: StoredRun, given: Collection[str]) -> FewShotConfig:
    """The run's own settings with those given that may change; others given are refused."""
    asked = {"agent": "fewshot-maml", "environment": config.dataset, "seed": config.seed}
    named = {"agent", "environment", *given}
    refuse_changes(named, asked, vars(stored))
    where = f"{config.out}: agent_config"
    kept = read_settings(MAMLConfig, stored.agent_config, where=where)
    refuse_changes(given, vars(config.maml), vars(kept))
    return dataclasses.replace(settled(config, stored, given), maml=kept)


def _load(directory: RunDirectory, config: FewShotConfig) -> MAML:
    checkpoint = directory.newest_checkpoint()
    torch.set_num_threads(config.threads)
    learner = MAML.load(checkpoint, SinusoidTasks(), device=resolve_device(config.device))
    is_complete = learner.num_iterations >= config.iterations
    if not is_complete and read_header(checkpoint)["format_version"] == 1:
        raise ValueError(
            f"checkpoint {checkpoint} is of an earlier version and holds no optimiser: it can be "
            "measured, but not trained on; start a new run"
        )
    return learner


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


def _plan(config: FewShotConfig) -> TrainingPlan:
    return TrainingPlan(
        config.iterations,
        config.checkpoint_every,
        score=lambda metrics: -metrics["meta/query_mse"],
        news=_news,
        axis="time/iterations",
        log_every=_LOG_EVERY,
        tracker=config.tracker,
    )


def _run(learner: MAML, directory: RunDirectory, config: FewShotConfig) -> None:
    rows = [r for r in read_metrics(directory) if r["iteration"] <= learner.num_iterations]
    before = rows[-1].get("time/seconds", 0.0) if rows else 0.0
    run_training(_Timed(learner, before), directory, _plan(config), Console())


class _Timed:
    """A learner whose metrics tell the time, that of earlier parts of the run counted."""

    def __init__(self, learner: MAML, seconds_before: float) -> None:
        self._learner, self.save = learner, learner.save
        self._started = time.perf_counter() - seconds_before

    @property
    def num_iterations(self) -> int:
        return self._learner.num_iterations

    def iterate(self) -> dict[str, float]:
        metrics = self._learner.iterate()
        seconds = time.perf_counter() - self._started
        return {**metrics, "time/iterations": self.num_iterations, "time/seconds": seconds}


def _news(metrics: Mapping[str, float]) -> str:
    speed = metrics["time/iterations"] / metrics["time/seconds"]
    return f"query MSE {metrics['meta/query_mse']:.3f}  {speed:,.0f} updates/s"


def _test(learner: MAML, config: FewShotConfig) -> NDArray[Any]:
    """Query error of each test task after each step; also written to the run's directory."""
    rng = torch_generator(config.seed, "test", device=learner.device)
    batch = learner.tasks.sample_for_test(_NUM_TEST_TASKS, config.maml.shots, rng)
    curve = learner.adaptation_curve(batch, config.test_steps)
    steps = [
        {"step": k, "mse": mean_interval(errors, seed=config.seed)._asdict()}
        for k, errors in enumerate(curve)
    ]
    protocol = {
        "num_tasks": _NUM_TEST_TASKS,
        "shots": config.maml.shots,
        "query": "100 even points over the inputs",
        "interval": "95 % percentile bootstrap over tasks",
    }
    content = json.dumps(
        {"dataset": config.dataset, "protocol": protocol, "steps": steps}, indent=1
    )
    write_atomically(config.out / "evaluation.json", content.encode())
    return curve


def _print_table(console: Console, learner: MAML, curve: NDArray[Any]) -> None:
    table = Table(
        title=f"sinusoid, {learner.config.shots}-shot, {curve.shape[1]} test tasks",
        title_justify="left",
        box=box.SIMPLE,
    )
    for heading in ("gradient steps", "query MSE", "95 % interval"):
        table.add_column(heading, justify="right")
    for k, errors in enumerate(curve):
        mean, low, high = mean_interval(errors)
        table.add_row(str(k), f"{mean:.3f}", f"{low:.3f} … {high:.3f}")
    console.print(table)


if __name__ == "__main__":
    run(main)
