"""Which few-shot runs a report is of: read from their directories, measured where they are not.

Runs that differ in their seed only become one learner; what was measured of them on the same tasks
is pooled as `metarl evaluate RUN [RUN ...]` does it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metarl.devices import DeviceName
from metarl.evaluation.fewshot_results import FewShotEvaluation, FewShotResult, MeasuredRuns
from metarl.evaluation.files import read_evaluations
from metarl.evaluation.results import OutdatedEvaluationError
from metarl.experiments.evaluate_learners import EvaluateLearnersConfig, evaluate_learners
from metarl.fewshot.learners.catalog import LEARNERS
from metarl.report.runs import ReportedRun, read_run, require_runs, same_but_seeds, telling_settings
from metarl.runs.directory import RunDirectory
from metarl.runs.seeds import expanded
from metarl.validation import unknown_name

__all__ = [
    "LearnerRuns",
    "group_fewshot_runs",
    "is_fewshot",
    "pool_results",
    "read_fewshot_runs",
    "result_labels",
]


_AGENT = "fewshot-"


@dataclass(frozen=True)
class LearnerRuns:
    """The seeds of one learner with the same settings on one data set."""

    name: str
    learner: str
    dataset: str
    runs: tuple[ReportedRun, ...]
    results: tuple[FewShotResult, ...]
    """One, or more where runs were measured differently."""
    measured_now: tuple[str, ...] = ()
    """Directories without an evaluation.json of today, which this report measured."""

    @property
    def seeds(self) -> set[int]:
        """Of all runs."""
        return {run.config["seed"] for run in self.runs}

    @property
    def settings(self) -> dict[str, Any]:
        """What tells it from other runs of the learner on the data set, the seed apart."""
        config, lengths = self.runs[0].config, sorted({run.num_iterations for run in self.runs})
        return {
            **config["agent_config"],
            "dataset_options": config.get("dataset_options", []),
            "iterations": lengths[0] if len(lengths) == 1 else lengths,
        }


def is_fewshot(path: Path) -> bool:
    """Whether a directory holds a few-shot run, or several.

    Raises:
        ValueError: if it holds no run, or a damaged one.
    """
    first = RunDirectory.open(Path(expanded(str(path))[0]))
    return str(first.config()["agent"]).startswith(_AGENT)


def read_fewshot_runs(paths: Sequence[Path], *, device: DeviceName) -> list[LearnerRuns]:
    """The runs in each directory; one that holds several seeds stands for all of them.

    Every evaluation*.json is read. Without one, or with those only that an earlier version wrote,
    or that are of others or of before the run was trained on, runs are measured as `metarl
    evaluate` does by itself.

    Raises:
        ValueError: if there is no run, one is named twice or is of no learner, or a file is
            damaged.
    """
    require_runs(paths)
    return [_read(path, device) for path in paths]


def group_fewshot_runs(sources: Sequence[LearnerRuns]) -> dict[str, list[LearnerRuns]]:
    """Learners by data set; runs that differ in nothing but the seed become one learner."""

    def settings(source: LearnerRuns) -> str:
        named = [source.dataset, source.learner, source.settings]
        return json.dumps(named, sort_keys=True)

    merged = [_merged(same) for same in same_but_seeds(sources, settings)]
    datasets = dict.fromkeys(source.dataset for source in merged)
    return {
        dataset: _named([source for source in merged if source.dataset == dataset])
        for dataset in datasets
    }


def pool_results(results: Sequence[FewShotResult]) -> list[FewShotResult]:
    """Results as few as can be: runs measured alike on the same tasks come together."""
    pooled: list[FewShotResult] = []
    for result in results:
        for k, other in enumerate(pooled):
            if _way(result) == _way(other):
                pooled[k] = _joined(other, result)
                break
        else:
            pooled.append(result)
    return pooled


def result_labels(results: Sequence[FewShotResult]) -> dict[str, FewShotResult]:
    """Results by a name that tells them apart: learner, then what differs in test and runs."""
    labels: dict[str, FewShotResult] = {}
    for result in results:
        rivals = [_label_parts(r) for r in results if r is not result and r.name == result.name]
        words = [result.name]
        for k, part in enumerate(_label_parts(result)):
            if any(rival[k] != part for rival in rivals):
                words.append(part)
                rivals = [rival for rival in rivals if rival[k] == part]
        label = ", ".join(words)
        labels[f"{label} ({len(labels) + 1})" if label in labels else label] = result
    return labels


def _label_parts(result: FewShotResult) -> tuple[str, ...]:
    protocol, runs = result.protocol, " and ".join(result.measured.runs[:2])
    return result.tested_on, f"query {protocol['query']}", f"{protocol['split']} tasks", runs


def _read(path: Path, device: DeviceName) -> LearnerRuns:
    """What one directory holds."""
    directories = [RunDirectory.open(Path(folder)) for folder in expanded(str(path))]
    runs = tuple(read_run(directory) for directory in directories)
    config = runs[0].config
    agent, dataset = str(config["agent"]), str(config["environment"])
    learner, learners = agent.removeprefix(_AGENT), [entry.name for entry in LEARNERS]
    if not agent.startswith(_AGENT) or learner not in learners:
        raise ValueError(unknown_name(f"learner of run {path}", learner, learners))
    results = _stored_results(path, learner, dataset, runs)
    measured_now: tuple[str, ...] = ()
    if not results:
        measured = evaluate_learners(EvaluateLearnersConfig(runs=(path,), device=device))
        results = [FewShotResult(learner, measured)]
        measured_now = (str(path),)
    steps, word = _usual_steps(config["agent_config"])
    told = (dataclasses.replace(one, usual_steps=steps, usual_word=word) for one in results)
    return LearnerRuns(learner, learner, dataset, runs, tuple(told), measured_now)


def _stored_results(
    path: Path, learner: str, dataset: str, runs: Sequence[ReportedRun]
) -> list[FewShotResult]:
    """The evaluations in a directory that are of its runs as they are, the test first."""
    results: list[FewShotResult] = []
    for file in sorted(path.glob("evaluation*.json")):
        try:
            measured = read_evaluations(file)[0]
        except OutdatedEvaluationError:
            continue
        if not isinstance(measured, MeasuredRuns):
            continue
        result = FewShotResult(learner, measured)
        is_new = all(_way(result) != _way(other) for other in results)
        if is_new and _is_of_now(result, learner, dataset, runs):
            results.append(result)
    return sorted(results, key=_order)


def _order(result: FewShotResult) -> tuple[bool, str, int, int]:
    split, ways, shots = (result.protocol[name] for name in ("split", "ways", "shots"))
    return split != "test", str(split), int(ways), int(shots)


def _usual_steps(settings: Mapping[str, Any]) -> tuple[int, str]:
    """Reptile is trained by steps on minibatches, which are not those of its test."""
    if own_test := settings.get("num_test_steps"):
        return int(own_test), "its own test"
    return int(settings.get("num_inner_steps", 1)), "as trained"


def _is_of_now(
    result: FewShotResult, learner: str, dataset: str, runs: Sequence[ReportedRun]
) -> bool:
    """Whether these runs were measured, as they are; a published one may stand for several."""
    first, is_published = result.measured.first, runs[0].directory.is_published
    return (
        (first.learner, first.dataset) == (learner, dataset)
        and (is_published or len(runs) == len(result.measured.runs))
        and all(run.num_iterations == result.protocol["iterations"] for run in runs)
    )


def _way(result: FewShotResult) -> tuple[object, ...]:
    """What must be the same in results that are pooled."""
    first = result.measured.first
    protocol = {name: fact for name, fact in first.protocol.items() if name != "interval"}
    return result.name, first.dataset, first.metric, first.steps, protocol


def _joined(first: FewShotResult, second: FewShotResult) -> FewShotResult:
    """The runs of both; a name that both have is numbered."""
    evaluations: dict[str, FewShotEvaluation] = {}
    for result in (first, second):
        for name, evaluation in result.measured.evaluations.items():
            protocol = {key: fact for key, fact in evaluation.protocol.items() if key != "interval"}
            free = f"{name} ({len(evaluations) + 1})" if name in evaluations else name
            evaluations[free] = dataclasses.replace(evaluation, protocol=protocol)
    measured = MeasuredRuns(evaluations)
    return dataclasses.replace(first, measured=measured)


def _merged(sources: Sequence[LearnerRuns]) -> LearnerRuns:
    """Several directories of the same learner as one."""
    return dataclasses.replace(
        sources[0],
        runs=tuple(run for source in sources for run in source.runs),
        results=tuple(pool_results([r for source in sources for r in source.results])),
        measured_now=tuple(path for source in sources for path in source.measured_now),
    )


def _named(learners: Sequence[LearnerRuns]) -> list[LearnerRuns]:
    """Learners of one name told apart by the settings in which they differ."""
    named = []
    for one in learners:
        others = [other.settings for other in learners if other.learner == one.learner]
        told = telling_settings(one.settings, *others)
        name = f"{one.learner} ({told})" if told else one.learner
        results = tuple(dataclasses.replace(result, name=name) for result in one.results)
        named.append(dataclasses.replace(one, name=name, results=results))
    return named
