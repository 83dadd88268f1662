"""Which runs a report is of: read from their directories, measured where they are not, grouped."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metarl.agent import AdaptiveAgent
from metarl.agents import AGENTS
from metarl.durable_files import read_json_object
from metarl.envs import make_family
from metarl.evaluation import Evaluation, Measured
from metarl.evaluator import evaluate
from metarl.runs import RunDirectory, read_metrics

__all__ = ["AgentRuns", "ReportedRun", "group_runs", "load_agent", "pool_runs", "read_runs"]

_MOST_SETTINGS_NAMED = 3


@dataclass(frozen=True)
class ReportedRun:
    """One training run and what was measured of it."""

    directory: RunDirectory
    config: dict[str, Any]
    metrics: list[dict[str, float]]
    evaluations: tuple[Evaluation, ...]
    """One a split."""
    measured_now: bool
    """Whether it had no evaluation.json, so that this report measured it."""

    @property
    def environment(self) -> str:
        """The id of its task family."""
        return str(self.config["environment"])


@dataclass(frozen=True)
class AgentRuns:
    """The seeds of one agent with the same settings on one environment."""

    name: str
    runs: tuple[ReportedRun, ...]
    evaluations: tuple[Evaluation, ...]
    """Those of its runs, pooled where tasks and protocol are the same."""


def read_runs(paths: Sequence[Path], *, device: torch.device) -> list[ReportedRun]:
    """The runs in these directories; one that holds several seeds stands for all of them.

    Those without an evaluation.json are measured by the default protocol. One that an earlier
    version wrote counts as none.

    Raises:
        ValueError: if there is no run, one is named twice, or a file is damaged.
    """
    folders = [folder for path in paths for folder in _seeds(path)]
    names = [folder.resolve() for folder in folders]
    if not folders or len(set(names)) != len(names):
        raise ValueError(f"run must be given, and none twice, got {', '.join(map(str, paths))}")
    return [_read_run(RunDirectory.open(folder), device) for folder in folders]


def load_agent(run: ReportedRun, *, device: torch.device) -> AdaptiveAgent:
    """The agent of the newest checkpoint.

    Raises:
        ValueError: if there is none that is whole, or the agent is unknown.
    """
    return _load(run.directory, run.config, device)


def group_runs(runs: Sequence[ReportedRun]) -> dict[str, list[AgentRuns]]:
    """Agents by environment; runs that differ in nothing but the seed are one agent."""
    groups: dict[str, dict[str, list[ReportedRun]]] = {}
    for run in runs:
        settings = json.dumps([run.config["agent"], run.config["agent_config"]], sort_keys=True)
        groups.setdefault(run.environment, {}).setdefault(settings, []).append(run)
    return {
        environment: _named(list(agents.values())) for environment, agents in groups.items()
    }


def pool_runs(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Evaluations as few as can be: runs measured alike on the same tasks come together."""
    pooled: list[Evaluation] = []
    for evaluation in evaluations:
        for k, other in enumerate(pooled):
            if _alike(evaluation, other):
                pooled[k] = _joined(other, evaluation)
                break
        else:
            pooled.append(evaluation)
    return pooled


def _seeds(path: Path) -> list[Path]:
    if not (path / "seeds.json").is_file():
        return [path]
    return sorted(folder.parent for folder in path.glob("seed_*/config.json"))


def _read_run(directory: RunDirectory, device: torch.device) -> ReportedRun:
    config = directory.config()
    stored = _stored_evaluations(directory.path / "evaluation.json")
    evaluations = stored or (_measure(directory, config, device),)
    return ReportedRun(directory, config, read_metrics(directory), evaluations, not stored)


def _stored_evaluations(file: Path) -> tuple[Evaluation, ...]:
    """What a run's evaluation.json holds; nothing if there is none of this format."""
    if not file.is_file():
        return ()
    listed = read_json_object(file).get("evaluations")
    if not isinstance(listed, list):
        return ()
    return tuple(Evaluation.from_json(content, where=str(file)) for content in listed)


def _measure(directory: RunDirectory, config: dict[str, Any], device: torch.device) -> Evaluation:
    agent = _load(directory, config, device)
    family = make_family(config["environment"])
    name = directory.path.name
    return dataclasses.replace(
        evaluate({name: agent}, family, name=config["agent"], device=device), runs=(name,)
    )


def _load(
    directory: RunDirectory, config: dict[str, Any], device: torch.device
) -> AdaptiveAgent:
    family = make_family(config["environment"])
    agent: AdaptiveAgent = AGENTS.load(config["agent"]).load(
        directory.newest_checkpoint(), family, device=device
    )
    return agent


def _named(groups: list[list[ReportedRun]]) -> list[AgentRuns]:
    """Each group by its agent's name, with the settings that tell it from others of the name."""
    named = []
    for runs in groups:
        agent = str(runs[0].config["agent"])
        same = [g[0].config["agent_config"] for g in groups if g[0].config["agent"] == agent]
        settings = _telling(runs[0].config["agent_config"], same)
        name = f"{agent} ({settings})" if settings else agent
        pooled = pool_runs([e for run in runs for e in run.evaluations])
        evaluations = tuple(dataclasses.replace(e, agent=name) for e in pooled)
        named.append(AgentRuns(name, tuple(runs), evaluations))
    return named


def _telling(own: dict[str, Any], all_settings: list[dict[str, Any]]) -> str:
    """The first settings that are not the same in all."""
    keys = [key for key in own if any(other.get(key) != own[key] for other in all_settings)]
    return ", ".join(f"{key} {own[key]}" for key in keys[:_MOST_SETTINGS_NAMED])


def _alike(one: Evaluation, other: Evaluation) -> bool:
    return (
        one.environment == other.environment
        and one.agent == other.agent
        and one.protocol == other.protocol
        and one.stages == other.stages
        and one.metrics == other.metrics
        and np.array_equal(one.tasks, other.tasks)
    )


def _joined(first: Evaluation, second: Evaluation) -> Evaluation:
    """The runs of both; references are those of the first, then others of the second."""
    returns = np.concatenate([first.measured.returns, second.measured.returns])
    success = None
    if first.measured.success is not None and second.measured.success is not None:
        success = np.concatenate([first.measured.success, second.measured.success])
    return dataclasses.replace(
        first,
        runs=(*first.runs, *second.runs),
        measured=Measured(returns, success),
        references={**second.references, **first.references},
    )
