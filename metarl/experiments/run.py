"""Training runs from Python: `train`, `load`, and `Run` for a run's folder."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metarl.devices import DeviceName, resolve_device
from metarl.evaluation.files import AnyEvaluation
from metarl.experiments.arguments import run_experiment
from metarl.experiments.data_options import data_beside
from metarl.experiments.evaluation import evaluate
from metarl.fewshot.data.batches import FewShotTasks
from metarl.fewshot.training import FewShotTraining
from metarl.processes import require_main_process
from metarl.registry import LEARNER_PREFIX
from metarl.rl.registry import load_agent
from metarl.runs.directory import RunDirectory
from metarl.runs.metrics import read_metrics
from metarl.runs.seeds import SEEDS_FILE, expanded, holds_seeds
from metarl.runs.tracking import TrackerName
from metarl.storage.checkpoints import read_header
from metarl.storage.files import read_json_object
from metarl.tasks.family import TaskFamily
from metarl.tasks.registry import make_family
from metarl.validation import as_path

if TYPE_CHECKING:
    from metarl.rl.agent import Agent

__all__ = ["Run", "load", "train"]


@dataclass(frozen=True)
class Run:
    """The folder of a run, of several seeds, or of a published run.

    Every access reads the folder, so that it shows the progress of a run in another process.

    Raises:
        ValueError: if there is no run in the folder.
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", as_path("path", self.path))  # also from a text
        if not holds_seeds(self.path):
            RunDirectory.open(self.path)

    def __fspath__(self) -> str:
        """The folder as text, so that functions that take a path also take a run."""
        return str(self.path)

    @property
    def config(self) -> dict[str, Any]:
        """The content of config.json or, for several seeds, of seeds.json: settings and versions.

        Raises:
            ValueError: if the file is damaged.
        """
        if holds_seeds(self.path):
            return read_json_object(self.path / SEEDS_FILE)
        return self._directory.config()

    @property
    def runs(self) -> tuple[Run, ...]:
        """The run of each seed that has started; the run itself if it has only one seed."""
        return tuple(Run(Path(folder)) for folder in expanded(str(self.path)))

    def metrics(self) -> list[dict[str, float]]:
        """The rows of metrics.jsonl: numbers by name, including `iteration`.

        Raises:
            ValueError: if the file is damaged, or the run has several seeds.
        """
        return read_metrics(self._directory)

    @property
    def checkpoints(self) -> tuple[Path, ...]:
        """The stored checkpoints, the newest last.

        Raises:
            ValueError: if the run has several seeds.
        """
        return self._directory.all_checkpoints()

    @property
    def best_checkpoint(self) -> Path | None:
        """The checkpoint with the best score so far; None if there is none yet."""
        best = self._directory.best_checkpoint
        return best if best.is_file() else None

    def load(self, *, device: DeviceName = "auto") -> Agent[Any] | FewShotTraining:
        """The agent or few-shot learner of the newest checkpoint; see `load`."""
        return load(self.path, device=device)

    def resume(self, *, iterations: int | None = None, **changes: Any) -> Run:
        """Continue the run, as `metarl.train(..., resume=True)` does.

        Args:
            iterations: total number of meta-updates; None: the stored number.
            changes: other arguments of `metarl.train`.

        Returns:
            The run itself.
        """
        name = str(self.config.get("agent")).removeprefix(LEARNER_PREFIX)
        return train(name, out=self.path, resume=True, iterations=iterations, **changes)

    def evaluate(self, **options: Any) -> list[AnyEvaluation]:
        """Measure the run on unseen tasks, as `metarl.evaluate` does with these options."""
        return evaluate([self.path], **options)

    def report(self, out: str | Path, **options: Any) -> Path:
        """Write a page about the run, as `metarl.report` does with these options."""
        # A higher layer, which must not be imported at the top.
        build = import_module("metarl.report.build")
        page: Path = build.write_report([self.path], out=out, **options)
        return page

    @property
    def _directory(self) -> RunDirectory:
        return RunDirectory.open(self.path)


def train(
    name: str,
    *,
    out: str | Path,
    env: str | TaskFamily | None = None,
    dataset: str | FewShotTasks | None = None,
    seed: int | None = None,
    seeds: int | None = None,
    iterations: int | None = None,
    device: DeviceName | None = None,
    threads: int | None = None,
    checkpoint_every: int | None = None,
    log_every: int | None = None,
    tracker: TrackerName | None = None,
    resume: bool = False,
    progress: bool = True,
    **settings: Any,
) -> Run:
    """Train an agent on a task family, or a few-shot learner on a data set.

    `metarl train` and `metarl fewshot` write the same files, so these commands can
    resume a run of this function and vice versa. A few-shot learner is tested after training, and
    the results are written to evaluation.json.

    Args:
        name: name of the agent or the learner; see `metarl list` and `metarl fewshot --list`.
        out: folder of the run; it must be new unless `resume`.
        env: task family of an agent: its id or a registered family.
        dataset: data set of a few-shot learner: its name or tasks of a registered data set.
        seed: seed of all randomness. None: 0.
        seeds: number of runs, with the seeds seed, seed + 1, …, one after another. None: 1.
        iterations: total number of meta-updates. None: 100 for agents, 20,000 for learners.
        device: device of the networks. None: "auto".
        threads: number of torch threads on the CPU. None: torch's default, or 1 for learners
            with a perceptron.
        checkpoint_every: iterations between checkpoints. None: 10, or 1,000 for learners.
        log_every: iterations between rows of metrics. None: 1, or 50 or 100 for learners.
        tracker: experiment tracker in addition to metrics.jsonl. None: "tensorboard".
        resume: continue the run in `out`. None then means the stored value; only iterations,
            checkpoint_every, log_every, device, threads and tracker may differ from it.
        progress: print progress.
        settings: settings of the agent or learner, and for learners `test_steps`, `test_queries`,
            `data_dir`, `dataset_options` and `compile`.

    Returns:
        The run.

    Raises:
        TrainingStopped: if training ended early; the last good state is saved.
        ValueError: if a setting or the stored run is invalid.
    """
    shared: dict[str, Any] = {
        "seed": seed, "seeds": seeds, "iterations": iterations, "device": device,
        "threads": threads, "checkpoint_every": checkpoint_every, "log_every": log_every,
        "tracker": tracker,
    }  # fmt: skip
    given = {key: value for key, value in shared.items() if value is not None}
    given |= settings
    targets: dict[str, Any] = {"env": env, "dataset": dataset}
    given |= {key: value for key, value in targets.items() if value is not None}
    folder = as_path("out", out)
    require_main_process("metarl.train")
    run_experiment(name, folder, given, resume=resume, progress=progress)
    return Run(folder)


def load(path: str | Path, *, device: DeviceName = "auto") -> Agent[Any] | FewShotTraining:
    """Load the trained agent or few-shot learner of a run or a checkpoint.

    Args:
        path: folder of a run, whose newest checkpoint is loaded, or a checkpoint.
        device: device of the agent or learner.

    Raises:
        ValueError: if there is no checkpoint, it is damaged, or the folder holds several seeds.
    """
    path = as_path("path", path)
    if not path.exists():
        raise ValueError(f"path must be a run or a checkpoint, there is nothing at {path}")
    checkpoint = RunDirectory.open(path).newest_checkpoint() if path.is_dir() else path
    header = read_header(checkpoint)
    name, environment = header.get("agent"), header.get("environment")
    if not isinstance(name, str) or not isinstance(environment, str):
        raise ValueError(
            f"checkpoint {checkpoint} does not name its agent and environment, so it cannot be used"
        )
    where = resolve_device(device)
    if name.startswith(LEARNER_PREFIX):
        tasks = data_beside(checkpoint).make(environment, where)
        learner = name.removeprefix(LEARNER_PREFIX)
        return FewShotTraining.load(checkpoint, learner, tasks, device=where)
    agent: Agent[Any] = load_agent(name).load(checkpoint, make_family(environment), device=where)
    return agent
