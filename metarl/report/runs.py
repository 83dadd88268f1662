"""Which runs a report is of: read from their directories, measured where they are not, grouped."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from metarl.devices import DeviceName
from metarl.evaluation.files import read_evaluations
from metarl.evaluation.results import Evaluation, Measured, OutdatedEvaluationError
from metarl.experiments.evaluate_agents import EvaluateAgentsConfig, evaluate_agents
from metarl.rl.registry import AGENTS
from metarl.runs.directory import RunDirectory
from metarl.runs.metrics import read_metrics
from metarl.runs.seeds import expanded
from metarl.storage.checkpoints import read_header

__all__ = [
    "AgentRuns",
    "ReportedRun",
    "group_runs",
    "pool_runs",
    "read_run",
    "read_runs",
    "require_runs",
    "same_but_seeds",
    "telling_settings",
]

_MOST_SETTINGS_NAMED = 3


@dataclass(frozen=True)
class ReportedRun:
    """One training run."""

    directory: RunDirectory
    config: dict[str, Any]
    metrics: list[dict[str, float]]
    num_iterations: int

    @property
    def path(self) -> str:
        """Where it is, as the user said."""
        return str(self.directory.path)


@dataclass(frozen=True)
class AgentRuns:
    """The seeds of one agent with the same settings on one environment."""

    name: str
    environment: str
    runs: tuple[ReportedRun, ...]
    evaluations: tuple[Evaluation, ...]
    """One a split, or more where runs were measured differently."""
    measured_now: tuple[str, ...] = ()
    """Directories without an evaluation.json of today, which this report measured."""

    @property
    def iterations(self) -> list[int]:
        """How long the runs were trained: one number if all are of one length."""
        return sorted({run.num_iterations for run in self.runs})

    @property
    def seeds(self) -> set[int]:
        """Of all runs."""
        return {run.config["seed"] for run in self.runs}


def read_runs(paths: Sequence[Path], *, device: DeviceName) -> list[AgentRuns]:
    """The runs in each directory; one that holds several seeds stands for all of them.

    Without an evaluation.json, or with one that an earlier version wrote or that is of another
    environment or of before the run was trained on, they are measured as `metarl evaluate` does
    by itself.

    Raises:
        ValueError: if there is no run, one is named twice or is of no agent, or a file is damaged.
    """
    require_runs(paths)
    return [_read(path, device) for path in paths]


def require_runs(paths: Sequence[Path]) -> None:
    """Refuse no run, and the same run twice.

    Raises:
        ValueError: saying which it is.
    """
    folders = [folder for path in paths for folder in expanded(str(path))]
    if not folders:
        raise ValueError("run must be given: the directory of one, or of several seeds")
    if len({Path(folder).resolve() for folder in folders}) != len(folders):
        raise ValueError(f"run must not be given twice, got {' '.join(map(str, paths))}")


def read_run(directory: RunDirectory) -> ReportedRun:
    """What one run keeps, whatever was trained.

    Raises:
        ValueError: if a file is damaged.
    """
    metrics = read_metrics(directory)
    return ReportedRun(directory, directory.config(), metrics, _num_iterations(directory, metrics))


def group_runs(sources: Sequence[AgentRuns]) -> dict[str, list[AgentRuns]]:
    """Agents by environment; runs that differ in nothing but the seed become one agent."""

    def settings(source: AgentRuns) -> str:
        named = [source.environment, source.name, _settings(source), source.iterations]
        return json.dumps(named, sort_keys=True)

    merged = [_merged(same) for same in same_but_seeds(sources, settings)]
    environments = dict.fromkeys(source.environment for source in merged)
    return {
        environment: _named([agent for agent in merged if agent.environment == environment])
        for environment in environments
    }


class _Seeded(Protocol):
    @property
    def seeds(self) -> set[int]: ...


Source = TypeVar("Source", bound=_Seeded)


def same_but_seeds(
    sources: Sequence[Source], settings: Callable[[Source], str]
) -> list[list[Source]]:
    """Sources by their settings, each seed once; one that came before begins another list."""
    groups: dict[tuple[str, int], list[Source]] = {}
    for source in sources:
        key = settings(source)
        for repeat in itertools.count():
            same = groups.setdefault((key, repeat), [])
            if not any(source.seeds & other.seeds for other in same):
                same.append(source)
                break
    return list(groups.values())


def telling_settings(own: Mapping[str, Any], *others: Mapping[str, Any]) -> str:
    """The first settings that are not the same in all."""
    keys = [key for key in own if any(other.get(key) != own[key] for other in others)]
    return ", ".join(f"{key} {own[key]}" for key in keys[:_MOST_SETTINGS_NAMED])


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


def _read(path: Path, device: DeviceName) -> AgentRuns:
    """What one directory holds."""
    runs = tuple(_read_run(RunDirectory.open(Path(folder))) for folder in expanded(str(path)))
    config = runs[0].config
    stored = _stored(path / "evaluation.json", config["environment"], runs)
    request = EvaluateAgentsConfig(targets=(str(path),), device=device)
    evaluations = stored or tuple(evaluate_agents(request))
    measured_now = () if stored else (str(path),)
    return AgentRuns(config["agent"], config["environment"], runs, evaluations, measured_now)


def _read_run(directory: RunDirectory) -> ReportedRun:
    agent = directory.config()["agent"]
    if agent not in AGENTS:
        raise ValueError(
            f"run must be of one of the agents {', '.join(entry.name for entry in AGENTS)}, "
            f"or of a few-shot learner, {directory.path} is of {agent!r}"
        )
    return read_run(directory)


def _num_iterations(directory: RunDirectory, metrics: Sequence[Mapping[str, float]]) -> int:
    """Of the newest checkpoint; of the last line of metrics if none can be read."""
    try:
        return int(read_header(directory.newest_checkpoint())["counters"]["num_iterations"])
    except ValueError:
        return int(metrics[-1]["iteration"]) if metrics else 0


def _stored(file: Path, environment: str, runs: Sequence[ReportedRun]) -> tuple[Evaluation, ...]:
    """What an evaluation.json holds; nothing if there is none, or it is not of these runs today."""
    if not file.is_file():
        return ()
    try:
        found = read_evaluations(file, Evaluation)
    except OutdatedEvaluationError:
        return ()
    trained = sorted(run.num_iterations for run in runs)
    if runs[0].directory.is_published:  # its evaluation may be of several seeds, equally long
        trained *= len(found[0].runs)
    is_of_now = all(
        one.environment == environment and _trained_as_long(one, trained) for one in found
    )
    return found if is_of_now else ()


def _trained_as_long(evaluation: Evaluation, trained: Sequence[int]) -> bool:
    """Whether runs of so many iterations were measured, as far as the evaluation records it."""
    recorded = [count for count in evaluation.iterations if count is not None]
    return len(recorded) < len(evaluation.iterations) or not recorded or sorted(recorded) == trained


def _merged(sources: Sequence[AgentRuns]) -> AgentRuns:
    """Several directories of the same agent as one."""
    first = sources[0]
    evaluations = [dataclasses.replace(e, agent=s.name) for s in sources for e in s.evaluations]
    return AgentRuns(
        first.name,
        first.environment,
        tuple(run for source in sources for run in source.runs),
        tuple(pool_runs(evaluations)),
        tuple(path for source in sources for path in source.measured_now),
    )


def _named(agents: Sequence[AgentRuns]) -> list[AgentRuns]:
    """Agents of one name told apart by the settings in which they differ."""
    named = []
    for agent in agents:
        same = [other for other in agents if other.name == agent.name]
        settings = telling_settings(_settings(agent), *map(_settings, same))
        name = f"{agent.name} ({settings})" if settings else agent.name
        evaluations = tuple(dataclasses.replace(e, agent=name) for e in agent.evaluations)
        named.append(dataclasses.replace(agent, name=name, evaluations=evaluations))
    return named


def _settings(agent: AgentRuns) -> dict[str, Any]:
    settings: dict[str, Any] = agent.runs[0].config["agent_config"]
    return settings


def _alike(one: Evaluation, other: Evaluation) -> bool:
    return (
        one.agent == other.agent
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
        iterations=(*first.iterations, *second.iterations),
        measured=Measured(returns, success),
        references={**second.references, **first.references},
        totals={**second.totals, **first.totals},
    )
