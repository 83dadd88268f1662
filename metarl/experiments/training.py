"""Training of agents and few-shot learners: start, resume, and several seeds."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar

import torch
from rich.console import Console

from metarl.devices import resolve_device
from metarl.experiments.settings import RunSettings
from metarl.progress import Activity, Progress
from metarl.runs.directory import RunDirectory
from metarl.runs.loop import Trainable, TrainingPlan, finish_complete_run, run_training
from metarl.runs.metrics import read_metrics
from metarl.runs.resume import note_resume, read_run
from metarl.runs.seeds import create_seeds, existing_seeds, has_started, holds_seeds, train_seeds
from metarl.runs.tracking import require_tracker

__all__ = ["Experiment", "Training", "train"]


class Training(Trainable, Protocol):
    """An agent or a few-shot learner in training."""

    @property
    def default_log_every(self) -> int:
        """Iterations between rows of metrics if `log_every` is 0."""

    @property
    def first_iteration(self) -> str:
        """The text of the progress display until the first iteration is complete."""

    def stored_facts(self) -> dict[str, Any]:
        """The resolved settings, in the form that config.json stores."""

    def begin(self, directory: RunDirectory, plan: TrainingPlan) -> str:
        """Prepare for the loop; returns the text to print before it."""

    def end(self) -> None:
        """Free resources that only training needs."""

    def final_message(self, directory: RunDirectory) -> str:
        """The text to print after a complete run, or an empty text."""


Trained = TypeVar("Trained", bound=Training)
Result_co = TypeVar("Result_co", covariant=True)


class Experiment(Protocol[Trained, Result_co]):
    """The definition of a run: an agent or learner, an environment or data set, and settings."""

    complete_is_an_error: ClassVar[bool]
    """Whether resuming a complete run is an error; if not, the run is measured again."""

    @property
    def settings(self) -> RunSettings:
        """The settings that all experiments have."""

    @property
    def changeable(self) -> tuple[str, ...]:
        """Names of the settings that a resume may change, in the order of config.json."""

    def with_settings(self, **changes: Any) -> Self:
        """The experiment with some settings replaced."""

    def resolved(self) -> Self:
        """The experiment with dependent settings filled in; called before `build`."""

    def with_stored_settings(self, file: Path, given: Collection[str]) -> Self:
        """The experiment with the settings of a stored run.

        Args:
            file: the run's config.json or seeds.json.
            given: names of the given settings.

        Raises:
            ValueError: if a given setting differs and must not change, or the file is damaged.
        """

    def build(self, device: torch.device, given: Collection[str], progress: Progress) -> Trained:
        """The untrained agent or learner."""

    def load(self, checkpoint: Path, device: torch.device, progress: Progress) -> Trained:
        """The agent or learner of a checkpoint."""

    def require_trainable(self, checkpoint: Path) -> None:
        """Raise ValueError if a checkpoint does not hold the state that training needs."""

    def measure(self, trained: Trained, console: Console) -> Result_co:
        """Measure the agent or learner after training; the command shows the result."""


def train(
    experiment: Experiment[Trained, Result_co], *, given: Collection[str] = (), console: Console
) -> dict[str, Result_co]:
    """Start or resume a run, or several runs with different seeds.

    Args:
        experiment: the definition of the run.
        given: names of the given settings; on a resume they must equal the stored ones or be among
            `experiment.changeable`, and all other settings are the stored ones.
        console: shows the progress.

    Returns:
        The result of `experiment.measure` for each run, by the name of its folder.

    Raises:
        TrainingStopped: if training ended early.
        ValueError: if a setting or the stored run is invalid.
    """
    settings = experiment.settings
    if settings.seeds > 1 or (settings.resume and holds_seeds(settings.out)):
        return _train_seeds(experiment, given, console)
    if settings.resume:
        experiment, trained = _resume(experiment, given, console)
    else:
        experiment, trained = _start(experiment, given, console)
    return {settings.out.absolute().name: experiment.measure(trained, console)}


def _start(
    experiment: Experiment[Trained, Result_co], given: Collection[str], console: Console
) -> tuple[Experiment[Trained, Result_co], Trained]:
    experiment, trained, described = _new(experiment, given, console)
    directory = RunDirectory.create(experiment.settings.out, described, save=trained.save)
    with directory.writing():
        _run(experiment, trained, directory, console)
    return experiment, trained


def _new(
    experiment: Experiment[Trained, Result_co], given: Collection[str], console: Console
) -> tuple[Experiment[Trained, Result_co], Trained, dict[str, Any]]:
    """The resolved experiment, the untrained agent or learner, and the content of config.json."""
    experiment = experiment.resolved()
    device = _prepare(experiment.settings)
    with Activity("preparing the training", console) as progress:
        trained = experiment.build(device, given, progress)
    facts = trained.stored_facts()
    first = {name: facts.pop(name) for name in ("agent", "environment", "seed")}
    return experiment, trained, {**first, **_loop_settings(experiment, device), **facts}


def _resume(
    experiment: Experiment[Trained, Result_co],
    given: Collection[str],
    console: Console,
    *,
    one_of_several: bool = False,
) -> tuple[Experiment[Trained, Result_co], Trained]:
    """Continue a run; a complete run is not changed, or is an error."""
    directory = RunDirectory.open(experiment.settings.out)
    experiment = experiment.with_stored_settings(directory.path / "config.json", given)
    settings = experiment.settings
    with directory.writing():
        checkpoint = directory.newest_checkpoint()
        device = _prepare(settings)
        with Activity(f"loading {checkpoint}", console) as progress:
            trained = experiment.load(checkpoint, device, progress)
        done = trained.num_iterations
        if done < settings.iterations:
            experiment.require_trainable(checkpoint)
            read_metrics(directory, required=(trained.score,))  # raises before any change
            facts = trained.stored_facts()
            note_resume(
                directory,
                _loop_settings(experiment, device),
                done,
                agent=facts["agent"],
                agent_config=facts["agent_config"],
            )
            _run(experiment, trained, directory, console)
            return experiment, trained
        if done == settings.iterations:
            finish_complete_run(trained, directory, _plan(settings, trained))
        if experiment.complete_is_an_error and not one_of_several:
            raise ValueError(
                f"iterations must be more than {done}, the number in {settings.out}, "
                f"got {settings.iterations}"
            )
    return experiment, trained


def _run(
    experiment: Experiment[Trained, Result_co],
    trained: Trained,
    directory: RunDirectory,
    console: Console,
) -> None:
    plan = _plan(experiment.settings, trained)
    console.print(trained.begin(directory, plan), soft_wrap=True)
    try:
        run_training(trained, directory, plan, console)
    finally:
        trained.end()
    if text := trained.final_message(directory):
        console.print(text, soft_wrap=True)


def _train_seeds(
    experiment: Experiment[Trained, Result_co], given: Collection[str], console: Console
) -> dict[str, Result_co]:
    """Start or continue several runs with different seeds; all get the same test tasks."""
    out, changes = experiment.settings.out, None
    if experiment.settings.resume:
        file = existing_seeds(out)
        experiment = experiment.with_stored_settings(file, given)
        planned = read_run(file).iterations
        if experiment.settings.iterations < planned:
            raise ValueError(
                f"iterations must be at least {planned}, as planned for {out}, "
                f"got {experiment.settings.iterations}"
            )
        changes = _loop_settings(experiment, _prepare(experiment.settings))
    else:
        experiment, _, described = _new(experiment, given, console)
        create_seeds(out, {**described, "seeds": experiment.settings.seeds})
    whole, results = experiment, {}

    def train_one(seed: int, path: Path) -> None:
        one = whole.with_settings(seed=seed, seeds=1, out=path, resume=False)
        if has_started(path):
            _, trained = _resume(one, {*one.changeable}, console, one_of_several=True)
        else:
            _, trained = _start(one, (), console)
        results[path.name] = whole.measure(trained, console)

    first, count = whole.settings.seed, whole.settings.seeds
    train_seeds(out, range(first, first + count), train_one, changes=changes)
    return results


def _prepare(settings: RunSettings) -> torch.device:
    require_tracker(settings.tracker)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    return resolve_device(settings.device)


def _loop_settings(
    experiment: Experiment[Trained, Result_co], device: torch.device
) -> dict[str, Any]:
    """The settings that a resume may change, with the actual device and number of threads."""
    used = {"device": device.type, "threads": torch.get_num_threads()}
    return {**{name: getattr(experiment.settings, name) for name in experiment.changeable}, **used}


def _plan(settings: RunSettings, trained: Training) -> TrainingPlan:
    return TrainingPlan(
        settings.iterations,
        settings.checkpoint_every,
        log_every=settings.log_every or trained.default_log_every,
        tracker=settings.tracker,
        first_iteration=trained.first_iteration,
    )
