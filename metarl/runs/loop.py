"""The loop of every training command: iterate, log, save, and end well whatever happens."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from metarl.runs.directory import RunDirectory
from metarl.runs.interruption import Interruption
from metarl.runs.metrics import BestCheckpoint, MetricsLog
from metarl.runs.progress import TrainingProgress
from metarl.runs.tracking import TrackerName

__all__ = ["Trainable", "TrainingPlan", "TrainingStopped", "run_training", "tidy_up"]

Metrics = Mapping[str, float]


class Trainable(Protocol):
    """What the loop needs of a learner."""

    @property
    def num_iterations(self) -> int:
        """Iterations done."""

    def iterate(self) -> dict[str, float]:
        """One training iteration; if it raises, the learner is as it was before."""

    def save(self, path: Path) -> None:
        """Write a checkpoint; FloatingPointError if what it would hold is not finite."""


class TrainingStopped(Exception):  # noqa: N818 - a signal is no error
    """Training ended before its last iteration; what was good is saved."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


@dataclass(frozen=True)
class TrainingPlan:
    """How far to train and what to tell of it."""

    iterations: int
    checkpoint_every: int
    score: Callable[[Metrics], float]
    """Of one line of metrics; the best checkpoint has the highest."""
    news: Callable[[Metrics], str]
    """What the progress shows."""
    axis: str = "time/env_steps"
    log_every: int = 1
    tracker: TrackerName = "tensorboard"

    def is_logged(self, iteration: int) -> bool:
        """Whether the metrics of an iteration are kept and shown; always those of the last."""
        return iteration % self.log_every == 0 or iteration == self.iterations


def run_training(
    agent: Trainable, directory: RunDirectory, plan: TrainingPlan, console: Console
) -> None:
    """Train to the plan's end; the run's lock must be held.

    Raises:
        TrainingStopped: with a sentence and an exit code: 130 or 143 after a signal, 1 if a number
            was not finite, the environment or the agent raised, or the run could not be written.
        ValueError: if the run's metrics are damaged.
    """
    with Interruption() as interruption:
        log = MetricsLog(
            directory, axis=plan.axis, num_iterations=agent.num_iterations, tracker=plan.tracker
        )
        with closing(log):
            _Loop(agent, directory, plan, log, interruption).run(console)


def _tell(progress: TrainingProgress, done: int, news: str) -> None:
    try:
        progress.update(done, news)
    except (
        SystemExit
    ):  # who read the pipe is gone: rich writes to nowhere from now on, and we go on
        return


def tidy_up(directory: RunDirectory, plan: TrainingPlan, num_iterations: int) -> None:
    """Do for a complete run what a process killed right after the last save did not come to."""
    BestCheckpoint(directory, plan.score, window=plan.checkpoint_every).offer(num_iterations)


class _Loop:
    def __init__(
        self,
        agent: Trainable,
        directory: RunDirectory,
        plan: TrainingPlan,
        log: MetricsLog,
        interruption: Interruption,
    ) -> None:
        self._agent, self._directory, self._plan = agent, directory, plan
        self._log, self._interruption = log, interruption
        self._best = BestCheckpoint(directory, plan.score, window=plan.checkpoint_every)
        self._saved = agent.num_iterations

    def run(self, console: Console) -> None:
        agent, plan = self._agent, self._plan
        if self._is_due(agent.num_iterations):
            self._best.offer(agent.num_iterations)  # a killed process may not have come to it
        with TrainingProgress(
            console, total=plan.iterations, completed=agent.num_iterations
        ) as progress:
            while agent.num_iterations < plan.iterations and not self._interruption.signal:
                metrics = self._iterate()
                self._write(metrics)
                if plan.is_logged(agent.num_iterations):
                    _tell(progress, agent.num_iterations, plan.news(metrics))
        if self._interruption.signal:
            self._write_or_stop(self._save)
            raise self._stopped_by_signal()

    def _iterate(self) -> dict[str, float]:
        try:
            return self._agent.iterate()
        except Exception as error:
            self._save_what_is_good()
            if self._interruption.signal:  # a signal to the whole process group ends workers too
                raise self._stopped_by_signal() from error
            raise self._stopped_by(error) from error

    def _write(self, metrics: dict[str, float]) -> None:
        done = self._agent.num_iterations
        if self._plan.is_logged(done):
            self._write_or_stop(lambda: self._log.write(done, metrics))
            self._best.add({"iteration": done, **metrics})
        if self._is_due(done):
            self._write_or_stop(self._save)
            self._write_or_stop(lambda: self._best.offer(done))
            self._write_or_stop(self._directory.drop_old_checkpoints)

    def _is_due(self, done: int) -> bool:
        is_last = done == self._plan.iterations
        return done > 0 and (is_last or done % self._plan.checkpoint_every == 0)

    def _save(self) -> None:
        done = self._agent.num_iterations
        if done == self._saved:
            return
        self._log.sync()
        self._agent.save(self._directory.checkpoint_path(done))
        self._saved = done

    def _save_what_is_good(self) -> None:
        """After an error: what cannot be saved is left, the last checkpoint being there."""
        try:
            self._save()
        except (OSError, FloatingPointError):
            return

    def _write_or_stop(self, write: Callable[[], Any]) -> None:
        try:
            write()
        except FloatingPointError as error:
            raise self._stopped_by(error) from error
        except OSError as error:
            where = f"{self._directory.path} after iteration {self._agent.num_iterations}"
            why = error.strerror or error
            raise TrainingStopped(
                f"run {where} could not be written: {why}; {self._last_checkpoint()}", 1
            ) from error

    def _stopped_by(self, error: Exception) -> TrainingStopped:
        number = self._agent.num_iterations + 1
        what = str(error)
        if not isinstance(error, FloatingPointError):
            what = f"iteration {number} failed with {type(error).__name__}: {what}"
        return TrainingStopped(f"{what}; {self._last_checkpoint()}", 1)

    def _stopped_by_signal(self) -> TrainingStopped:
        assert self._interruption.signal is not None
        cause = "Ctrl-C" if self._interruption.signal == signal.SIGINT else "SIGTERM"
        return TrainingStopped(
            f"stopped by {cause} after iteration {self._agent.num_iterations} of "
            f"{self._plan.iterations}; {self._last_checkpoint()}",
            self._interruption.exit_code,
        )

    def _last_checkpoint(self) -> str:
        path = self._directory.checkpoint_path(self._saved)
        return f"the last checkpoint is {path}, and --resume goes on from it"
