"""One training class for all few-shot learners: it owns what changes, the learners do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from metarl.fewshot.compiled import CompiledMetaGradient, require_compilable
from metarl.fewshot.data.batches import (
    EpisodeRanges,
    EpisodeShape,
    FewShotBatch,
    FewShotTasks,
    LabelledSet,
    VariableTasks,
    require_inputs,
    require_labels,
    small_parts,
)
from metarl.fewshot.learners.catalog import LEARNERS, read_learner, recipe
from metarl.fewshot.learners.interface import Adapted, FewShotLearner, TrainingContext
from metarl.fewshot.learners.old_settings import present_form
from metarl.fewshot.learners.problem import Problem, accuracies
from metarl.fewshot.learners.settings import FewShotSettings
from metarl.fewshot.learners.transfer import PointTasks, Transfer
from metarl.finite import in_iteration, require_finite_params, require_finite_tasks
from metarl.optim.optimizer import NamedOptimizer
from metarl.parameters import Params
from metarl.seeding import torch_generator
from metarl.storage.checkpoints import (
    holds_optimizer,
    load_checkpoint,
    read_counter,
    read_header,
    save_checkpoint,
    select_tensors,
)

__all__ = ["FewShotTraining"]


_AGENT = "fewshot-"

_REMEDY = "try a smaller inner_lr or meta_lr"
_MOMENTUM = 0.1  # of running statistics, a pass through the net of their own
_STATISTICS_EVERY = 5  # iterations
_VALIDATION_TASKS = 100
_DECISIVE = ("split_digest", "resize", "rotations")  # of a data set's facts


class FewShotTraining:
    """A learner's parameters, its outer optimiser and its counters.

    Tasks of iteration k come from the seed and k, and the best of a run is judged on validation
    tasks of the seed; so a run that was stopped goes on to the same bit.
    """

    def __init__(
        self,
        name: str,
        tasks: FewShotTasks,
        config: FewShotSettings | None = None,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        compile: bool = False,
    ) -> None:
        """An untrained learner.

        Args:
            name: of the learner, as `metarl fewshot --list` has it.
            tasks: where training tasks come from.
            config: settings, of the learner's type; None: the recipe for the data set.
            seed: of parameters and tasks.
            device: where everything is computed; the data's own.
            compile: make one program of each meta-gradient; worth it for small nets, and for
                some learners only.

        Raises:
            ValueError: if there is no such learner, it cannot learn this problem, or it cannot be
                compiled.
            TypeError: if the settings are another learner's.
        """
        learner_type = LEARNERS.load(name)
        config = config or recipe(name, tasks.name)
        if not isinstance(config, learner_type.config_type):
            raise TypeError(
                f"config must be a {learner_type.config_type.__name__} for {name}, "
                f"got a {type(config).__name__}"
            )
        _require_split(tasks, config)
        self.name, self.tasks, self.config, self.seed = name, tasks, config, seed
        self.device = torch.device(device)
        self.learner: FewShotLearner = learner_type(config, self._problem())
        initial = self.learner.init(torch_generator(seed, "parameters"))  # the same on any device
        self.params: Params = {key: p.to(self.device) for key, p in initial.items()}
        self.running = self._initial_statistics()
        self.num_iterations = 0
        self._optimizer = NamedOptimizer(
            self.params,
            config.optimizer,
            rate=config.meta_lr,
            schedule=config.schedule,
            decay_iterations=config.decay_iterations,
            clip=config.clip_gradient,
        )
        self._meta_gradient = self.learner.meta_gradient
        if compile:
            require_compilable(name, self.learner)
            self._meta_gradient = CompiledMetaGradient(self.learner)
        self._require_episodes()

    @property
    def evaluation_params(self) -> Params:
        """Parameters, and the running statistics that only evaluation uses."""
        return {**self.params, **self.running}

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """What steps the parameters; `prepare` sets its learning rate and their gradients."""
        return self._optimizer.torch_optimizer

    @property
    def score(self) -> str:
        """The metric that marks the best checkpoint: an error in regression, else an accuracy."""
        is_regression = self.learner.problem.kind == "regression"
        return "meta/query_mse" if is_regression else f"{self._validation_split}/accuracy"

    def hold(self, params: Params, running: Params) -> None:
        """Go on with these very tensors, on their device, in place of the learner's own.

        For an owner that moves tensors, as a Lightning module does. What the optimiser knows of a
        parameter goes along.

        Args:
            params: as `params`, names and shapes; all on one device.
            running: as `running`.
        """
        self._optimizer.set_params(params)
        self.params, self.running = params, running
        self.device = next(iter(params.values())).device

    def iterate(self) -> dict[str, float]:
        """One meta-update on fresh tasks.

        Raises:
            FloatingPointError: if a loss or a gradient is not finite; the parameters stay as they
                were.
            ValueError: if the rate has a schedule and no `decay_iterations`.
        """
        metrics = self.prepare()
        self.optimizer.step()
        return metrics

    def prepare(self) -> dict[str, float]:
        """All of an iteration but the step of `optimizer`, for a loop that takes it itself.

        Rate and gradients are set, and the iteration is counted.

        Raises:
            FloatingPointError: if a loss or a gradient is not finite; the parameters stay as they
                were.
        """
        batch = self._draw(self.num_iterations)
        generator = torch_generator(self.seed, "updates", self.num_iterations, device=self.device)
        context = TrainingContext(self.num_iterations, generator)
        losses, grads = self._meta_gradient(self.params, batch, context)
        with in_iteration(self.num_iterations + 1):
            if not bool(losses.isfinite().all()):  # the data's fault, not that of the rates
                require_finite_tasks("data", *(part.inputs for part in batch))
            require_finite_tasks("query loss", losses, remedy=_REMEDY)
            require_finite_params("meta-gradient of", grads, remedy=_REMEDY)
        if self.running and self.num_iterations % _STATISTICS_EVERY == 0:
            for name, values in self.learner.statistics(self.params, batch).items():
                self.running[name].lerp_(values, _MOMENTUM)
        self._optimizer.set_gradients(grads, self.num_iterations)
        self.num_iterations += 1
        unit = "mse" if self.learner.problem.kind == "regression" else "loss"
        return {f"meta/query_{unit}": float(losses.mean())}

    def validate(self) -> dict[str, float]:
        """Accuracy on 100 tasks, always the same ones; {} for regression.

        They are of the validation split, or of the training split where no other is left.
        """
        if self.learner.problem.kind == "regression":
            return {}
        shape = self.config.test_shape(self.learner.problem)
        batch = self._sample(_VALIDATION_TASKS, shape, self._validation_split, 0, "validation")
        shares = []
        with torch.no_grad():
            for part in small_parts(batch):
                logits = self.predict(self.adapt(part.support), part.query)
                shares.append(accuracies(logits, part.query.targets, part.query.mask))
        return {f"{self._validation_split}/accuracy": float(torch.cat(shares).mean())}

    def adapt(self, support: LabelledSet) -> Adapted:
        """What the learner knows of each task after its support set, tensors [tasks, ...].

        Raises:
            ValueError: if inputs or labels do not fit the learner, or a number is not finite.
        """
        problem = self.learner.problem
        require_inputs("support", support.inputs, problem.input_shape)
        if problem.kind == "classification":
            require_labels("support", support, problem.num_outputs)
        return self.learner.adapt(self.evaluation_params, support)

    def predict(self, adapted: Adapted, query: LabelledSet | torch.Tensor) -> torch.Tensor:
        """Logits [tasks, points, ways] or predictions [tasks, points, D].

        Args:
            adapted: what `adapt` gave.
            query: inputs [tasks, points, *input_shape], or a set whose targets are not used.

        Raises:
            ValueError: if inputs do not fit the learner, or a number is not finite.
        """
        mask = query.mask if isinstance(query, LabelledSet) else None
        inputs = query.inputs if isinstance(query, LabelledSet) else query
        require_inputs("query", inputs, self.learner.problem.input_shape)
        return self.learner.predict(adapted, inputs, mask)

    def save(self, path: Path) -> None:
        """Write parameters, statistics, optimiser, settings and counters.

        Raises:
            FloatingPointError: if a parameter is not finite; nothing is written.
        """
        require_finite_params("parameter", self.params)
        groups = {
            "parameters": self.params,
            "running": self.running,
            "optimizer": self._optimizer.tensors(),
        }
        tensors = {f"{group}/{name}": t for group, ts in groups.items() for name, t in ts.items()}
        save_checkpoint(
            path,
            tensors,
            {
                "agent": _AGENT + self.name,
                "environment": self.tasks.name,
                "seed": self.seed,
                "config": asdict(self.config),
                "counters": {"num_iterations": self.num_iterations},
                "data": self.tasks.protocol,
            },
        )

    @classmethod
    def load(
        cls,
        path: Path,
        name: str,
        tasks: FewShotTasks,
        *,
        device: torch.device | str = "cpu",
        compile: bool = False,
    ) -> FewShotTraining:
        """The learner of a checkpoint; it goes on as if it had never been stopped.

        One of format 1, or a published one, holds no optimiser; its learner adapts and predicts,
        but `iterate` begins with a fresh optimiser.

        Raises:
            ValueError: if the file is no checkpoint of this learner on this data set, or the data
                set has other classes or pictures now.
        """
        agent = _stored_agent(name, read_header(path))
        tensors, header = load_checkpoint(path, agent=agent, environment=tasks.name)
        name, config = read_learner(
            agent.removeprefix(_AGENT), header["config"], where=f"checkpoint {path}"
        )
        _require_same_data(path, header.get("data"), tasks)
        training = cls(name, tasks, config, seed=header["seed"], device=device, compile=compile)
        for group, mine in (("parameters", training.params), ("running", training.running)):
            held = select_tensors(path, tensors, group, mine)
            for key, p in mine.items():
                p.copy_(held[key])
        training.num_iterations = read_counter(path, header, "num_iterations")
        if holds_optimizer(header):
            like = training._optimizer.tensors()
            training._optimizer.restore(select_tensors(path, tensors, "optimizer", like))
        return training

    @property
    def _validation_split(self) -> str:
        """Classes not trained on, if there are any besides the test's."""
        kept = self.config.train_split == "train" and "validation" in self.tasks.splits
        return "validation" if kept else "train"

    def _require_episodes(self) -> None:
        """Draw one episode to train on and one to validate on, so that mistakes show at once."""
        problem = self.learner.problem
        if not isinstance(self.learner, Transfer):
            self._sample(1, self.config.train_episodes(problem), self.config.train_split, 0)
        if problem.kind == "classification":
            self._sample(1, self.config.test_shape(problem), self._validation_split, 0)

    def _draw(self, iteration: int) -> FewShotBatch:
        """Episodes of an iteration, or the labelled points of the baseline."""
        if isinstance(self.learner, Transfer):
            assert isinstance(self.tasks, PointTasks)
            generator = torch_generator(self.seed, "tasks", iteration, device=self.device)
            return self.learner.draw(self.tasks, generator)
        sizes = self.config.train_episodes(self.learner.problem)
        return self._sample(self.config.meta_batch_size, sizes, self.config.train_split, iteration)

    def _sample(
        self,
        num_tasks: int,
        sizes: EpisodeShape | EpisodeRanges,
        split: str,
        iteration: int,
        key: str = "tasks",
    ) -> FewShotBatch:
        generator = torch_generator(self.seed, key, iteration, device=self.device)
        if isinstance(sizes, EpisodeShape):
            return self.tasks.sample(num_tasks, sizes, split=split, generator=generator)
        if not isinstance(self.tasks, VariableTasks):
            raise ValueError(
                f"min_ways and min_shots must be left out for {self.tasks.name}, whose episodes "
                "are all of one size"
            )
        return self.tasks.sample_variable(num_tasks, sizes, split=split, generator=generator)

    def _problem(self) -> Problem:
        """Inputs and outputs; a task is drawn to see how many numbers regression asks for."""
        tasks, config = self.tasks, self.config
        if tasks.kind == "classification":
            num_classes = (
                tasks.num_classes(config.train_split) if isinstance(tasks, PointTasks) else 0
            )
            return Problem(tasks.kind, tasks.input_shape, config.ways, num_classes)
        batch = self._sample(1, EpisodeShape(1, 1, 1), config.train_split, 0)
        return Problem(tasks.kind, tasks.input_shape, batch.query.targets.shape[-1])

    def _initial_statistics(self) -> Params:
        """Means of zero and variances of one, where running statistics are kept."""
        problem = self.learner.problem
        shape = replace(self.config.train_shape(problem), shots=1, queries=1)
        if self.config.batch_norm != "running" or self.config.backbone == "mlp":
            return {}
        batch = self._sample(1, shape, self.config.train_split, 0)
        found = self.learner.statistics(self.params, batch)
        return {
            name: torch.zeros_like(v) if "mean" in name else torch.ones_like(v)
            for name, v in found.items()
        }


def _stored_agent(name: str, header: Mapping[str, Any]) -> str:
    """The agent that a checkpoint of a learner names.

    An earlier version may have stored the learner under another name; see `read_learner`.
    """
    held, settings = str(header.get("agent")), header.get("config")
    is_learner = held.startswith(_AGENT) and isinstance(settings, dict)
    if is_learner and present_form(held.removeprefix(_AGENT), settings or {}).name == name:
        return held
    return _AGENT + name


def _require_same_data(path: Path, stored: object, tasks: FewShotTasks) -> None:
    """Refuse other classes or pictures than a checkpoint's; those of earlier versions tell none."""
    if not isinstance(stored, dict):
        return
    for fact in _DECISIVE:
        then, now = stored.get(fact), tasks.protocol.get(fact)
        if then != now:
            raise ValueError(
                f"{tasks.name} must be as {path} was trained on, {fact} was {then!r} and is "
                f"{now!r} now; give its --dataset-options, and a folder with the same classes"
            )


def _require_split(tasks: FewShotTasks, config: FewShotSettings) -> None:
    if config.train_split == "train":
        return
    if tasks.kind == "regression" or "validation" not in tasks.splits:
        raise ValueError(
            f"train_split must be train for {tasks.name}, which keeps no classes for validation, "
            f"got {config.train_split!r}"
        )
