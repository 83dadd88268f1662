"""Evaluation of few-shot learners: accuracy or error on unseen tasks after adaptation steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray

from metarl.evaluation.fewshot_results import OVER_TASKS, FewShotEvaluation, Metric
from metarl.fewshot.contract.interface import FewShotLearner
from metarl.fewshot.contract.problem import accuracies, task_losses
from metarl.fewshot.contract.settings import FewShotSettings
from metarl.fewshot.data.batches import (
    EpisodeShape,
    FewShotBatch,
    ProtocolFacts,
    small_parts,
    some_tasks,
)
from metarl.fewshot.learners.catalog import LEARNERS
from metarl.fewshot.learners.transfer import Transfer
from metarl.fewshot.training import FewShotTraining
from metarl.parameters import Params
from metarl.progress import Progress, ignore_progress
from metarl.seeding import draw_key, torch_generator
from metarl.validation import NumSteps, check_value, require_at_least, unknown_name

__all__ = ["NUM_TEST_TASKS", "adaptation_curve", "evaluate_fewshot", "require_testable"]


NUM_TEST_TASKS = 600
_TASKS_PER_BATCH = 50  # sampled at once; curves are sampled in one batch
_QUERIES = 15  # per class, as in most papers
_NUM_STEPS = 10
_EVERY_STEP_UP_TO, _LATER_INTERVAL = 10, 10
_GRID = "100 even points over the inputs"


class _CurveTasks(Protocol):
    """Regression tasks that are tested on the whole curve."""

    def sample_for_test(
        self, num_tasks: int, shots: int, generator: torch.Generator
    ) -> FewShotBatch: ...


def evaluate_fewshot(
    training: FewShotTraining,
    *,
    num_tasks: int = NUM_TEST_TASKS,
    num_steps: int | None = None,
    split: str = "test",
    ways: int | None = None,
    shots: int | None = None,
    queries: int | None = None,
    seed: int = 0,
    draw: int = 0,
    progress: Progress = ignore_progress,
) -> FewShotEvaluation:
    """Adapt to unseen tasks, which the seed determines, and measure scores on the query.

    Args:
        training: the learner.
        num_tasks: 1 or more.
        num_steps: adaptation steps; scores are measured after each of the first 10, then after
            every tenth and the last. Learners without inner steps ignore it. None: num_test_steps
            of the learner's settings if there is one, else 10 or, if more, num_inner_steps.
        split: split of the data set.
        ways: classes of a task; None: as in the learner's settings.
        shots: support points per class; None: as in the learner's settings.
        queries: query points per class; None: 15. Curves are measured on a grid.
        seed: seed of the tasks.
        draw: index of the set of tasks; sets of one seed are independent of each other.
        progress: called with the number of tasks measured so far.

    Raises:
        ValueError: if a count is out of range, the split has too few classes or points, or the
            learner's head has another number of classes, or a parameter is not finite.
    """
    require_at_least("num_tasks", num_tasks, 1)
    for name, count in (("shots", shots), ("queries", queries)):
        if count is not None:
            require_at_least(name, count, 1)
    training.require_finite()
    learner, tasks = _learner_for_ways(training, ways), training.tasks
    problem = learner.problem
    if num_steps is None:
        num_steps = _own_steps(learner)
    check_value("num_steps", num_steps, NumSteps)
    for part in split.split("+"):
        if part not in tasks.splits:
            raise ValueError(unknown_name("split", part, tasks.splits))
    shape = learner.config.test_shape(problem)
    shape = replace(shape, shots=shots or shape.shots, queries=queries or _QUERIES)
    has_grid = _has_grid(training)
    if has_grid:
        _require_no_queries(training, queries)
        generator = torch_generator(seed, "test", *draw_key(draw), device=training.device)
        curves = cast(_CurveTasks, tasks)
        shape.require_memory(num_tasks, tasks.input_shape)
        batches = iter([curves.sample_for_test(num_tasks, shape.shots, generator)])
    else:
        batches = _batches(training, num_tasks, shape, split=split, seed=seed, draw=draw)
    steps = _measured_steps(num_steps) if learner.has_steps else (1,)
    parts: list[NDArray[np.float64]] = []
    doing, done = f"testing {training.name} on {split} tasks of {tasks.name}", 0
    progress(doing, done, num_tasks)
    for batch in batches:
        parts.append(_curve(learner, training.evaluation_params, batch, steps))
        done += parts[-1].shape[1]
        progress(doing, done, num_tasks)
    scores: NDArray[np.float64] = np.concatenate(parts, axis=1)
    protocol: ProtocolFacts = {
        "num_tasks": num_tasks,
        "split": split,
        "ways": shape.ways,
        "shots": shape.shots,
        "query": _GRID if has_grid else f"{shape.queries} per class",
        "seed": seed,
        **_facts(training, learner),
    }
    metric: Metric = "mse" if problem.kind == "regression" else "accuracy"
    return FewShotEvaluation(training.name, tasks.name, metric, steps, scores, protocol)


def _facts(training: FewShotTraining, learner: FewShotLearner) -> ProtocolFacts:
    """Facts of learner and data set that affect the scores."""
    has_classes = learner.problem.kind == "classification"
    return {
        "iterations": training.num_iterations,
        "trained_on": _episodes_in_words(training),
        "net": _net_in_words(training.config),
        "interval": OVER_TASKS,
        **learner.facts(),
        **{f"data_{name}": fact for name, fact in training.tasks.protocol.items()},
        **({"train_split": learner.config.train_split} if has_classes else {}),
    }


def _episodes_in_words(training: FewShotTraining) -> str:
    config = training.config
    if isinstance(training.learner, Transfer):
        return "labelled points of all classes"
    shape = config.train_shape(training.learner.problem)
    shots = _range(config.min_shots, shape.shots)
    together = f"{config.meta_batch_size} task{'s' if config.meta_batch_size > 1 else ''} at a time"
    if training.learner.problem.kind == "regression":
        return f"{shots} points, {shape.queries} queries, {together}"
    ways = _range(config.min_ways, shape.ways)
    return f"{ways}-way {shots}-shot, {shape.queries} queries per class, {together}"


def _range(fewest: int | None, most: int) -> str:
    return str(most) if fewest in (None, most) else f"{fewest} to {most}"


def _net_in_words(config: FewShotSettings) -> str:
    if config.backbone == "mlp":
        return f"perceptron, {config.activation}, hidden {_listed(config.hidden_sizes)}"
    down = "max-pooling" if config.pooling == "max" else "stride 2, spatial mean"
    return f"convolutions, {down}, filters {_listed(config.filters)}"


def _listed(sizes: Sequence[int]) -> str:
    return " ".join(map(str, sizes)) or "none"


def require_testable(training: FewShotTraining, queries: int | None = None) -> None:
    """Sample one test task, so that `evaluate_fewshot` cannot fail only after training.

    Raises:
        ValueError: as `evaluate_fewshot`.
    """
    if _has_grid(training):
        _require_no_queries(training, queries)
    if training.learner.problem.kind == "classification":
        shape = training.learner.config.test_shape(training.learner.problem)
        shape = replace(shape, queries=queries or _QUERIES)
        next(_batches(training, 1, shape, split="test", seed=0))


def _has_grid(training: FewShotTraining) -> bool:
    """Whether the tasks are tested on the whole curve."""
    problem = training.learner.problem
    return problem.kind == "regression" and hasattr(training.tasks, "sample_for_test")


def _require_no_queries(training: FewShotTraining, queries: int | None) -> None:
    if queries is not None:
        raise ValueError(
            f"queries of the test must be left out for {training.tasks.name}, measured on {_GRID}; "
            f"got {queries}"
        )


def adaptation_curve(
    training: FewShotTraining, batch: FewShotBatch, num_steps: int
) -> NDArray[np.float64]:
    """Query accuracy or mean squared error after 0 … num_steps steps, [steps + 1, tasks].

    A learner without steps gets one row.
    """
    steps = range(num_steps + 1) if training.learner.has_steps else (1,)
    return _curve(training.learner, training.evaluation_params, batch, steps)


def _own_steps(learner: FewShotLearner) -> int:
    trained: int = getattr(learner.config, "num_inner_steps", 0)
    own_test: int = getattr(learner.config, "num_test_steps", max(_NUM_STEPS, trained))
    return own_test


def _measured_steps(num_steps: int) -> tuple[int, ...]:
    """Steps after which scores are measured; measuring takes far longer than a step."""
    return tuple(
        step
        for step in range(num_steps + 1)
        if step <= _EVERY_STEP_UP_TO or step % _LATER_INTERVAL == 0 or step == num_steps
    )


def _curve(
    learner: FewShotLearner, params: Params, batch: FewShotBatch, steps: Sequence[int]
) -> NDArray[np.float64]:
    """Scores [steps, tasks] after the given, ascending steps; (1,) for a learner without steps."""
    rows = []
    with torch.no_grad():
        trajectory = learner.trajectory(params, batch.support, steps[-1])
        for step, adapted in enumerate(trajectory, start=0 if learner.has_steps else 1):
            if step not in steps:
                continue
            outputs = learner.predict(adapted, batch.query.inputs, batch.query.mask)
            if learner.problem.kind == "regression":
                rows.append(task_losses("regression", outputs, *batch.query[1:]))
            else:
                rows.append(accuracies(outputs, *batch.query[1:]))
    scores: NDArray[np.float64] = torch.stack(rows).double().cpu().numpy()
    return scores


def _learner_for_ways(training: FewShotTraining, ways: int | None) -> FewShotLearner:
    """The learner for another number of ways, if its parameters do not depend on them."""
    learner = training.learner
    if ways is not None and learner.problem.kind == "regression":
        raise ValueError(f"ways must be left out for {training.tasks.name}, which is regression")
    if ways is None or ways == learner.config.ways:
        return learner
    config = replace(learner.config, ways=ways, train_ways=None)
    problem = learner.problem._replace(num_outputs=ways)
    other: FewShotLearner = LEARNERS.load(training.name)(config, problem)
    fresh = other.init(torch_generator(training.seed, "parameters"))
    if any(fresh[name].shape != p.shape for name, p in training.params.items()):
        raise ValueError(
            f"ways must be {learner.config.ways} for this {training.name}, whose head has one "
            f"output per class, got {ways}"
        )
    return other


def _batches(
    training: FewShotTraining,
    num_tasks: int,
    shape: EpisodeShape,
    *,
    split: str,
    seed: int,
    draw: int = 0,
) -> Iterator[FewShotBatch]:
    """Test tasks in batches; the first tasks do not depend on the number of tasks."""
    shape.require_memory(_TASKS_PER_BATCH, training.tasks.input_shape)
    for start in range(0, num_tasks, _TASKS_PER_BATCH):
        generator = torch_generator(seed, "test", *draw_key(draw), start, device=training.device)
        batch = training.tasks.sample(_TASKS_PER_BATCH, shape, split=split, generator=generator)
        yield from small_parts(some_tasks(batch, slice(num_tasks - start)))
