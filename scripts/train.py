"""Train an agent: `metarl train AGENT --env FAMILY:VARIANT --out DIRECTORY`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console

from metarl.agent import TrainableAgent
from metarl.agents import AGENTS
from metarl.devices import DeviceName, resolve_device
from metarl.envs import make_family
from metarl.ranges import require_at_least
from metarl.runs import MetricsLog, RunDirectory
from metarl.scripts.command_line import choose, parse, run
from metarl.scripts.progress import TrainingProgress

__all__ = ["TrainConfig", "main", "train"]


@dataclass(frozen=True)
class TrainConfig:
    """Train an agent on a task family."""

    out: Path
    """Directory of the run; it must be new, except with --resume."""
    env: str | None = None
    """Task family and variant, as `metarl list` names them; needed unless --resume."""
    seed: int = 0
    """Of parameters, tasks, initial states and actions."""
    iterations: int = 100
    """Meta-updates in all, those before a resume counted."""
    device: DeviceName = "auto"
    """Where policy and updates are computed; MuJoCo's physics run on the CPU's threads."""
    threads: int = 0
    """Threads of torch on the CPU; 0 leaves torch's choice."""
    checkpoint_every: int = 10
    """Iterations between checkpoints; the last one is always written."""
    resume: bool = False
    """Continue the run in --out with its own settings."""

    def __post_init__(self) -> None:
        for name in ("iterations", "checkpoint_every"):
            require_at_least(name, getattr(self, name), 1)
        for name in ("seed", "threads"):
            require_at_least(name, getattr(self, name), 0)


def main(arguments: Sequence[str]) -> None:
    """The command `metarl train`."""
    name = choose("agent", arguments, [e.name for e in AGENTS], program="metarl train")
    if name is None:
        return
    config_type: Any = AGENTS.load(name).config_type
    options: Any = tyro.conf.OmitArgPrefixes[config_type]  # type: ignore[misc] # known at run time
    whole = dataclasses.make_dataclass(
        "Train",
        [("agent", options, field(default_factory=config_type))],
        bases=(TrainConfig,),
        frozen=True,
    )
    whole.__doc__ = TrainConfig.__doc__
    config: Any = parse(whole, arguments[1:], program=f"metarl train {name}")
    train(name, config, config.agent)


def train(agent_name: str, config: TrainConfig, agent_config: Any) -> Path:
    """Train, log and save; the run's directory."""
    if config.threads:
        torch.set_num_threads(config.threads)
    device = resolve_device(config.device)
    if config.resume:
        directory, agent = _resume(agent_name, config, agent_config, device)
    else:
        directory, agent = _create(agent_name, config, agent_config, device)
    log = MetricsLog(directory, num_iterations=agent.num_iterations)
    try:
        _train_loop(agent, config, directory, log)
    finally:
        log.close()
        agent.close()
    return directory.path


def _create(
    name: str, config: TrainConfig, agent_config: Any, device: torch.device
) -> tuple[RunDirectory, TrainableAgent]:
    if config.env is None:
        raise ValueError("--env must be given: a family and its variant, see metarl list")
    family = make_family(config.env)
    agent: TrainableAgent = AGENTS.load(name)(family, agent_config, seed=config.seed, device=device)
    resolved = {
        "agent": name,
        "environment": family.id,
        "seed": config.seed,
        "device": str(device),
        "agent_config": dataclasses.asdict(agent.config),
    }
    return RunDirectory.create(config.out, resolved), agent


def _resume(
    name: str, config: TrainConfig, agent_config: Any, device: torch.device
) -> tuple[RunDirectory, TrainableAgent]:
    directory = RunDirectory.open(config.out)
    stored = directory.config()
    given = {"agent": name, "environment": config.env, "seed": config.seed}
    _refuse_changes(given, stored, {"environment": None, "seed": 0})
    defaults = dataclasses.asdict(type(agent_config)())
    _refuse_changes(dataclasses.asdict(agent_config), stored["agent_config"], defaults)
    family = make_family(stored["environment"])
    agent: TrainableAgent = AGENTS.load(name).load(
        directory.newest_checkpoint(), family, device=device
    )
    if agent.num_iterations >= config.iterations:
        raise ValueError(
            f"iterations must be more than the {agent.num_iterations} that {config.out} has, "
            f"got {config.iterations}"
        )
    return directory, agent


def _refuse_changes(
    given: dict[str, Any], stored: dict[str, Any], defaults: dict[str, Any]
) -> None:
    """A setting that was given (differs from its default) must be the run's own."""
    for name, value in given.items():
        kept = tuple(stored[name]) if isinstance(stored[name], list) else stored[name]
        if value not in (kept, defaults.get(name, kept)):
            raise ValueError(
                f"{name} of the run to resume is {kept!r}, got {value!r}; "
                "leave it out, or start a new run"
            )


def _train_loop(
    agent: TrainableAgent, config: TrainConfig, directory: RunDirectory, log: MetricsLog
) -> None:
    console = Console()
    console.print(f"{agent.family.id}: {agent.family.description}", soft_wrap=True)
    console.print(f"run in {directory.path}, policy on {agent.device}", soft_wrap=True)
    started_at = agent.num_iterations
    with TrainingProgress(console, total=config.iterations, completed=started_at) as progress:
        while agent.num_iterations < config.iterations:
            metrics = agent.iterate()
            done = agent.num_iterations
            log.write(done, metrics)
            progress.update(done, _news(metrics))
            if done % config.checkpoint_every == 0 or done == config.iterations:
                agent.save(directory.checkpoint_path(done))
                directory.drop_old_checkpoints()
    console.print(
        f"{agent.num_env_steps:,} environment steps; next: metarl evaluate {directory.path}",
        soft_wrap=True,
    )


def _news(metrics: dict[str, float]) -> str:
    before, after = metrics["rollout/support_return"], metrics["rollout/query_return"]
    speed = metrics["time/env_steps_per_second"]
    return f"return {before:.1f} → {after:.1f}  {speed:,.0f} steps/s"


if __name__ == "__main__":
    run(main)
