"""The runs of a report: read from their folders, evaluated if needed, and grouped.

Runs that differ only in their seed are one group, whatever was trained; `metarl.report.kinds`
defines how agents and few-shot learners differ.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic

from metarl.devices import DeviceName
from metarl.evaluation.files import AnyEvaluation, read_evaluations
from metarl.evaluation.results import OutdatedEvaluationError
from metarl.experiments.evaluation import measure
from metarl.experiments.train_agent import AgentTraining
from metarl.progress import Progress, ignore_progress
from metarl.registry import LEARNER_PREFIX
from metarl.report.kinds import Kind, Origin, Result, kind_of, pool_results
from metarl.runs.directory import RunDirectory
from metarl.runs.metrics import read_metrics
from metarl.runs.seeds import expanded
from metarl.storage.checkpoints import read_header
from metarl.validation import unknown_name

__all__ = [
    "ReportedRun",
    "RunGroup",
    "group_runs",
    "read_runs",
    "require_runs",
    "stored_group",
]

_MAX_NAMED_SETTINGS = 3


@dataclass(frozen=True)
class ReportedRun:
    """One training run."""

    directory: RunDirectory
    config: dict[str, Any]
    metrics: list[dict[str, float]]
    num_iterations: int

    @property
    def path(self) -> str:
        """The folder, as given by the user."""
        return str(self.directory.path)


@dataclass(frozen=True)
class RunGroup(Generic[Result]):
    """Runs of one agent or learner, with the same settings, in one environment or data set."""

    kind: Kind[Result]
    algorithm: str
    """Name of the agent or learner."""
    name: str
    """The algorithm, followed by the settings that distinguish it from other groups."""
    domain: str
    """Environment or data set."""
    runs: tuple[ReportedRun, ...]
    results: tuple[Result, ...]
    """One result for each protocol by which the runs were measured."""
    measured_now: tuple[str, ...] = ()
    """Folders without a current evaluation file, which were evaluated for this report."""

    @property
    def seeds(self) -> set[int]:
        """The seeds of all runs."""
        return {run.config["seed"] for run in self.runs}

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that distinguishes the group from others in its domain, except the seeds."""
        config, lengths = self.runs[0].config, sorted({run.num_iterations for run in self.runs})
        return {
            **config["agent_config"],
            "dataset_options": config.get("dataset_options", []),
            "iterations": lengths[0] if len(lengths) == 1 else lengths,
        }


def read_runs(
    paths: Sequence[Path], *, device: DeviceName, progress: Progress = ignore_progress
) -> list[RunGroup[Any]]:
    """A group for each folder; a folder of several seeds contains all of their runs.

    Every evaluation*.json in a folder is read. If none is current (an earlier version wrote it, it
    measured other runs, or training continued since), the runs are measured as `metarl evaluate`
    does by default; nothing is written.

    Args:
        paths: folders of runs, of several seeds, or published ones; agents and learners mixed.
        device: device of the measurements.
        progress: called before each run is read or measured.

    Raises:
        ValueError: if there is no run, one is given twice, its agent or learner is unknown, or a
            file is damaged.
    """
    require_runs(paths)
    groups = []
    for done, path in enumerate(paths):
        progress(f"reading run {path}", done, len(paths))
        groups.append(_read_folder(path, device, progress))
    return groups


def require_runs(paths: Sequence[Path]) -> None:
    """Reject missing paths, paths that are files, and repeated runs.

    Raises:
        ValueError: with the path.
    """
    if not paths:
        raise ValueError("run must be given: the folder of one run, or of several seeds")
    for path in paths:
        if path.is_file():
            raise ValueError(f"run must be the folder of a run, got the file {path}")
    folders = [folder for path in paths for folder in expanded(str(path))]
    if len({os.path.realpath(folder) for folder in folders}) != len(folders):
        raise ValueError(f"run must not be given twice, got {' '.join(map(str, paths))}")


def group_runs(
    groups: Iterable[RunGroup[Any]], kind: Kind[Result]
) -> dict[str, list[RunGroup[Result]]]:
    """Groups of one kind by domain; groups that differ only in their seeds are merged."""
    merged = [_merge(same) for same in _same_but_seeds([g for g in groups if g.kind is kind])]
    domains = dict.fromkeys(group.domain for group in merged)
    return {
        domain: _with_names([group for group in merged if group.domain == domain])
        for domain in domains
    }


def stored_group(path: Path) -> RunGroup[Any]:
    """The runs in a folder with their current stored results, possibly none.

    Raises:
        ValueError: if there is no run, its agent or learner is unknown, or a file is damaged.
    """
    runs = tuple(_read_run(RunDirectory.open(Path(folder))) for folder in expanded(str(path)))
    config = runs[0].config
    kind = kind_of(config["agent"])
    algorithm, known = config["agent"].removeprefix(kind.prefix), kind.algorithms()
    if algorithm not in known:
        raise ValueError(unknown_name(f"{kind.noun} of run {path}", algorithm, known))
    unmeasured = RunGroup(kind, algorithm, algorithm, config["environment"], runs, ())
    return replace(unmeasured, results=_stored_results(unmeasured, path))


def _read_folder(path: Path, device: DeviceName, progress: Progress) -> RunGroup[Any]:
    group = stored_group(path)
    if group.results:
        return group
    results = _results(group, measure(path, device=device, progress=progress))
    return replace(group, results=results, measured_now=(str(path),))


def _read_run(directory: RunDirectory) -> ReportedRun:
    config = directory.config()
    is_learner = config["agent"].startswith(LEARNER_PREFIX)
    metrics = read_metrics(directory, required=() if is_learner else (AgentTraining.axis,))
    return ReportedRun(directory, config, metrics, _num_iterations(directory, metrics))


def _num_iterations(directory: RunDirectory, metrics: Sequence[Mapping[str, float]]) -> int:
    """From the newest checkpoint, or from the last line of metrics if no checkpoint is readable."""
    try:
        return int(read_header(directory.newest_checkpoint())["counters"]["num_iterations"])
    except ValueError:
        return int(metrics[-1]["iteration"]) if metrics else 0


def _stored_results(group: RunGroup[Result], path: Path) -> tuple[Result, ...]:
    """The current results in a folder, each way of measuring once."""
    found: list[Result] = []
    for file in sorted(path.glob("evaluation*.json")):
        try:
            results = _results(group, read_evaluations(file))
        except OutdatedEvaluationError:
            continue
        if all(_is_current(group, group.kind.origin(result)) for result in results):
            known = [group.kind.identity(result) for result in found]
            found += [result for result in results if group.kind.identity(result) not in known]
    return tuple(sorted(found, key=group.kind.order))


def _results(group: RunGroup[Result], evaluations: Iterable[AnyEvaluation]) -> tuple[Result, ...]:
    """Evaluations of the group's kind, under its name."""
    made = (group.kind.result(one, group.runs[0].config) for one in evaluations)
    return tuple(result for result in made if result is not None)


def _is_current(group: RunGroup[Any], origin: Origin) -> bool:
    """Whether a result measured the runs of a group after the same number of iterations.

    A published run represents all the equally long runs of its evaluation.
    """
    if origin.domain != group.domain:
        return False
    trained = sorted(run.num_iterations for run in group.runs)
    if group.runs[0].directory.is_published:
        trained *= len(origin.iterations)
    recorded = [count for count in origin.iterations if count is not None]
    return len(recorded) < len(origin.iterations) or sorted(recorded) == trained


def _same_but_seeds(groups: Sequence[RunGroup[Result]]) -> list[list[RunGroup[Result]]]:
    """Groups with equal settings; a repeated seed starts another list."""
    lists: dict[tuple[str, int], list[RunGroup[Result]]] = {}
    for group in groups:
        key = json.dumps([group.domain, group.algorithm, group.settings], sort_keys=True)
        for repeat in itertools.count():
            same = lists.setdefault((key, repeat), [])
            if not any(group.seeds & other.seeds for other in same):
                same.append(group)
                break
    return list(lists.values())


def _merge(groups: Sequence[RunGroup[Result]]) -> RunGroup[Result]:
    results = [result for group in groups for result in group.results]
    return replace(
        groups[0],
        runs=tuple(run for group in groups for run in group.runs),
        results=tuple(pool_results(groups[0].kind, results)),
        measured_now=tuple(path for group in groups for path in group.measured_now),
    )


def _with_names(groups: Sequence[RunGroup[Result]]) -> list[RunGroup[Result]]:
    """Groups of one domain, named by the settings in which equal algorithms differ."""
    named = []
    for group in groups:
        others = [other.settings for other in groups if other.algorithm == group.algorithm]
        settings = _differing_settings(group.settings, others)
        name = f"{group.algorithm} ({settings})" if settings else group.algorithm
        results = tuple(group.kind.renamed(result, name) for result in group.results)
        named.append(replace(group, name=name, results=results))
    return named


def _differing_settings(own: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> str:
    """The first few settings that differ from others."""
    several = list(others)
    keys = [key for key in own if any(other.get(key) != own[key] for other in several)]
    return ", ".join(f"{key} {own[key]}" for key in keys[:_MAX_NAMED_SETTINGS])
