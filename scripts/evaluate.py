"""Adapt a trained agent to unseen tasks: `metarl evaluate RUN`."""

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

from metarl.agents import AGENTS
from metarl.checkpoints import read_header, write_atomically
from metarl.devices import DeviceName, resolve_device
from metarl.envs import make_family
from metarl.evaluation import Evaluation, evaluate_adaptation
from metarl.plots import adaptation_figure
from metarl.ranges import require_at_least
from metarl.runs import RunDirectory
from metarl.scripts.command_line import parse, run
from metarl.statistics import Interval

__all__ = ["EvaluateConfig", "evaluate", "main", "print_table"]


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a trained agent before and after each adaptation step on unseen tasks."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Directory of the run, or a checkpoint file."""
    split: str = "test"
    """Which tasks: train or test."""
    num_tasks: int = 40
    """Tasks."""
    steps: int = 3
    """Adaptation steps."""
    episodes: int = 20
    """Episodes per task, before each step and after the last."""
    seed: int = 0
    """Of tasks, initial states and actions."""
    device: DeviceName = "auto"
    """Where the policy is computed."""
    json: Path | None = None
    """Write per-task returns and statistics here."""
    plot: Path | None = None
    """Write a picture of the adaptation curve here (PNG)."""

    def __post_init__(self) -> None:
        for name in ("num_tasks", "episodes"):
            require_at_least(name, getattr(self, name), 1)
        for name in ("steps", "seed"):
            require_at_least(name, getattr(self, name), 0)
        for name in ("json", "plot"):
            path = getattr(self, name)
            if path is not None and not path.absolute().parent.is_dir():
                raise ValueError(f"{name} must lie in a directory that exists, got {path}")


def main(arguments: Sequence[str]) -> None:
    """The command `metarl evaluate`."""
    config = parse(EvaluateConfig, arguments, program="metarl evaluate")
    evaluation = evaluate(config)
    print_table(Console(), evaluation)
    if config.json is not None:
        write_atomically(config.json, json.dumps(evaluation.to_json(), indent=1).encode())
    if config.plot is not None:
        adaptation_figure(evaluation).savefig(config.plot, dpi=150)


def evaluate(config: EvaluateConfig) -> Evaluation:
    """Load the newest checkpoint and measure it."""
    path = config.run
    if not path.exists():
        raise ValueError(f"run must be a directory or a checkpoint, there is nothing at {path}")
    checkpoint = RunDirectory.open(path).newest_checkpoint() if path.is_dir() else path
    header = read_header(checkpoint)
    family = make_family(header["environment"])
    device = resolve_device(config.device)
    agent = AGENTS.load(header["agent"]).load(checkpoint, family, device=device)
    return evaluate_adaptation(
        agent,
        family,
        num_tasks=config.num_tasks,
        num_steps=config.steps,
        num_episodes=config.episodes,
        split=config.split,
        seed=config.seed,
        device=device,
    )


def print_table(console: Console, evaluation: Evaluation) -> None:
    """The adaptation table: returns, gain over the policy before, share of the gap closed."""
    table = Table(
        title=f"{evaluation.environment}, {len(evaluation.tasks)} {evaluation.split} tasks × "
        f"{evaluation.num_episodes} episodes, seed {evaluation.seed}",
        title_justify="left",
        box=box.SIMPLE,
    )
    table.add_column("policy")
    for heading in ("return", "95 % interval", "gain", "95 % interval", "gap closed"):
        table.add_column(heading, justify="right")
    table.add_row("random", *_show(evaluation.interval(evaluation.random)))
    for k in range(evaluation.num_steps + 1):
        returns = _show(evaluation.interval(evaluation.returns[k]))
        if k == 0:
            table.add_row("before", *returns)
            continue
        closed = evaluation.gap_closed(k)
        share = "" if closed is None else f"{closed:.0%}"
        name = f"after {k} step{'s' if k > 1 else ''}"
        table.add_row(name, *returns, *_show(evaluation.gain(k)), share)
    if evaluation.oracle is not None:
        table.add_row("oracle", *_show(evaluation.interval(evaluation.oracle)), "", "", "100%")
    console.print(table)


def _show(interval: Interval) -> tuple[str, str]:
    largest = max(map(abs, interval))
    digits = 2 if largest < 10 else 1 if largest < 100 else 0
    mean, low, high = (f"{value:.{digits}f}" for value in interval)
    return mean, f"{low} … {high}"


if __name__ == "__main__":
    run(main)
