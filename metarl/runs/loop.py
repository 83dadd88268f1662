"""The training loop: iterate, log, save, and stop cleanly after an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from metarl.locations import describe_error
from metarl.runs.directory import RunDirectory
from metarl.runs.interruption import Interruption
from metarl.runs.metrics import BestCheckpoint, MetricsLog
from metarl.runs.progress import TrainingProgress
from metarl.runs.tracking import TrackerName

__all__ = ["Trainable", "TrainingPlan", "TrainingStopped", "finish_complete_run", "run_training"]

Metrics = Mapping[str, float]

_GRADIENT_NORM = "meta/gradient_norm"  # a metric of the agents that train by gradients


class Trainable(Protocol):
    """Interface of an agent or few-shot learner in the training loop."""

    @property
    def num_iterations(self) -> int:
        """Number of completed iterations."""

    @property
    def score(self) -> str:
        """Name of the metric that ranks checkpoints; every logged iteration returns it."""

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher score is better."""

    @property
    def axis(self) -> str:
        """Name of the metric that trackers use as the x-axis."""

    def iterate(self) -> dict[str, float]:
        """Run one training iteration and return its metrics; if it raises, nothing is changed."""

    def progress(self, metrics: Metrics) -> str:
        """The text of the progress display, one line with a few metrics."""

    def save(self, path: Path) -> None:
        """Write a checkpoint; raises FloatingPointError if a number is not finite."""


class TrainingStopped(Exception):  # noqa: N818 - a signal is not an error
    """Training ended before its last iteration; the last good state is saved."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


@dataclass(frozen=True)
class TrainingPlan:
    """Length of training, and intervals of logging and saving."""

    iterations: int
    checkpoint_every: int
    log_every: int = 1
    tracker: TrackerName = "tensorboard"
    first_iteration: str = "first iteration"
    """The text of the progress display until the first iteration is complete."""

    def is_logged(self, iteration: int) -> bool:
        """Whether the metrics of an iteration are logged; the last iteration always is."""
        return iteration % self.log_every == 0 or iteration == self.iterations


def run_training(
    trainable: Trainable, directory: RunDirectory, plan: TrainingPlan, console: Console
) -> None:
    """Train until the plan's last iteration; the caller holds the run's lock.

    Raises:
        TrainingStopped: with exit code 129, 130 or 143 after a signal, or 1 if a number is not
            finite, the environment or the agent raised an error, or a file could not be written.
        ValueError: if the run's metrics are damaged.
    """
    with Interruption() as interruption:
        try:
            log = MetricsLog(
                directory,
                axis=trainable.axis,
                num_iterations=trainable.num_iterations,
                tracker=plan.tracker,
            )
        except OSError as error:
            done = trainable.num_iterations
            raise _not_written(directory, error, done=done, saved=done) from error
        with closing(log):
            _Loop(trainable, directory, plan, log, interruption).run(console)


def finish_complete_run(trainable: Trainable, directory: RunDirectory, plan: TrainingPlan) -> None:
    """Mark the best checkpoint of a complete run, in case its process was killed before it did."""
    _best_checkpoint(trainable, directory, plan).offer(trainable.num_iterations)


def _best_checkpoint(
    trainable: Trainable, directory: RunDirectory, plan: TrainingPlan
) -> BestCheckpoint:
    return BestCheckpoint(
        directory,
        trainable.score,
        window=plan.checkpoint_every,
        higher_is_better=trainable.higher_is_better,
    )


def _show(progress: TrainingProgress, done: int, text: str) -> None:
    try:
        progress.update(done, text)
    except OSError:  # the output cannot be written; training continues without a display
        return


def _not_written(
    directory: RunDirectory, error: OSError, *, done: int, saved: int
) -> TrainingStopped:
    file = error.filename or f"run {directory.path}"
    return TrainingStopped(
        f"{file} could not be written after iteration {done}: {error.strerror or error}; "
        f"{_resume_hint(directory, saved)}",
        1,
    )


def _resume_hint(directory: RunDirectory, saved: int) -> str:
    path = directory.checkpoint_path(saved)
    return f"the last checkpoint is {path}, and --resume continues from it"


class _Loop:
    def __init__(
        self,
        trainable: Trainable,
        directory: RunDirectory,
        plan: TrainingPlan,
        log: MetricsLog,
        interruption: Interruption,
    ) -> None:
        self._trainable, self._directory, self._plan = trainable, directory, plan
        self._log, self._interruption = log, interruption
        self._best = _best_checkpoint(trainable, directory, plan)
        self._saved = trainable.num_iterations
        self._has_warned = False

    def run(self, console: Console) -> None:
        trainable, plan = self._trainable, self._plan
        if self._is_due(trainable.num_iterations):
            self._best.offer(trainable.num_iterations)  # a killed process may have skipped this
        with TrainingProgress(
            console,
            total=plan.iterations,
            completed=trainable.num_iterations,
            first=plan.first_iteration,
        ) as progress:
            while trainable.num_iterations < plan.iterations and not self._interruption.signal:
                metrics = self._iterate()
                self._warn_if_nothing_is_learned(metrics, console)
                self._write(metrics)
                if plan.is_logged(trainable.num_iterations):
                    text = trainable.progress(metrics)
                    _show(progress, trainable.num_iterations, text)
        if self._interruption.signal:
            self._write_or_stop(self._save)
            raise self._stopped_by_signal()

    def _warn_if_nothing_is_learned(self, metrics: Metrics, console: Console) -> None:
        """Print a line at the first iteration whose meta-gradient is exactly zero."""
        if metrics.get(_GRADIENT_NORM) != 0 or self._has_warned:
            return
        self._has_warned = True
        line = (
            f"warning: the meta-gradient of iteration {self._trainable.num_iterations} is exactly "
            "zero, so nothing was learned; a likely cause is that all rewards are zero"
        )
        with suppress(OSError):  # the output cannot be written; training continues
            console.print(line, soft_wrap=True, highlight=False)

    def _iterate(self) -> dict[str, float]:
        try:
            return self._trainable.iterate()
        except (Exception, SystemExit) as error:  # an agent or environment may fail in any way
            self._try_to_save()
            if self._interruption.signal:  # the signal may also have ended worker processes
                raise self._stopped_by_signal() from error
            raise self._stopped_by(error) from error

    def _write(self, metrics: dict[str, float]) -> None:
        done = self._trainable.num_iterations
        if self._plan.is_logged(done):
            self._require_metrics(metrics)
            self._write_or_stop(lambda: self._log.write(done, metrics))
            self._best.add({"iteration": done, **metrics})
        if self._is_due(done):
            self._write_or_stop(self._save)
            self._write_or_stop(lambda: self._best.offer(done))
            self._write_or_stop(self._directory.drop_old_checkpoints)

    def _require_metrics(self, metrics: Mapping[str, float]) -> None:
        for name in (self._trainable.score, self._trainable.axis):
            if name not in metrics:
                self._try_to_save()
                raise TrainingStopped(
                    f"iteration {self._trainable.num_iterations} must return the metric {name!r}, "
                    f"it returned {', '.join(metrics)}",
                    1,
                )

    def _is_due(self, done: int) -> bool:
        is_last = done == self._plan.iterations
        return done > 0 and (is_last or done % self._plan.checkpoint_every == 0)

    def _save(self) -> None:
        done = self._trainable.num_iterations
        if done == self._saved:
            return
        self._log.sync()
        self._trainable.save(self._directory.checkpoint_path(done))
        self._saved = done

    def _try_to_save(self) -> None:
        """Save after an error; if that fails, the last checkpoint remains."""
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
            done = self._trainable.num_iterations
            raise _not_written(self._directory, error, done=done, saved=self._saved) from error

    def _stopped_by(self, error: Exception | SystemExit) -> TrainingStopped:
        number = self._trainable.num_iterations + 1
        cause = str(error)
        if not isinstance(error, FloatingPointError):
            has_traceback = "\n" in cause
            cause = f"iteration {number} failed with {describe_error(error)}"
            if has_traceback:
                cause += " (METARL_DEBUG=1 shows the traceback)"
        return TrainingStopped(f"{cause}; {_resume_hint(self._directory, self._saved)}", 1)

    def _stopped_by_signal(self) -> TrainingStopped:
        done, hint = self._trainable.num_iterations, _resume_hint(self._directory, self._saved)
        return TrainingStopped(
            f"stopped by {self._interruption.cause} after iteration {done} of "
            f"{self._plan.iterations}; {hint}",
            self._interruption.exit_code,
        )
