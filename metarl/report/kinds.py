"""Reading and pooling of the results of agents and of few-shot learners.

A result is an evaluation with its name in tables and figures: an `Evaluation` of agents,
with stages, or a `FewShotResult` of learners, with adaptation steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from metarl.evaluation.fewshot_results import FewShotEvaluation, FewShotResult, MeasuredRuns
from metarl.evaluation.files import AnyEvaluation
from metarl.evaluation.measured import Measured
from metarl.evaluation.results import Evaluation
from metarl.fewshot.learners.catalog import LEARNERS
from metarl.registry import LEARNER_PREFIX
from metarl.rl.registry import AGENTS

__all__ = ["AGENT", "LEARNER", "Kind", "Origin", "kind_of", "pool_results"]

Result = TypeVar("Result", Evaluation, FewShotResult)


class Origin(NamedTuple):
    """The runs that a result measured."""

    domain: str
    """Environment or data set."""
    iterations: tuple[int | None, ...]
    """Meta-updates of each run; None if the evaluation does not record them."""


class Kind(ABC, Generic[Result]):
    """A kind of runs."""

    noun: str
    prefix: str
    """Precedes the name of the algorithm in config.json."""

    @abstractmethod
    def algorithms(self) -> list[str]:
        """Names of all agents or learners."""

    @abstractmethod
    def result(self, evaluation: AnyEvaluation, config: Mapping[str, Any]) -> Result | None:
        """An evaluation as a result of the run with this config.json; None if it is of another
        run."""

    @abstractmethod
    def renamed(self, result: Result, name: str) -> Result:
        """The same result under another name."""

    @abstractmethod
    def origin(self, result: Result) -> Origin:
        """The runs that were measured."""

    @abstractmethod
    def identity(self, result: Result) -> tuple[object, ...]:
        """Name, protocol and tasks; results with the same identity can be pooled."""

    @abstractmethod
    def order(self, result: Result) -> tuple[Any, ...]:
        """Sorting key of the results in a folder; equal keys keep the order of the files."""

    @abstractmethod
    def join(self, first: Result, second: Result) -> Result:
        """The runs of two results with the same identity as one result."""


def pool_results(kind: Kind[Result], results: Sequence[Result]) -> list[Result]:
    """Join results of runs that were measured identically on the same tasks."""
    pooled: list[Result] = []
    for result in results:
        for k, other in enumerate(pooled):
            if kind.identity(result) == kind.identity(other):
                pooled[k] = kind.join(other, result)
                break
        else:
            pooled.append(result)
    return pooled


class _Agents(Kind[Evaluation]):
    noun, prefix = "agent", ""

    def algorithms(self) -> list[str]:
        return [entry.name for entry in AGENTS]

    def result(self, evaluation: AnyEvaluation, config: Mapping[str, Any]) -> Evaluation | None:
        if not isinstance(evaluation, Evaluation) or evaluation.agent != config["agent"]:
            return None
        return evaluation

    def renamed(self, result: Evaluation, name: str) -> Evaluation:
        return replace(result, agent=name)

    def origin(self, result: Evaluation) -> Origin:
        iterations = result.iterations or (None,) * len(result.runs)
        return Origin(result.environment, iterations)

    def identity(self, result: Evaluation) -> tuple[object, ...]:
        # Only runs on the same tasks are joined.
        own_tasks = None if result.same_tasks else id(result)
        tasks = result.tasks.tolist()
        return result.agent, result.protocol, result.stages, result.metrics, tasks, own_tasks

    def order(self, result: Evaluation) -> tuple[Any, ...]:
        return (result.protocol.split != "test",)

    def join(self, first: Evaluation, second: Evaluation) -> Evaluation:
        """References are taken from the first result, and missing ones from the second."""
        returns = np.concatenate([first.measured.returns, second.measured.returns])
        success = None
        if first.measured.success is not None and second.measured.success is not None:
            success = np.concatenate([first.measured.success, second.measured.success])
        return replace(
            first,
            runs=(*first.runs, *second.runs),
            iterations=(*first.iterations, *second.iterations),
            measured=Measured(returns, success),
            references={**second.references, **first.references},
            totals={**second.totals, **first.totals},
        )


class _Learners(Kind[FewShotResult]):
    noun, prefix = "learner", LEARNER_PREFIX

    def algorithms(self) -> list[str]:
        return [entry.name for entry in LEARNERS]

    def result(self, evaluation: AnyEvaluation, config: Mapping[str, Any]) -> FewShotResult | None:
        algorithm, settings = config["agent"].removeprefix(self.prefix), config["agent_config"]
        if not isinstance(evaluation, MeasuredRuns) or evaluation.first.learner != algorithm:
            return None
        if test_steps := settings.get("num_test_steps"):  # of Reptile
            return FewShotResult(algorithm, evaluation, int(test_steps), "its own test")
        return FewShotResult(algorithm, evaluation, int(settings.get("num_inner_steps", 1)))

    def renamed(self, result: FewShotResult, name: str) -> FewShotResult:
        return replace(result, name=name)

    def origin(self, result: FewShotResult) -> Origin:
        first, count = result.measured.first, int(result.protocol["iterations"])
        return Origin(first.dataset, (count,) * len(result.measured.runs))

    def identity(self, result: FewShotResult) -> tuple[object, ...]:
        first = result.measured.first
        own_tasks = None if result.measured.same_tasks else id(result)
        protocol = _without_interval(first)
        return result.name, first.dataset, first.metric, first.steps, protocol, own_tasks

    def order(self, result: FewShotResult) -> tuple[Any, ...]:
        split, ways, shots = (result.protocol[name] for name in ("split", "ways", "shots"))
        return split != "test", str(split), int(ways), int(shots)

    def join(self, first: FewShotResult, second: FewShotResult) -> FewShotResult:
        """A name that both results contain is numbered."""
        joined: dict[str, FewShotEvaluation] = {}
        for result in (first, second):
            for name, evaluation in result.measured.evaluations.items():
                free = f"{name} ({len(joined) + 1})" if name in joined else name
                joined[free] = replace(evaluation, protocol=_without_interval(evaluation))
        return replace(first, measured=MeasuredRuns(joined))


def _without_interval(evaluation: FewShotEvaluation) -> dict[str, Any]:
    """The protocol without the meaning of intervals, which depends on the number of runs."""
    return {name: fact for name, fact in evaluation.protocol.items() if name != "interval"}


AGENT: Kind[Evaluation] = _Agents()
LEARNER: Kind[FewShotResult] = _Learners()


def kind_of(agent: str) -> Kind[Any]:
    """The kind of a run, from the agent that its config.json names."""
    return LEARNER if agent.startswith(LEARNER.prefix) else AGENT
