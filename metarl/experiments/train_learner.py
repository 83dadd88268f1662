"""Train a few-shot learner, as a run."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from metarl.devices import DeviceName, resolve_device
from metarl.experiments.data_options import DataOptions, stored_data
from metarl.fewshot.data.batches import FewShotTasks
from metarl.fewshot.evaluation import NUM_TEST_TASKS, evaluate_fewshot, require_testable
from metarl.fewshot.learners.settings import FewShotSettings, require_read
from metarl.fewshot.results import FewShotEvaluation, MeasuredRuns
from metarl.fewshot.training import FewShotTraining
from metarl.runs.directory import RunDirectory
from metarl.runs.loop import TrainingPlan, run_training, tidy_up
from metarl.runs.metrics import read_metrics
from metarl.runs.progress import measuring
from metarl.runs.resume import note_resume, read_run, refuse_changes, settled
from metarl.runs.seeds import create_seeds, existing_seeds, has_begun, holds_seeds, train_seeds
from metarl.runs.tracking import TrackerName, require_tracker
from metarl.storage.checkpoints import holds_optimizer, read_header
from metarl.storage.files import read_json_object
from metarl.storage.settings import read_settings
from metarl.validation import require_at_least

__all__ = ["FewShotConfig", "train", "fewshot_plan", "run_fewshot"]


_DEFAULT_DATASET = "sinusoid"
_DEFAULT_OF_CLASSIFIERS = "glyphs"
_OF_ALL_SEEDS = frozenset(
    {
        "device", "iterations", "checkpoint_every", "log_every", "threads", "tracker", "test_steps",
        "test_queries", "compile",
    }
)  # fmt: skip


@dataclass(frozen=True)
class FewShotConfig:
    """Train a few-shot learner and measure it after 0 … 10 adaptation steps on 600 test tasks."""

    out: Path
    """Directory of the run; it must be new, except with --resume."""
    dataset: str = _DEFAULT_DATASET
    """Where tasks come from, as metarl fewshot --list names it; it decides the other defaults."""
    data_dir: Path | None = None
    """Folder of the data sets that are files; None: a folder of your cache."""
    dataset_options: tuple[str, ...] = ()
    """Options of the data set, each as name=value."""
    iterations: int = 20_000
    """Meta-updates."""
    test_steps: int | None = None
    """Adaptation steps in the test; None: 10, those trained if more, or the learner's own test."""
    test_queries: int | None = None
    """Query points per class in the test; None: 15, or a grid over a curve."""
    seed: int = 0
    """Of parameters and tasks."""
    seeds: int = 1
    """Runs to train, one after another: seed, seed + 1, … into the folders seed_0, … of --out;
    they are measured together."""
    device: DeviceName = "auto"
    """Where everything is computed."""
    threads: int = 0
    """Threads of torch on the CPU; 0: one for perceptrons, torch's choice for convolutions."""
    checkpoint_every: int = 1000
    """Iterations between checkpoints; the last one is always written."""
    log_every: int = 0
    """Iterations between lines of metrics, each with the accuracy on validation tasks, which takes
    Reptile longer than its training between two; 0: 50 for classes, 100 for curves."""
    tracker: TrackerName = "tensorboard"
    """Where metrics go beside metrics.jsonl; wandb and trackio are packages of their own."""
    compile: bool = False
    """Make one program of the meta-gradient: worth it for small nets, after a wait at first."""
    resume: bool = False
    """Continue the run in --out with its own settings; one that is complete is measured again."""

    def __post_init__(self) -> None:
        for name in ("iterations", "checkpoint_every", "seeds"):
            require_at_least(name, getattr(self, name), 1)
        for name in ("seed", "threads", "log_every"):
            require_at_least(name, getattr(self, name), 0)
        if self.test_steps is not None:
            require_at_least("test_steps", self.test_steps, 0)
        if self.test_queries is not None:
            require_at_least("test_queries", self.test_queries, 1)
        for option in self.dataset_options:
            if not option.partition("=")[0].isidentifier() or "=" not in option:
                raise ValueError(f"dataset_options must read name=value, got {option!r}")


def train(
    name: str, config: FewShotConfig, settings: FewShotSettings, *, given: Collection[str] = ()
) -> tuple[FewShotTraining, FewShotConfig]:
    """Train or resume; the learner, and the settings it ended with.

    Args:
        name: of the learner.
        config: of the command.
        settings: of the learner.
        given: settings that were named; at a resume all others are the run's own.

    Raises:
        TrainingStopped: if training ended before its last iteration.
        ValueError: if a setting or the run to resume is not as it must be.
    """
    if config.resume:
        return _resume(name, config, settings, given)
    training, config, described = _prepared(name, config, settings, given)
    directory = RunDirectory.create(config.out, described, save=training.save)
    with directory.writing():
        run_fewshot(training, directory, _plan(training, config))
    return training, config


def _trained(
    name: str, config: FewShotConfig, settings: FewShotSettings, given: Collection[str]
) -> MeasuredRuns:
    """Train or resume one run or several seeds, and measure them."""
    if config.seeds > 1 or (config.resume and holds_seeds(config.out)):
        return _train_seeds(name, config, settings, given)
    training, config = train(name, config, settings, given=given)
    evaluation = _measure(training, config)
    return MeasuredRuns({config.out.absolute().name: evaluation})


def _prepared(
    name: str, config: FewShotConfig, settings: FewShotSettings, given: Collection[str]
) -> tuple[FewShotTraining, FewShotConfig, dict[str, Any]]:
    """An untrained learner, the settings it is trained with, and what config.json says of both."""
    require_tracker(config.tracker)
    config, settings = _resolved(config, settings)
    require_read(settings, given)
    torch.set_num_threads(config.threads)
    device = resolve_device(config.device)
    training = FewShotTraining(
        name, _tasks(config), settings, seed=config.seed, device=device, compile=config.compile
    )
    require_testable(training, config.test_queries)
    if training.learner.problem.kind == "regression" and "ways" in given:
        raise ValueError(f"ways must be left out for {config.dataset}, which is regression")
    described: dict[str, Any] = {
        "agent": f"fewshot-{name}",
        "environment": config.dataset,
        "seed": config.seed,
        **_loop_settings(config),
        "data_dir": None if config.data_dir is None else str(config.data_dir.absolute()),
        "dataset_options": list(config.dataset_options),
        "agent_config": dataclasses.asdict(settings),
        "protocol": {**training.tasks.protocol, **training.learner.facts()},
    }
    return training, config, described


def _resume(
    name: str, config: FewShotConfig, settings: FewShotSettings, given: Collection[str]
) -> tuple[FewShotTraining, FewShotConfig]:
    """Go on with a run; one that is complete is left as it is."""
    require_tracker(config.tracker)
    directory = RunDirectory.open(config.out)
    config, _ = _settled(name, config, settings, directory.path / "config.json", given)
    with directory.writing():
        training = _load(name, directory, config)
        if training.num_iterations < config.iterations:
            note_resume(directory, _loop_settings(config), training.num_iterations)
            run_fewshot(training, directory, _plan(training, config))
        else:
            tidy_up(directory, _plan(training, config), training.num_iterations)
    return training, config


def _measure(training: FewShotTraining, config: FewShotConfig) -> FewShotEvaluation:
    with measuring(Console(), NUM_TEST_TASKS) as callback:
        return evaluate_fewshot(
            training,
            num_tasks=NUM_TEST_TASKS,
            num_steps=config.test_steps,
            queries=config.test_queries,
            seed=config.seed,
            callback=callback,
        )


def _train_seeds(
    name: str, config: FewShotConfig, settings: FewShotSettings, given: Collection[str]
) -> MeasuredRuns:
    """Start or go on with several runs that differ in their seeds; all on the same test tasks."""
    out, changes = config.out, None
    if config.resume:
        config, settings = _settled(name, config, settings, existing_seeds(out), given)
        changes = _loop_settings(config)
    else:
        _, _, described = _prepared(name, config, settings, given)
        create_seeds(out, {**described, "seeds": config.seeds})
    measured: dict[str, FewShotEvaluation] = {}

    def train_one(seed: int, path: Path) -> None:
        one = dataclasses.replace(config, seed=seed, seeds=1, out=path, resume=has_begun(path))
        training, _ = train(name, one, settings, given=_OF_ALL_SEEDS)
        measured[path.name] = _measure(training, config)

    train_seeds(out, range(config.seed, config.seed + config.seeds), train_one, changes=changes)
    return MeasuredRuns(measured)


def _resolved(
    config: FewShotConfig, settings: FewShotSettings
) -> tuple[FewShotConfig, FewShotSettings]:
    """Both with what depends on the rest written out."""
    if settings.schedule != "constant" and settings.decay_iterations is None:
        settings = dataclasses.replace(settings, decay_iterations=config.iterations)
    _require_rate(config, settings)
    threads = config.threads or (1 if settings.backbone == "mlp" else torch.get_num_threads())
    return dataclasses.replace(config, threads=threads), settings


def _require_rate(config: FewShotConfig, settings: FewShotSettings) -> None:
    """Refuse to train on where the schedule has ended, at a rate of 0 or nearly so."""
    end = settings.decay_iterations
    if settings.schedule in ("linear", "cosine") and end is not None and config.iterations > end:
        raise ValueError(
            f"iterations must be at most {end}, where the schedule {settings.schedule} of the run "
            f"has brought its rate down, got {config.iterations}; start a new run"
        )


def _tasks(config: FewShotConfig) -> FewShotTasks:
    data = DataOptions(config.data_dir, config.dataset_options)
    return data.make(config.dataset, resolve_device(config.device))


def _settled(
    name: str,
    config: FewShotConfig,
    settings: FewShotSettings,
    file: Path,
    given: Collection[str],
) -> tuple[FewShotConfig, FewShotSettings]:
    """The run's own settings with those given that may change; others given are refused."""
    stored, held = read_run(file), stored_data(read_json_object(file))
    asked = {"agent": f"fewshot-{name}", "environment": config.dataset}
    asked |= {key: getattr(config, key) for key in ("seed", "seeds")}
    named = {"agent", *given} | ({"environment"} if "dataset" in given else set())
    refuse_changes(named, asked, vars(stored))
    kept = read_settings(type(settings), stored.agent_config, where=f"{config.out}: agent_config")
    refuse_changes(given, vars(settings), vars(kept))
    refuse_changes(
        given, {"dataset_options": config.dataset_options}, {"dataset_options": held.options}
    )
    config = dataclasses.replace(
        settled(config, stored, given),
        dataset=stored.environment,
        seeds=stored.seeds,
        data_dir=config.data_dir or held.data_dir,
        dataset_options=held.options,
    )
    _require_rate(config, kept)
    return config, kept


def _load(name: str, directory: RunDirectory, config: FewShotConfig) -> FewShotTraining:
    checkpoint = directory.newest_checkpoint()
    torch.set_num_threads(config.threads or torch.get_num_threads())
    device = resolve_device(config.device)
    training = FewShotTraining.load(
        checkpoint, name, _tasks(config), device=device, compile=config.compile
    )
    is_complete = training.num_iterations >= config.iterations
    if not is_complete and not holds_optimizer(read_header(checkpoint)):
        raise ValueError(
            f"checkpoint {checkpoint} was published or is of an earlier version and holds no "
            "optimiser: it can be measured, but not trained on; start a new run"
        )
    return training


def _loop_settings(config: FewShotConfig) -> dict[str, Any]:
    """Settings that a resume may change."""
    return {
        "device": resolve_device(config.device).type,
        "iterations": config.iterations,
        "checkpoint_every": config.checkpoint_every,
        "log_every": config.log_every,
        "threads": config.threads,
        "tracker": config.tracker,
        "test_steps": config.test_steps,
        "test_queries": config.test_queries,
        "compile": config.compile,
    }


def _plan(training: FewShotTraining, config: FewShotConfig) -> TrainingPlan:
    return fewshot_plan(
        training,
        iterations=config.iterations,
        checkpoint_every=config.checkpoint_every,
        log_every=config.log_every,
        tracker=config.tracker,
    )


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
