"""Evaluations with given scores, for tests of comparisons."""

from __future__ import annotations

from typing import Any

import numpy as np

from metarl.evaluation.evaluator import stage_names
from metarl.evaluation.fewshot_results import FewShotEvaluation, MeasuredRuns
from metarl.evaluation.measured import Measured
from metarl.evaluation.protocol import EvaluationProtocol
from metarl.evaluation.results import Evaluation

FACTS: dict[str, Any] = {
    "split": "test", "ways": 5, "shots": 1, "query": "15 per class", "seed": 0, "iterations": 9,
    "interval": "", "batch_norm": "none", "transductive": False, "data_rotations": "classes",
}  # fmt: skip


def agent(
    scores: Any,
    name: str = "first",
    *,
    success: Any = None,
    own_tasks: bool = False,
    list_tasks: bool = True,
    environment: str = "Slope:one",
    adapts: bool = True,
    remembers: bool = False,
    **protocol: Any,
) -> Evaluation:
    """An evaluation with the scores [runs, stages, tasks], from one episode per task."""
    returns = np.asarray(scores, dtype=np.float64)
    num_runs, num_stages, num_tasks = returns.shape
    settings = EvaluationProtocol(
        **{
            "num_tasks": num_tasks,
            "exploration_episodes": 1,
            "adaptation_steps": num_stages - 1,
            "evaluation_episodes": 1,
            **protocol,
        }
    )
    parameters = np.arange(float(num_runs * num_tasks)).reshape(num_runs, num_tasks, 1)
    tasks = (parameters if own_tasks else parameters[:1]) + 1000 * settings.seed
    return Evaluation(
        environment=environment,
        agent=name,
        protocol=settings,
        tasks=tasks if list_tasks else tasks[..., :0],
        runs=tuple(f"seed_{k}" for k in range(num_runs)),
        stages=stage_names(settings, remembers=remembers, adapts=adapts),
        measured=Measured(
            returns[..., None], None if success is None else np.asarray(success, float)[..., None]
        ),
        same_tasks=not own_tasks,
    )


def learner(
    scores: Any,
    name: str = "maml",
    *,
    steps: tuple[int, ...] | None = None,
    metric: str = "accuracy",
    dataset: str = "glyphs",
    own_tasks: bool = False,
    **facts: Any,
) -> MeasuredRuns:
    """Few-shot runs with the scores [runs, steps, tasks]."""
    matrix = np.asarray(scores, dtype=np.float64)
    protocol = {"num_tasks": matrix.shape[2], **FACTS, **facts}
    runs = {
        f"seed_{k}": FewShotEvaluation(
            name,
            dataset,
            metric,  # type: ignore[arg-type] # one of two
            steps or tuple(range(matrix.shape[1])),
            one,
            protocol,
        )
        for k, one in enumerate(matrix)
    }
    return MeasuredRuns(runs, same_tasks=not own_tasks)
