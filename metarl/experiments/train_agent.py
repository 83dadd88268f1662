"""Training of an agent on a task family, as an experiment."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
import tyro
from rich.console import Console

from metarl.experiments.settings import RunSettings
from metarl.progress import Progress
from metarl.rl.agent import Agent
from metarl.rl.registry import load_agent
from metarl.runs.directory import RunDirectory
from metarl.runs.loop import TrainingPlan
from metarl.runs.resume import read_run, reject_changes, with_stored
from metarl.runs.seeds import holds_seeds
from metarl.storage.settings import read_settings
from metarl.tasks.registry import make_family

__all__ = ["AgentExperiment", "AgentTraining", "TrainConfig"]


@dataclass(frozen=True)
class TrainConfig(RunSettings):
    """Train an agent on a task family."""

    env: Annotated[
        str | None,
        tyro.conf.arg(metavar="FAMILY:VARIANT", help_behavior_hint="(required without --resume)"),
    ] = None
    """Task family and its variant, as listed by `metarl list envs`."""


class AgentTraining:
    """An agent in training."""

    axis: str = "time/env_steps"
    higher_is_better: bool = True
    default_log_every: int = 1
    first_iteration: str = "starting environments and collecting the first episodes"

    def __init__(self, name: str, agent: Agent[Any]) -> None:
        self.name, self.agent = name, agent

    @property
    def num_iterations(self) -> int:
        return self.agent.num_iterations

    @property
    def score(self) -> str:
        return self.agent.score

    def iterate(self) -> dict[str, float]:
        return self.agent.iterate()

    def progress(self, metrics: Mapping[str, float]) -> str:
        return self.agent.progress(metrics)

    def save(self, path: Path) -> None:
        self.agent.save(path)

    def stored_facts(self) -> dict[str, Any]:
        return {
            "agent": self.name,
            "environment": self.agent.family.id,
            "seed": self.agent.seed,
            "agent_config": dataclasses.asdict(self.agent.config),
        }

    def begin(self, directory: RunDirectory, plan: TrainingPlan) -> str:
        del plan
        family = self.agent.family
        place = f"run in {directory.path}, policy on {self.agent.device}"
        return f"{family.id}: {family.description}\n{place}"

    def end(self) -> None:
        self.agent.close()

    def final_message(self, directory: RunDirectory) -> str:
        steps = self.agent.num_env_steps
        parent = directory.path.parent
        target = parent if holds_seeds(parent) else directory.path
        return f"{steps:,} environment steps; next: metarl evaluate {shlex.quote(str(target))}"


@dataclass(frozen=True)
class AgentExperiment:
    """An agent, a task family and all settings."""

    complete_is_an_error: ClassVar[bool] = True

    name: str
    """The agent's registered name."""
    settings: TrainConfig
    agent_config: Any
    """Settings of the agent, of its `config_type`."""

    @property
    def changeable(self) -> tuple[str, ...]:
        """Names of the settings that a resume may change."""
        log_every = ("log_every",) if self.settings.log_every else ()
        return ("device", "iterations", "checkpoint_every", *log_every, "threads", "tracker")

    def with_settings(self, **changes: Any) -> AgentExperiment:
        """The experiment with some settings replaced."""
        return dataclasses.replace(self, settings=dataclasses.replace(self.settings, **changes))

    def resolved(self) -> AgentExperiment:
        """The experiment itself, since the agent resolves its settings."""
        return self

    def with_stored_settings(self, file: Path, given: Collection[str]) -> AgentExperiment:
        """The experiment with the settings of a stored run; rejects given settings that differ."""
        stored, settings = read_run(file), self.settings
        wanted: dict[str, Any] = {"agent": self.name, "environment": settings.env}
        wanted |= {"seed": settings.seed, "seeds": settings.seeds}
        named = {"agent", *given} | ({"environment"} if "env" in given else set())
        reject_changes(named, wanted, vars(stored))
        source = f"{settings.out}: agent_config"
        kept = read_settings(type(self.agent_config), stored.agent_config, source=source)
        changed = {k: v for k, v in vars(self.agent_config).items() if k in given}
        if changed:
            merged = dataclasses.replace(kept, **changed)
            agent = load_agent(self.name)(make_family(stored.environment), merged)
            reject_changes(given, vars(agent.config), vars(kept))
        settings = with_stored(settings, stored, {*given} - {"seed"})
        settings = dataclasses.replace(settings, env=stored.environment, seeds=stored.seeds)
        return dataclasses.replace(self, settings=settings, agent_config=kept)

    def build(
        self, device: torch.device, given: Collection[str], progress: Progress
    ) -> AgentTraining:
        """The untrained agent."""
        del given
        progress(f"creating agent {self.name} and environment {self.settings.env}")
        if self.settings.env is None:
            raise ValueError("--env must be given: a task family and its variant; see metarl list")
        family, seed = make_family(self.settings.env), self.settings.seed
        agent = load_agent(self.name)(family, self.agent_config, seed=seed, device=device)
        return AgentTraining(self.name, agent)

    def load(self, checkpoint: Path, device: torch.device, progress: Progress) -> AgentTraining:
        """The agent of a checkpoint."""
        del progress
        assert self.settings.env is not None
        family = make_family(self.settings.env)
        agent = load_agent(self.name).load(checkpoint, family, device=device)
        return AgentTraining(self.name, agent)

    def require_trainable(self, checkpoint: Path) -> None:
        """Do nothing: checkpoints of agents always hold what training needs."""
        del checkpoint

    def measure(self, trained: AgentTraining, console: Console) -> None:
        """Do nothing: agents are measured by `metarl evaluate`."""
        del trained, console
