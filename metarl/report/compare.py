"""Reading and comparing two sides: `metarl compare` and `metarl.compare`."""

from __future__ import annotations

import json as json_module
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, get_args

from metarl.evaluation.comparable import AnyMetric, Comparable, as_comparable
from metarl.evaluation.comparison import Comparison, compare_all
from metarl.evaluation.fewshot_results import FewShotResult, MeasuredRuns
from metarl.evaluation.files import AnyEvaluation, read_evaluations
from metarl.evaluation.results import Evaluation
from metarl.report.kinds import AGENT, LEARNER, pool_results
from metarl.report.runs import RunGroup, stored_group
from metarl.runs.seeds import expanded
from metarl.storage.files import require_output_file, write_output
from metarl.validation import as_path, unknown_name

__all__ = ["Side", "compare", "write_comparisons"]

Side: TypeAlias = str | os.PathLike[str] | AnyEvaluation
_METRICS: tuple[AnyMetric, ...] = get_args(AnyMetric)


def compare(
    a: Side | Sequence[Side],
    b: Side | Sequence[Side],
    *,
    metric: AnyMetric | None = None,
    json: str | os.PathLike[str] | None = None,
) -> list[Comparison]:
    """Compare two agents, or two few-shot learners, that were measured by the same protocol.

    On common tasks, differences are paired; otherwise intervals are wider. See
    docs/concepts/intervals.md.

    Args:
        a: evaluation file, folder of a run or of several seeds with an evaluation file, or the
            evaluation itself; or several runs of one agent as a list, such as the result of
            `metarl.evaluate`.
        b: the other side, likewise.
        metric: "return", "success", "accuracy" or "mse"; None: all that were measured for both.
        json: file for the comparison; an earlier comparison is replaced, another file is not.

    Returns:
        A comparison for each shared split and metric.

    Raises:
        ValueError: if json exists and is no comparison, a side has no current evaluation, its runs
            cannot be averaged, or the sides have no environment, metric and protocol in common.

    Example:
        >>> from metarl.rl.registry import make_reference
        >>> from metarl.tasks.registry import make_family
        >>> from metarl.experiments.evaluation import evaluate
        >>> family = make_family("Bandit:n10-k5")
        >>> references = [make_reference(name, family) for name in ("thompson", "ucb1")]
        >>> options = {"env": family.id, "num_tasks": 20, "adaptation_steps": 0}
        >>> measured = [evaluate(reference, **options) for reference in references]
        >>> (found,) = compare(*measured)
        >>> found.design, found.rows[0].difference.over
        ('paired', 'tasks')
    """
    if metric is not None and metric not in _METRICS:
        raise ValueError(unknown_name("metric", metric, _METRICS))
    file = None if json is None else as_path("json", json)
    if file is not None:
        require_output_file("json", file)
        _require_comparison(file)
    sides = _read("A", a), _read("B", b)
    if sides[0].word == sides[1].word:
        raise ValueError(f"A and B must differ, got {sides[0].word} for both")
    found = compare_all(*_named(*sides), metric)
    if file is not None:
        write_comparisons(file, found)
    return found


def _require_comparison(file: Path) -> None:
    """Reject an existing regular file that is not a comparison, such as an evaluation."""
    if not file.is_file():
        return
    try:
        content = json_module.loads(file.read_bytes())
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or set(content) != {"comparisons"}:
        raise ValueError(
            f"json must be a new file or an earlier comparison, which it replaces, got {file}; "
            "choose another name"
        )


def write_comparisons(file: Path, comparisons: Sequence[Comparison]) -> None:
    """Write comparisons to a JSON file."""
    content = {"comparisons": [one.to_json() for one in comparisons]}
    write_output(file, json_module.dumps(content, indent=1, ensure_ascii=False).encode())


class _SideRead:
    """The evaluations of one side, and words that distinguish it from a side of equal name."""

    def __init__(self, word: str, several: Sequence[Comparable]) -> None:
        self.word, self.several = word, several


def _read(name: str, side: Side | Sequence[Side]) -> _SideRead:
    several: Sequence[Any] = side if isinstance(side, list | tuple) else [side]
    if not several:
        raise ValueError(f"{name} must have at least one run or evaluation, got none")
    paths = [os.fspath(one) for one in several if isinstance(one, str | os.PathLike)]
    results = [_as_result(name, one) for one in several if not isinstance(one, str | os.PathLike)]
    if len({os.path.realpath(path) for path in paths}) < len(paths):
        raise ValueError(f"{name} must not name a run twice, got {' '.join(paths)}")
    groups: list[RunGroup[Any]] = []
    for path in paths:
        if Path(path).is_dir():
            groups += _folder(name, path)
        elif Path(path).suffix == ".json" and Path(path).is_file():
            results += [_as_result(name, one) for one in read_evaluations(Path(path))]
        else:
            raise ValueError(
                f"{name} must be the folder of a run or an evaluation file NAME.json, got {path}"
                + ("" if Path(path).exists() else ", which does not exist")
            )
    _require_one_experiment(name, groups)
    results += [result for group in groups for result in group.results]
    return _SideRead(" ".join(paths) or name, _pooled(name, results))


def _folder(name: str, path: str) -> list[RunGroup[Any]]:
    """The runs in a folder; of several seeds that were not measured together, one for each."""
    group = stored_group(Path(path))
    groups = [group] if group.results else [stored_group(Path(one)) for one in expanded(path)]
    for one in groups:
        if not one.results:
            folder = one.runs[0].path
            raise ValueError(
                f"{name} must have a current evaluation, {folder} has none; run metarl evaluate "
                f"{path} --json {path}/evaluation.json"
            )
    return groups


def _require_one_experiment(name: str, groups: Sequence[RunGroup[Any]]) -> None:
    """Reject runs that differ in more than their seed, since they will be averaged."""
    for other in groups[1:]:
        first = groups[0]
        if first.algorithm != other.algorithm or first.settings != other.settings:
            raise ValueError(
                f"{name} must be runs of one experiment, {first.runs[0].path} and "
                f"{other.runs[0].path} have different settings; compare them separately"
            )
    seeds = [seed for group in groups for seed in group.seeds]
    if len({*seeds}) < len(seeds):
        listed = ", ".join(map(str, seeds))
        raise ValueError(f"{name} must have runs with different seeds, got seeds {listed}")


def _as_result(name: str, evaluation: Any) -> Evaluation | FewShotResult:
    if isinstance(evaluation, MeasuredRuns):
        return FewShotResult(evaluation.first.learner, evaluation)
    if isinstance(evaluation, Evaluation):
        return evaluation
    raise TypeError(
        f"{name} must be a path or an evaluation, or a list of them, got type "
        f"{type(evaluation).__name__}"
    )


def _pooled(name: str, results: Sequence[Any]) -> list[Comparable]:
    """The evaluations of a side, with runs on the same tasks joined."""
    agents = pool_results(AGENT, [one for one in results if isinstance(one, Evaluation)])
    learners = pool_results(LEARNER, [one for one in results if isinstance(one, FewShotResult)])
    several = [as_comparable(one.agent, one) for one in agents]
    several += [as_comparable(one.name, one.measured) for one in learners]
    first = several[0]
    for other in several[1:]:
        if other.name != first.name:
            raise ValueError(
                f"{name} must be runs of one agent or learner, got {first.name} and {other.name}"
            )
    for k, one in enumerate(several):
        if any(
            (one.domain, one.settings) == (other.domain, other.settings) for other in several[:k]
        ):
            raise ValueError(
                f"runs of {name} must have been measured on the same tasks to be averaged; measure "
                "them together, metarl evaluate RUN RUN --json FILE, and compare that file"
            )
    return several


def _named(a: _SideRead, b: _SideRead) -> tuple[list[Comparable], list[Comparable]]:
    """Both sides; if their names are equal, followed by their paths."""
    equal = a.several[0].name == b.several[0].name
    named = [
        [replace(one, name=f"{one.name} ({side.word})") if equal else one for one in side.several]
        for side in (a, b)
    ]
    return named[0], named[1]
