"""Training and test of a few-shot learner on a data set, as an experiment."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
import tyro
from annotated_types import Interval
from rich.console import Console

from metarl.devices import DeviceName, resolve_device
from metarl.evaluation.fewshot_results import FewShotEvaluation, MeasuredRuns
from metarl.evaluation.files import write_evaluations
from metarl.experiments.data_options import DataOptions, stored_data
from metarl.experiments.settings import RunSettings
from metarl.experiments.training import train
from metarl.fewshot.contract.settings import FewShotSettings, require_used
from metarl.fewshot.data.batches import FewShotTasks
from metarl.fewshot.evaluation import NUM_TEST_TASKS, evaluate_fewshot, require_testable
from metarl.fewshot.learners.catalog import LEARNERS, read_learner
from metarl.fewshot.training import FewShotTraining
from metarl.progress import Activity, Progress
from metarl.registry import LEARNER_PREFIX
from metarl.runs.directory import RunDirectory
from metarl.runs.loop import TrainingPlan
from metarl.runs.metrics import read_metrics
from metarl.runs.resume import read_run, reject_changes, with_stored
from metarl.storage.checkpoints import holds_optimizer, read_header
from metarl.storage.files import read_json_object
from metarl.validation import Count, NumSteps, Seed, WholeNumber

__all__ = [
    "FewShotConfig",
    "LearnerExperiment",
    "LearnerTraining",
    "default_dataset",
    "train_and_measure",
    "unused_settings",
]


@dataclass(frozen=True)
class FewShotConfig(RunSettings):
    """Train a few-shot learner, and test it on 600 unseen tasks."""

    seed: Seed = 0
    """Seed of all randomness: initial parameters, training tasks and test tasks."""
    iterations: Count = 20_000
    """Total number of meta-updates, including the ones before a resume."""
    device: DeviceName = "auto"
    """Device of the network and the data; auto: a GPU if there is one."""
    threads: Annotated[int, Interval(ge=0, le=1024)] = 0
    """Number of torch threads on the CPU; 0: 1 for a perceptron, else torch's default."""
    checkpoint_every: Count = 1000
    """Iterations between checkpoints; the last iteration always has one."""
    log_every: WholeNumber = 0
    """Iterations between rows of metrics, each with the score on validation tasks; 0: 50 for
    classification, 100 for regression."""
    resume: bool = False
    """Continue the run in --out with its stored settings; a complete run is only tested again."""
    dataset: str = "sinusoid"
    """Name of the data set, as listed by metarl fewshot --list. The defaults of the learner are the
    settings of its paper for this data set, if there are any."""
    data_dir: Path | None = None
    """Folder of data sets that are stored in files; None: a folder in the user's cache."""
    dataset_options: Annotated[
        tuple[str, ...],
        tyro.conf.arg(metavar="NAME=VALUE ..."),
    ] = ()
    """Options of the data set, in the form name=value; an unknown name is rejected with a list."""
    test_steps: NumSteps | None = None
    """Number of adaptation steps in the test. None: 10, or the number in training if it is larger;
    for reptile, its num_test_steps."""
    test_queries: Count | None = None
    """Query points per class in the test; None: 15, and for regression a grid over the inputs."""
    compile: bool = False
    """Compile the meta-gradient: faster for small networks, after a delay at the start."""

    def check_consistency(self) -> None:
        """Reject options of the data set that do not have the form name=value."""
        super().check_consistency()
        for option in self.dataset_options:
            if not option.partition("=")[0].isidentifier() or "=" not in option:
                raise ValueError(f"dataset_options must read name=value, got {option!r}")


def unused_settings(name: str) -> tuple[str, ...]:
    """Settings of `FewShotConfig` that have no effect on a learner."""
    learner: Any = LEARNERS.load(name)
    steps = () if learner.has_steps else ("test_steps",)
    return (*steps, *(() if getattr(learner, "can_compile", False) else ("compile",)))


def default_dataset(name: str) -> str:
    """The default data set of a learner."""
    return "sinusoid" if LEARNERS.load(name).has_steps else "glyphs"


class LearnerTraining:
    """A few-shot learner in training; its metrics include validation and elapsed time."""

    axis: str = "time/iterations"

    def __init__(self, training: FewShotTraining, data: DataOptions) -> None:
        self.training, self._data, self._plan = training, data, TrainingPlan(1, 1)
        self._is_regression = training.learner.problem.kind == "regression"
        self._started = time.perf_counter()

    @property
    def num_iterations(self) -> int:
        return self.training.num_iterations

    @property
    def default_log_every(self) -> int:
        return 100 if self._is_regression else 50

    @property
    def first_iteration(self) -> str:
        return "compiling the meta-gradient" if self.training.is_compiled else "first iterations"

    @property
    def score(self) -> str:
        return self.training.score

    @property
    def higher_is_better(self) -> bool:
        return self.training.higher_is_better

    def iterate(self) -> dict[str, float]:
        metrics = self.training.iterate()
        if self._plan.is_logged(self.num_iterations):
            metrics |= self.training.validate()
        seconds = time.perf_counter() - self._started
        return {**metrics, "time/iterations": self.num_iterations, "time/seconds": seconds}

    def progress(self, metrics: Mapping[str, float]) -> str:
        speed, score = metrics["time/iterations"] / metrics["time/seconds"], self.score
        if self._is_regression:
            return f"query MSE {metrics[score]:.3f}  {speed:,.0f} updates/s"
        loss = metrics["meta/query_loss"]
        return f"loss {loss:.3f}  accuracy {metrics[score]:.1%}  {speed:,.2g} updates/s"

    def save(self, path: Path) -> None:
        self.training.save(path)

    def stored_facts(self) -> dict[str, Any]:
        training, folder = self.training, self._data.data_dir
        return {
            "agent": f"{LEARNER_PREFIX}{training.name}",
            "environment": training.tasks.name,
            "seed": training.seed,
            "data_dir": None if folder is None else str(folder.absolute()),
            "dataset_options": list(self._data.options),
            "agent_config": dataclasses.asdict(training.config),
            "protocol": {**training.tasks.protocol, **training.learner.facts()},
        }

    def begin(self, directory: RunDirectory, plan: TrainingPlan) -> str:
        training, facts = self.training, self.training.learner.facts()
        rows = [r for r in read_metrics(directory) if r["iteration"] <= self.num_iterations]
        seconds_before = rows[-1].get("time/seconds", 0.0) if rows else 0.0
        self._plan, self._started = plan, time.perf_counter() - seconds_before
        return (
            f"fewshot {training.name} on {training.tasks.name}, batch norm {facts['batch_norm']}, "
            f"{'transductive' if facts['transductive'] else 'not transductive'}; "
            f"run in {directory.path}, on {training.device}"
        )

    def end(self) -> None:
        """Do nothing: there are no environments to free."""

    def final_message(self, directory: RunDirectory) -> str:
        """Return nothing, since the learner is tested next."""
        del directory
        return ""


@dataclass(frozen=True)
class LearnerExperiment:
    """A few-shot learner, a data set and all settings."""

    complete_is_an_error: ClassVar[bool] = False

    name: str
    """The learner's registered name."""
    settings: FewShotConfig
    learner_config: FewShotSettings
    """Settings of the learner, of its `config_type`."""

    @property
    def changeable(self) -> tuple[str, ...]:
        """Names of the settings that a resume may change."""
        return (
            "device", "iterations", "checkpoint_every", "log_every", "threads", "tracker",
            "test_steps", "test_queries", "compile",
        )  # fmt: skip

    def with_settings(self, **changes: Any) -> LearnerExperiment:
        """The same experiment with other settings."""
        return dataclasses.replace(self, settings=dataclasses.replace(self.settings, **changes))

    def resolved(self) -> LearnerExperiment:
        """The same with the length of the schedule and the number of threads filled in."""
        settings, config = self.settings, self.learner_config
        if config.schedule != "constant" and config.decay_iterations is None:
            config = dataclasses.replace(config, decay_iterations=settings.iterations)
        _require_rate(settings, config)
        threads = settings.threads or (1 if config.backbone == "mlp" else torch.get_num_threads())
        return dataclasses.replace(self, learner_config=config).with_settings(threads=threads)

    def with_stored_settings(self, file: Path, given: Collection[str]) -> LearnerExperiment:
        """The experiment with the settings of a stored run; rejects given settings that differ."""
        settings, config = self.settings, self.learner_config
        stored, data = read_run(file), stored_data(read_json_object(file))
        wanted: dict[str, Any] = {
            "agent": f"{LEARNER_PREFIX}{self.name}",
            "environment": settings.dataset,
        }
        wanted |= {"seed": settings.seed, "seeds": settings.seeds}
        named = {"agent", *given} | ({"environment"} if "dataset" in given else set())
        if not stored.agent.startswith(LEARNER_PREFIX):
            reject_changes({"agent"}, wanted, vars(stored))
        source, held = f"{settings.out}: agent_config", stored.agent.removeprefix(LEARNER_PREFIX)
        name, kept = read_learner(held, stored.agent_config, source=source)
        if self.name == name:  # an earlier version may have stored another name
            named.discard("agent")
        reject_changes(named, wanted, vars(stored))
        reject_changes(given, vars(config), vars(kept))
        options = {"dataset_options": data.options}
        reject_changes(given, {"dataset_options": settings.dataset_options}, options)
        settings = dataclasses.replace(
            with_stored(settings, stored, {*given} - {"seed"}),
            dataset=stored.environment,
            seeds=stored.seeds,
            data_dir=settings.data_dir or data.data_dir,
            dataset_options=data.options,
        )
        _require_rate(settings, kept)
        return dataclasses.replace(self, name=name, settings=settings, learner_config=kept)

    def build(
        self, device: torch.device, given: Collection[str], progress: Progress
    ) -> LearnerTraining:
        """The untrained learner."""
        settings, config = self.settings, self.learner_config
        require_used(config, given)
        if settings.test_steps is not None and "test_steps" in unused_settings(self.name):
            raise ValueError(
                f"test_steps must be left out for {self.name}, which has no adaptation steps"
            )
        training = FewShotTraining(
            self.name,
            self._tasks(progress),
            config,
            seed=settings.seed,
            device=device,
            compile=settings.compile,
        )
        require_testable(training, settings.test_queries)
        if training.learner.problem.kind == "regression" and "ways" in given:
            raise ValueError(f"ways must be left out for {settings.dataset}, which is regression")
        return LearnerTraining(training, self._data)

    def load(self, checkpoint: Path, device: torch.device, progress: Progress) -> LearnerTraining:
        """The learner of a checkpoint."""
        training = FewShotTraining.load(
            checkpoint,
            self.name,
            self._tasks(progress),
            device=device,
            compile=self.settings.compile,
        )
        return LearnerTraining(training, self._data)

    def require_trainable(self, checkpoint: Path) -> None:
        """Raise ValueError if a checkpoint holds no optimizer state."""
        if not holds_optimizer(read_header(checkpoint)):
            raise ValueError(
                f"checkpoint {checkpoint} was published or is of an earlier version and has no "
                "optimizer state: it can be evaluated but not trained further; start a new run"
            )

    def measure(self, trained: LearnerTraining, console: Console) -> FewShotEvaluation:
        """Test the learner on the test tasks, which depend on the seed of the experiment."""
        with Activity("testing", console) as progress:
            return evaluate_fewshot(
                trained.training,
                num_tasks=NUM_TEST_TASKS,
                num_steps=self.settings.test_steps,
                queries=self.settings.test_queries,
                seed=self.settings.seed,
                progress=progress,
            )

    @property
    def _data(self) -> DataOptions:
        return DataOptions(self.settings.data_dir, self.settings.dataset_options)

    def _tasks(self, progress: Progress) -> FewShotTasks:
        device = resolve_device(self.settings.device)
        return self._data.make(self.settings.dataset, device, progress)


def train_and_measure(
    experiment: LearnerExperiment, *, given: Collection[str] = (), console: Console
) -> MeasuredRuns:
    """Train or resume as `train` does, test the learner, and write evaluation.json."""
    measured = MeasuredRuns(train(experiment, given=given, console=console))
    write_evaluations(experiment.settings.out / "evaluation.json", [measured])
    return measured


def _require_rate(settings: FewShotConfig, config: FewShotSettings) -> None:
    """Reject training after the end of a schedule, with a learning rate of about 0."""
    end = config.decay_iterations
    if config.schedule not in ("linear", "cosine") or end is None:
        return
    if settings.iterations > end:
        raise ValueError(
            f"iterations must be at most {end}, the end of the run's {config.schedule} schedule, "
            f"got {settings.iterations}; start a new run"
        )
