"""Train an agent on a task family, as a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from metarl.devices import DeviceName, resolve_device
from metarl.rl.agent import TrainableAgent
from metarl.rl.registry import AGENTS
from metarl.runs.directory import RunDirectory
from metarl.runs.loop import TrainingPlan, run_training, tidy_up
from metarl.runs.resume import StoredRun, note_resume, read_run, refuse_changes, settled
from metarl.runs.seeds import create_seeds, existing_seeds, has_begun, holds_seeds, train_seeds
from metarl.runs.tracking import TrackerName, require_tracker
from metarl.storage.settings import read_settings
from metarl.tasks.registry import make_family
from metarl.validation import require_at_least

__all__ = ["TrainConfig", "train"]


_OF_ALL_SEEDS = frozenset({"device", "iterations", "checkpoint_every", "threads", "tracker"})


@dataclass(frozen=True)
class TrainConfig:
    """Train an agent on a task family."""

    out: Path
    """Directory of the run; it must be new, except with --resume."""
    env: str | None = None
    """Task family and variant, as `metarl list` names them; needed unless --resume."""
    seed: int = 0
    """Of parameters, tasks, initial states and actions."""
    seeds: int = 1
    """Runs to train, one after another: seed, seed + 1, … into the folders seed_0, … of --out."""
    iterations: int = 100
    """Meta-updates in all, those before a resume counted."""
    device: DeviceName = "auto"
    """Where policy and updates are computed; MuJoCo's physics run on the CPU's threads."""
    threads: int = 0
    """Threads of torch on the CPU; 0 leaves torch's choice."""
    checkpoint_every: int = 10
    """Iterations between checkpoints; the last one is always written."""
    tracker: TrackerName = "tensorboard"
    """Where metrics go beside metrics.jsonl; wandb and trackio are packages of their own."""
    resume: bool = False
    """Continue the run in --out with its own settings, but for those given."""

    def __post_init__(self) -> None:
        for name in ("iterations", "checkpoint_every", "seeds"):
            require_at_least(name, getattr(self, name), 1)
        for name in ("seed", "threads"):
            require_at_least(name, getattr(self, name), 0)


def train(
    agent_name: str, config: TrainConfig, agent_config: Any, *, given: Collection[str] = ()
) -> Path:
    """Train, log and save; the directory written.

    Args:
        agent_name: as `metarl list` has it.
        config: of the command.
        agent_config: of the agent.
        given: settings that were named; at a resume these must be the run's own or may take the
            place of its own, all others are the run's own.

    Raises:
        TrainingStopped: if training ended before its last iteration.
        ValueError: if a setting or the run to resume is not as it must be.
    """
    request = _Request(agent_name, config, agent_config, frozenset(given))
    if config.seeds > 1 or (config.resume and holds_seeds(config.out)):
        _train_seeds(request)
    elif config.resume:
        _resume(request)
    else:
        _start(request)
    return config.out


@dataclass(frozen=True)
class _Request:
    """One command."""

    agent_name: str
    config: TrainConfig
    agent_config: Any
    given: frozenset[str]
    """Names of the settings that the command line names."""

    def at(self, **settings: Any) -> _Request:
        """The same with other settings of the command."""
        return dataclasses.replace(self, config=dataclasses.replace(self.config, **settings))


def _start(request: _Request) -> None:
    config = request.config
    device = _prepare(config)
    agent = _new_agent(request, device)
    directory = RunDirectory.create(config.out, _resolved(request, agent), save=agent.save)
    with directory.writing():
        _run(agent, directory, config)


def _resume(request: _Request, *, extend_only: bool = False) -> None:
    """Go on with a run; with `extend_only` one that is complete is left as it is."""
    directory = RunDirectory.open(request.config.out)
    stored = read_run(directory.path / "config.json")
    request = _settled_request(request, stored)
    config = request.config
    with directory.writing():
        checkpoint = directory.newest_checkpoint()
        device = _prepare(config)
        family = make_family(stored.environment)
        agent: TrainableAgent = AGENTS.load(request.agent_name).load(
            checkpoint, family, device=device
        )
        if agent.num_iterations >= config.iterations:
            if extend_only or "iterations" not in request.given:
                tidy_up(directory, _plan(config), agent.num_iterations)
            if extend_only:
                return
            raise ValueError(
                f"iterations must be more than the {agent.num_iterations} that {config.out} has, "
                f"got {config.iterations}"
            )
        note_resume(directory, _loop_settings(config, device), agent.num_iterations)
        _run(agent, directory, config)


def _settled_request(request: _Request, stored: StoredRun) -> _Request:
    """The request with what the run has stored; what was given and must not change is refused."""
    config, given = request.config, set(request.given)
    asked = {"agent": request.agent_name, "environment": config.env, "seed": config.seed}
    named = {"agent", *(["environment"] if "env" in given else []), *(given & {"seed", "seeds"})}
    asked["seeds"] = config.seeds
    refuse_changes(named, asked, vars(stored))
    where = f"{config.out}: agent_config"
    kept = read_settings(type(request.agent_config), stored.agent_config, where=where)
    changed = {k: v for k, v in vars(request.agent_config).items() if k in given}
    if changed:
        merged = dataclasses.replace(kept, **changed)
        resolved = AGENTS.load(request.agent_name)(make_family(stored.environment), merged).config
        refuse_changes(given, vars(resolved), vars(kept))
    config = settled(config, stored, given - {"seed"})
    config = dataclasses.replace(config, env=stored.environment)
    return dataclasses.replace(request, config=config, agent_config=kept)


def _prepare(config: TrainConfig) -> torch.device:
    require_tracker(config.tracker)
    if config.threads:
        torch.set_num_threads(config.threads)
    return resolve_device(config.device)


def _new_agent(request: _Request, device: torch.device) -> TrainableAgent:
    config = request.config
    if config.env is None:
        raise ValueError("--env must be given: a family and its variant, see metarl list")
    family = make_family(config.env)
    agent: TrainableAgent = AGENTS.load(request.agent_name)(
        family, request.agent_config, seed=config.seed, device=device
    )
    return agent


def _resolved(request: _Request, agent: TrainableAgent) -> dict[str, Any]:
    """What config.json holds."""
    return {
        "agent": request.agent_name,
        "environment": agent.family.id,
        "seed": request.config.seed,
        **_loop_settings(request.config, agent.device),
        "agent_config": dataclasses.asdict(agent.config),
    }


def _loop_settings(config: TrainConfig, device: torch.device) -> dict[str, Any]:
    """Settings that a resume may change; threads as they are, for they can decide last bits."""
    return {
        "device": device.type,
        "iterations": config.iterations,
        "checkpoint_every": config.checkpoint_every,
        "threads": torch.get_num_threads(),
        "tracker": config.tracker,
    }


def _plan(config: TrainConfig) -> TrainingPlan:
    return TrainingPlan(
        config.iterations,
        config.checkpoint_every,
        score=lambda metrics: metrics.get("rollout/trial_return", metrics["rollout/query_return"]),
        news=_news,
        tracker=config.tracker,
    )


def _run(agent: TrainableAgent, directory: RunDirectory, config: TrainConfig) -> None:
    console = Console()
    console.print(f"{agent.family.id}: {agent.family.description}", soft_wrap=True)
    console.print(f"run in {directory.path}, policy on {agent.device}", soft_wrap=True)
    try:
        run_training(agent, directory, _plan(config), console)
    finally:
        agent.close()
    console.print(
        f"{agent.num_env_steps:,} environment steps; next: metarl evaluate {directory.path}",
        soft_wrap=True,
    )


def _train_seeds(request: _Request) -> None:
    """Start or go on with several runs that differ in their seeds."""
    out, changes = request.config.out, None
    if request.config.resume:
        stored = read_run(existing_seeds(out))
        request = _settled_request(request, stored).at(seed=stored.seed, seeds=stored.seeds)
        if request.config.iterations < stored.iterations:
            raise ValueError(
                f"iterations must be at least the {stored.iterations} that {out} is to have, "
                f"got {request.config.iterations}"
            )
        changes = _loop_settings(request.config, resolve_device(request.config.device))
    else:
        agent = _new_agent(request, _prepare(request.config))
        create_seeds(out, {**_resolved(request, agent), "seeds": request.config.seeds})
    seeds = range(request.config.seed, request.config.seed + request.config.seeds)
    train_seeds(out, seeds, lambda seed, path: _train_seed(request, seed, path), changes=changes)


def _train_seed(request: _Request, seed: int, path: Path) -> None:
    """Start or finish one of several runs."""
    one = request.at(seed=seed, seeds=1, out=path)
    if has_begun(path):
        _resume(dataclasses.replace(one, given=_OF_ALL_SEEDS), extend_only=True)
    else:
        _start(one)


def _news(metrics: Mapping[str, float]) -> str:
    before, after = metrics["rollout/support_return"], metrics["rollout/query_return"]
    speed = metrics["time/env_steps_per_second"]
    return f"return {before:.1f} → {after:.1f}  {speed:,.0f} steps/s"
