"""Scores of agents and of few-shot learners in one form, in which two of them are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from metarl.evaluation.fewshot_results import MeasuredRuns, tasks_in_words
from metarl.evaluation.files import AnyEvaluation
from metarl.evaluation.measured import Scores
from metarl.evaluation.results import Evaluation

__all__ = ["AnyMetric", "Comparable", "Design", "as_comparable", "shared_design"]

AnyMetric: TypeAlias = Literal["return", "success", "accuracy", "mse"]
Design: TypeAlias = Literal["paired", "paired by run", "unpaired"]
"""Paired: all runs of both have the same tasks. Paired by run: run i of both has the same tasks,
and other runs have others. Unpaired: the tasks differ."""

_NO_ADAPTATION = "no adaptation"
_TASK_SETTINGS = {"num_tasks", "seed", "paired"}  # they select tasks, not what is measured
_FEWSHOT_SETTINGS = {"split", "ways", "shots", "query"}
_DATA = "data_"  # prefix of facts about a data set


@dataclass(frozen=True, eq=False)
class Comparable:
    """An evaluation of one agent or few-shot learner, reduced to what a comparison needs."""

    name: str
    noun: Literal["agent", "few-shot learner"]
    domain: str
    """Environment or data set."""
    settings: Mapping[str, object]
    """Settings of the protocol that must be equal in a comparison."""
    description: str
    """The protocol in words."""
    runs: tuple[str, ...]
    same_tasks: bool
    """Whether all runs have the same tasks."""
    num_tasks: int
    """Tasks of each run."""
    seed: int
    """Seed of the tasks."""
    tasks: Scores | None
    """Parameters of the tasks, [1 or runs, tasks, D]; None if they are not listed."""
    rows: Mapping[int, str]
    """Names of the stages, or of the numbers of adaptation steps, in ascending order."""
    scores: Mapping[AnyMetric, Mapping[int, Scores]]
    """Scores [runs, tasks] for each metric and key of `rows`; not finite if adaptation diverged."""
    totals: Mapping[AnyMetric, Scores] = field(default_factory=dict)
    """Returns over all episodes of a trial, [runs, tasks], if the stages are its episodes."""
    is_transductive: bool = False
    """Whether a few-shot learner uses statistics of the query set."""

    @property
    def adapts(self) -> bool:
        """Whether there are rows before and after adaptation."""
        return tuple(self.rows.values()) != (_NO_ADAPTATION,)


def as_comparable(name: str, evaluation: AnyEvaluation) -> Comparable:
    """An evaluation under the name that tables show."""
    if isinstance(evaluation, Evaluation):
        return _agent(name, evaluation)
    return _learner(name, evaluation)


def shared_design(a: Comparable, b: Comparable) -> Design:
    """How the tasks of two evaluations with equal settings are related."""
    if a.num_tasks != b.num_tasks or not _equal_tasks(a, b):
        return "unpaired"
    if a.same_tasks and b.same_tasks:
        return "paired"
    if not a.same_tasks and not b.same_tasks and len(a.runs) == len(b.runs):
        return "paired by run"
    return "unpaired"


def _equal_tasks(a: Comparable, b: Comparable) -> bool:
    """Whether the tasks are equal; if a file does not list them, whether their seeds are."""
    if a.tasks is None or b.tasks is None:
        return a.seed == b.seed
    return bool(np.array_equal(a.tasks, b.tasks))


def _agent(name: str, evaluation: Evaluation) -> Comparable:
    protocol, total = evaluation.protocol, evaluation.trial_returns
    return Comparable(
        name=name,
        noun="agent",
        domain=evaluation.environment,
        settings={k: v for k, v in asdict(protocol).items() if k not in _TASK_SETTINGS},
        description=protocol.describe(evaluation.tasks_in_words),
        runs=evaluation.runs,
        same_tasks=evaluation.same_tasks,
        num_tasks=evaluation.num_tasks,
        seed=protocol.seed,
        tasks=evaluation.tasks if evaluation.tasks.shape[-1] else None,
        rows=dict(enumerate(evaluation.stages)),
        scores={
            metric: {k: evaluation.scores(k, metric) for k in range(len(evaluation.stages))}
            for metric in evaluation.metrics
        },
        totals={} if total is None else {"return": total},
    )


def _learner(name: str, measured: MeasuredRuns) -> Comparable:
    first, facts = measured.first, measured.first.protocol
    rows = {step: _steps_in_words(step) for step in first.steps}
    num_tasks = int(facts["num_tasks"])
    return Comparable(
        name=name,
        noun="few-shot learner",
        domain=first.dataset,
        settings={k: v for k, v in facts.items() if k in _FEWSHOT_SETTINGS or k.startswith(_DATA)},
        description=f"{tasks_in_words(first.metric, facts)}, query {facts['query']}, "
        f"{num_tasks:,} {facts['split']} tasks, seed {facts['seed']}",
        runs=measured.runs,
        same_tasks=measured.same_tasks,
        num_tasks=num_tasks,
        seed=int(facts["seed"]),
        tasks=None,
        rows=rows if 0 in rows else dict.fromkeys(rows, _NO_ADAPTATION),
        scores={first.metric: dict(zip(first.steps, measured.scores, strict=True))},
        is_transductive=bool(facts["transductive"]),
    )


def _steps_in_words(step: int) -> str:
    if step == 0:
        return "before"
    return "after 1 step" if step == 1 else f"after {step} steps"
