"""Evaluation of trained few-shot learners on unseen tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from metarl.devices import DeviceName, resolve_device
from metarl.evaluation.fewshot_results import FewShotEvaluation, MeasuredRuns
from metarl.experiments.data_options import data_beside
from metarl.fewshot.evaluation import NUM_TEST_TASKS, evaluate_fewshot
from metarl.fewshot.learners.catalog import LEARNERS, read_learner
from metarl.fewshot.training import FewShotTraining
from metarl.progress import Progress, ignore_progress
from metarl.registry import LEARNER_PREFIX
from metarl.runs.directory import RunDirectory
from metarl.runs.seeds import TrainedRun, expanded, require_one_experiment, run_names
from metarl.storage.checkpoints import read_header
from metarl.storage.files import require_output_file
from metarl.validation import Count, NumSteps, Seed, Settings

__all__ = ["EvaluateLearnersConfig", "evaluate_learners"]


@dataclass(frozen=True)
class EvaluateLearnersConfig(Settings):
    """Measure a few-shot learner before and after each adaptation step on unseen tasks."""

    runs: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN ...", help_behavior_hint="(required)"),
    ]
    """Directories of runs, a directory of several seeds, or checkpoints. Several runs must be of
    one experiment; means and intervals are then computed over all of them."""
    split: str = "test"
    """Split of the classes: train, validation or test."""
    num_tasks: Count = NUM_TEST_TASKS
    """Number of tasks."""
    steps: NumSteps | None = None
    """Number of adaptation steps. None: 10, or the number in training if it is larger; for reptile,
    its num_test_steps. Learners without adaptation steps, such as protonet, do not accept it."""
    ways: Count | None = None
    """Classes per task; None: the run's. Learners with one output per class cannot change it."""
    shots: Count | None = None
    """Support points per class; None: the run's."""
    queries: Count | None = None
    """Query points per class; None: 15."""
    paired: bool = False
    """Give all runs the same test tasks. By default each run has its own."""
    seed: Seed = 0
    """Seed of the test tasks."""
    data_dir: Path | None = None
    """Folder of the data set; None: the folder in the run's config.json."""
    device: DeviceName = "auto"
    """Device of the learner and the data."""
    json: Path | None = None
    """File for the protocol, means, intervals and the score of every task."""

    def check_consistency(self) -> None:
        """Reject an invalid output file."""
        super().check_consistency()
        if self.json is not None:
            require_output_file("json", self.json)

    @property
    def json_file(self) -> Path | None:
        """The file to write, or None; evaluation.json of a run keeps the test after training."""
        return self.json


def evaluate_learners(
    config: EvaluateLearnersConfig,
    *,
    live: Sequence[FewShotTraining] = (),
    progress: Progress = ignore_progress,
) -> MeasuredRuns:
    """Load the newest checkpoint of each run and measure it.

    Args:
        config: what to measure and how.
        live: learners to measure instead of `config.runs`.
        progress: called when data are read and tasks measured.

    Raises:
        ValueError: if there is no run, a run is not of a few-shot learner, the runs are not of
            one experiment, or a run is given twice.
    """
    if live:
        names = [_live_name(learner, k, live) for k, learner in enumerate(live)]
        return _measured_runs(names, live, config, progress)
    if not config.runs:
        raise ValueError("run must be given: a directory of one or more runs, or a checkpoint")
    words = [single for path in config.runs for single in expanded(str(path))]
    names = run_names(words)
    if len(set(names)) < len(names):
        raise ValueError(f"runs must differ, got {' '.join(map(str, config.runs))}")
    checkpoints = [_checkpoint(Path(word)) for word in words]
    trained = [_trained(checkpoint, read_header(checkpoint)) for checkpoint in checkpoints]
    if len({type(run.settings) for run in trained}) == 1:  # else the learners differ, see below
        require_one_experiment(words, trained)
    learners = (_loaded(checkpoint, config, progress) for checkpoint in checkpoints)
    return _measured_runs(names, learners, config, progress)


def _measured_runs(
    names: Sequence[str],
    learners: Iterable[FewShotTraining],
    config: EvaluateLearnersConfig,
    progress: Progress,
) -> MeasuredRuns:
    """Measure learners one after another, each on its own tasks unless the runs are paired."""
    evaluations = {
        name: _measured(learner, config, progress, draw=0 if config.paired else index)
        for index, (name, learner) in enumerate(zip(names, learners, strict=True))
    }
    return MeasuredRuns(evaluations, same_tasks=config.paired or len(evaluations) == 1)


def _checkpoint(path: Path) -> Path:
    """The newest checkpoint of a run, or the checkpoint itself."""
    if not path.exists():
        raise ValueError(f"run must be a directory or a checkpoint, there is nothing at {path}")
    return RunDirectory.open(path).newest_checkpoint() if path.is_dir() else path


def _trained(checkpoint: Path, header: Mapping[str, Any]) -> TrainedRun:
    agent = str(header.get("agent"))
    if not agent.startswith(LEARNER_PREFIX):
        raise ValueError(f"run must be of a few-shot learner, {checkpoint} is of {agent!r}")
    source = f"checkpoint {checkpoint}"
    settings = read_learner(
        agent.removeprefix(LEARNER_PREFIX), header.get("config"), source=source
    ).settings
    counters = header.get("counters")
    count = counters.get("num_iterations") if isinstance(counters, dict) else None
    return TrainedRun(settings, int(count or 0), header.get("seed", 0))


def _live_name(learner: FewShotTraining, index: int, learners: Sequence[FewShotTraining]) -> str:
    return learner.name if len(learners) == 1 else f"{learner.name} {index + 1}"


def _loaded(
    checkpoint: Path, config: EvaluateLearnersConfig, progress: Progress
) -> FewShotTraining:
    data, header = data_beside(checkpoint), read_header(checkpoint)
    learner = str(header["agent"]).removeprefix(LEARNER_PREFIX)
    if config.steps is not None and not LEARNERS.load(learner).has_steps:
        raise ValueError(f"steps must be left out for {learner}, which has no adaptation steps")
    device = resolve_device(config.device)
    data = data._replace(data_dir=config.data_dir or data.data_dir)
    tasks = data.make(str(header["environment"]), device, progress)
    return FewShotTraining.load(checkpoint, learner, tasks, device=device)


def _measured(
    training: FewShotTraining, config: EvaluateLearnersConfig, progress: Progress, *, draw: int
) -> FewShotEvaluation:
    return evaluate_fewshot(
        training,
        num_tasks=config.num_tasks,
        num_steps=config.steps,
        split=config.split,
        ways=config.ways,
        shots=config.shots,
        queries=config.queries,
        seed=config.seed,
        draw=draw,
        progress=progress,
    )
