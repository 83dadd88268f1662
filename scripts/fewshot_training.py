"""How a few-shot learner is trained: what its metrics tell, what its best checkpoint is, what the
progress shows. The loop itself is that of every training command."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from rich.console import Console

from metarl.fewshot.training import FewShotTraining
from metarl.runs import RunDirectory, read_metrics
from metarl.scripts.training import TrainingPlan, run_training
from metarl.tracking import TrackerName

__all__ = ["fewshot_plan", "run_fewshot"]

_LOG_EVERY = {"regression": 100, "classification": 50}


def fewshot_plan(
    training: FewShotTraining,
    *,
    iterations: int,
    checkpoint_every: int,
    log_every: int = 0,
    tracker: TrackerName,
) -> TrainingPlan:
    """How far to train; the best checkpoint has the highest accuracy or the smallest error."""
    kind = training.learner.problem.kind
    score: Callable[[Mapping[str, float]], float] = _accuracy
    if kind == "regression":
        score = _minus_error
    return TrainingPlan(
        iterations,
        checkpoint_every,
        score=score,
        news=_news,
        axis="time/iterations",
        log_every=log_every or _LOG_EVERY[kind],
        tracker=tracker,
    )


def run_fewshot(training: FewShotTraining, directory: RunDirectory, plan: TrainingPlan) -> None:
    """Train to the plan's end; the run's lock must be held.

    Raises:
        TrainingStopped: if it ended before.
    """
    rows = [r for r in read_metrics(directory) if r["iteration"] <= training.num_iterations]
    before = rows[-1].get("time/seconds", 0.0) if rows else 0.0
    console, facts = Console(), training.learner.facts()
    console.print(
        f"fewshot {training.name} on {training.tasks.name}, batch norm {facts['batch_norm']}, "
        f"{'transductive' if facts['transductive'] else 'not transductive'}; "
        f"run in {directory.path}, on {training.device}",
        soft_wrap=True,
    )
    run_training(_Timed(training, before, plan), directory, plan, console)


class _Timed:
    """A learner whose metrics tell the time, earlier parts of the run counted, and validation."""

    def __init__(
        self, training: FewShotTraining, seconds_before: float, plan: TrainingPlan
    ) -> None:
        self._training, self.save, self._plan = training, training.save, plan
        self._started = time.perf_counter() - seconds_before

    @property
    def num_iterations(self) -> int:
        return self._training.num_iterations

    def iterate(self) -> dict[str, float]:
        metrics = self._training.iterate()
        if self._plan.is_logged(self.num_iterations):
            metrics |= self._training.validate()
        seconds = time.perf_counter() - self._started
        return {**metrics, "time/iterations": self.num_iterations, "time/seconds": seconds}


def _accuracy(metrics: Mapping[str, float]) -> float:
    """On validation tasks, or on training tasks where there are no others."""
    return metrics.get("validation/accuracy", metrics.get("train/accuracy", 0.0))


def _minus_error(metrics: Mapping[str, float]) -> float:
    return -metrics["meta/query_mse"]


def _news(metrics: Mapping[str, float]) -> str:
    speed = metrics["time/iterations"] / metrics["time/seconds"]
    if "meta/query_mse" in metrics:
        return f"query MSE {metrics['meta/query_mse']:.3f}  {speed:,.0f} updates/s"
    loss, share = metrics["meta/query_loss"], _accuracy(metrics)
    return f"loss {loss:.3f}  accuracy {share:.1%}  {speed:,.2g} updates/s"
