"""Evaluations made by hand, for tests of their presentation."""

from __future__ import annotations

from typing import Any

import numpy as np

from metarl.evaluation.evaluator import stage_names
from metarl.evaluation.measured import Measured
from metarl.evaluation.protocol import EvaluationProtocol
from metarl.evaluation.results import Evaluation

RETURNS = np.array([[-4.0, -6.0, -11.0], [-2.0, -5.0, -2.0], [-1.0, 0.0, -2.0]])  # [stages, tasks]
TASKS = np.array([[0.0], [0.5], [1.0]])


def evaluation(
    *,
    agent: str = "slider",
    runs: tuple[str, ...] = ("a",),
    returns: Any = RETURNS,
    tasks: Any = TASKS,
    remembers: bool = False,
    random: float = -15.0,
    oracle: float | None = -0.5,
    success: bool = False,
    split: str = "test",
) -> Evaluation:
    """One episode per task; run k has the returns [stages, tasks] plus k."""
    stages = np.asarray(returns, dtype=np.float64)
    protocol = EvaluationProtocol(
        num_tasks=stages.shape[1],
        split=split,
        exploration_episodes=2,
        adaptation_steps=len(stages) - 1,
        evaluation_episodes=1,
        seed=5,
    )
    measured = np.stack([stages + k for k in range(len(runs))])[..., None]
    spread = np.linspace(-1, 1, stages.shape[1])[None, :, None]
    none, every = (np.zeros_like(spread), np.ones_like(spread)) if success else (None, None)
    references = {"random": Measured(random + 5 * spread, none)}
    if oracle is not None:
        references["oracle"] = Measured(oracle + 0.25 * spread, every)
    return Evaluation(
        environment="Slope:one",
        agent=agent,
        protocol=protocol,
        tasks=np.asarray(tasks, dtype=np.float64)[None],
        runs=runs,
        stages=stage_names(protocol, remembers=remembers),
        measured=Measured(measured, (measured > -5).astype(float) if success else None),
        references=references,
    )
