"""Train a supervised few-shot learner: `metarl fewshot maml --dataset sinusoid --out DIRECTORY`."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from metarl.checkpoints import write_atomically
from metarl.devices import DeviceName, resolve_device
from metarl.fewshot import MAML, MAMLConfig, SinusoidTasks
from metarl.ranges import require_at_least
from metarl.runs import MetricsLog, RunDirectory
from metarl.scripts.command_line import choose, parse, run
from metarl.scripts.progress import TrainingProgress
from metarl.seeding import torch_generator
from metarl.statistics import mean_interval

__all__ = ["FewShotConfig", "main"]

_LEARNERS = ("maml",)
_NUM_TEST_TASKS = 600
_LOG_EVERY = 100


@dataclass(frozen=True)
class FewShotConfig:
    """Train a few-shot learner and measure it after 0 … 10 adaptation steps on 600 test tasks."""

    out: Path
    """Directory of the run; it must be new."""
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

    def __post_init__(self) -> None:
        for name in ("iterations", "threads"):
            require_at_least(name, getattr(self, name), 1)
        for name in ("seed", "test_steps"):
            require_at_least(name, getattr(self, name), 0)


def main(arguments: Sequence[str]) -> None:
    """The command `metarl fewshot`."""
    name = choose("learner", arguments, _LEARNERS, program="metarl fewshot")
    if name is None:
        return
    config = parse(FewShotConfig, arguments[1:], program=f"metarl fewshot {name}")
    torch.set_num_threads(config.threads)
    console = Console()
    learner = _train(config, console)
    curve = _test(learner, config)
    _print_table(console, learner, curve)


def _train(config: FewShotConfig, console: Console) -> MAML:
    device = resolve_device(config.device)
    learner = MAML(SinusoidTasks(), config.maml, seed=config.seed, device=device)
    resolved: dict[str, Any] = {
        "agent": "fewshot-maml",
        "environment": config.dataset,
        "seed": config.seed,
        "device": str(device),
        "iterations": config.iterations,
        "agent_config": dataclasses.asdict(config.maml),
    }
    directory = RunDirectory.create(config.out, resolved)
    log = MetricsLog(directory, axis="time/iterations")
    started = time.perf_counter()
    with TrainingProgress(console, total=config.iterations) as progress:
        for done in range(1, config.iterations + 1):
            metrics = learner.iterate()
            if done % _LOG_EVERY == 0:
                seconds = time.perf_counter() - started
                log.write(done, {**metrics, "time/iterations": done, "time/seconds": seconds})
                news = f"query MSE {metrics['meta/query_mse']:.3f}  {done / seconds:,.0f} updates/s"
                progress.update(done, news)
    log.close()
    learner.save(directory.checkpoint_path(config.iterations))
    return learner


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
