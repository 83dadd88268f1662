"""A few-shot learner in training: the counterpart of `metarl.rl.agent.Agent`.

It owns all mutable state (parameters, statistics, optimizer, counters); learners have none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import torch
from torch import Tensor

from metarl.fewshot.contract.interface import Adapted, FewShotLearner, TrainingContext
from metarl.fewshot.contract.problem import accuracies
from metarl.fewshot.contract.settings import FewShotSettings, require_settings_of, require_supported
from metarl.fewshot.data.batches import (
    FewShotTasks,
    LabeledSet,
    require_inputs,
    require_labels,
    small_parts,
)
from metarl.fewshot.learners.catalog import LEARNERS, recipe
from metarl.fewshot.running import RunningStatistics
from metarl.fewshot.sampling import TaskSampler
from metarl.fewshot.stored import read_training
from metarl.finite import (
    in_iteration,
    require_finite_params,
    require_finite_state,
    require_finite_tasks,
)
from metarl.optim.optimizer import NamedOptimizer
from metarl.parameters import Params, State, copy_state
from metarl.registry import LEARNER_PREFIX
from metarl.seeding import torch_generator
from metarl.storage.checkpoints import save_checkpoint
from metarl.validation import require_at_least

__all__ = ["FewShotTraining"]

Metrics: TypeAlias = dict[str, float]

_REMEDY = "try a smaller inner_lr or meta_lr"


class FewShotTraining:
    """A learner's parameters, its outer optimizer and its counters.

    The seed and k determine the tasks of iteration k, and the seed determines the validation tasks;
    so a run that was stopped continues bitwise identically.
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
            name: the learner's name, as `metarl fewshot --list` shows it.
            tasks: the data set.
            config: settings of the learner's type; None: the recipe for the data set.
            seed: seed of parameters and tasks.
            device: device of all computation and of the data.
            compile: compile each meta-gradient into one program; useful for small nets, and
                available for some learners only.

        Raises:
            ValueError: if there is no such learner, or it cannot learn the problem or be compiled.
            TypeError: if the settings belong to another learner.
        """
        learner_type = LEARNERS.load(name)
        config = config or recipe(name, tasks.name)
        require_settings_of(name, learner_type, config)
        self.name, self.tasks, self.seed = name, tasks, seed
        self._config: FewShotSettings = config
        self.device = torch.device(device)
        self._sampler = TaskSampler(tasks, config, seed)
        problem = self._sampler.problem(self.device)
        require_supported(name, learner_type, problem)
        self.learner: FewShotLearner = learner_type(config, problem)
        initial = self.learner.init(torch_generator(seed, "parameters"))  # the same on any device
        self.params: Params = {key: p.to(self.device) for key, p in initial.items()}
        self._statistics = RunningStatistics(self.learner, self._sampler, self.params)
        self.num_iterations = 0
        self._optimizer = NamedOptimizer(
            self.params,
            config.optimizer,
            rate=config.meta_lr,
            schedule=config.schedule,
            decay_iterations=config.decay_iterations,
            clip=config.clip_gradient,
        )
        self.is_compiled = compile
        self._meta_gradient = self.learner.meta_gradient
        if compile:  # importing torch's compiler takes seconds
            from metarl.fewshot.compiled import CompiledMetaGradient, require_compilable

            require_compilable(name, self.learner)
            self._meta_gradient = CompiledMetaGradient(self.learner)
        self._sampler.require_episodes(self.learner, self.device)

    # The declaration.

    @property
    def config(self) -> FewShotSettings:
        """The settings; they cannot be replaced."""
        return self._config

    @config.setter
    def config(self, _: FewShotSettings) -> NoReturn:
        raise AttributeError(
            "config of a learner in training cannot be replaced; create another one with other "
            "settings: FewShotTraining(name, tasks, config)"
        )

    @property
    def metrics(self) -> Mapping[str, str]:
        """Description of each metric that `iterate` or, for classes, `validate` returns."""
        if self._is_regression:
            return {"meta/query_mse": "mean squared error on the query after adaptation"}
        split = self._sampler.validation_split
        return {
            "meta/query_loss": "mean loss on the query after adaptation",
            f"{split}/accuracy": f"accuracy after adaptation on 100 tasks of the {split} classes",
        }

    @property
    def score(self) -> str:
        """The metric that marks the best checkpoint: an error in regression, else an accuracy."""
        return list(self.metrics)[-1]

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher score is better."""
        return not self._is_regression

    @property
    def shown_metrics(self) -> tuple[str, ...]:
        """The metrics in the progress line."""
        return tuple(self.metrics)

    # Training.

    def learn(
        self,
        num_iterations: int,
        *,
        callback: Callable[[FewShotTraining, Metrics], bool | None] | None = None,
    ) -> FewShotTraining:
        """Train for more iterations.

        Args:
            num_iterations: number of iterations.
            callback: called after each iteration with the learner and its metrics; False ends
                training.

        Returns:
            The learner itself.

        Raises:
            FloatingPointError, ValueError: as `iterate` does, or if `num_iterations` is negative.
        """
        require_at_least("num_iterations", num_iterations, 0)
        for _ in range(num_iterations):
            metrics = self.iterate()
            if callback is not None and callback(self, metrics) is False:
                break
        return self

    def iterate(self) -> Metrics:
        """Take one meta-update on new tasks; if it raises, the learner is unchanged.

        Raises:
            FloatingPointError: if a loss or a gradient is not finite.
            ValueError: if the rate has a schedule and no `decay_iterations`.
        """
        before, num_iterations = copy_state(self._state()), self.num_iterations
        try:
            metrics = self.compute_gradients()
            self.optimizer.step()
        except BaseException:  # a step may fail halfway, for example out of memory
            self._set_state(before)
            self.num_iterations = num_iterations
            raise
        return metrics

    def compute_gradients(self) -> Metrics:
        """Run one iteration except `optimizer.step()`, for a loop that takes the step itself.

        Sets learning rate and gradients, and counts the iteration. If it raises, parameters and
        counters are unchanged.

        Raises:
            FloatingPointError: if a loss or a gradient is not finite.
            ValueError: if the rate has a schedule and no `decay_iterations`.
        """
        key = self.num_iterations
        batch = self._sampler.training_batch(self.learner, key, self.device)
        generator = torch_generator(self.seed, "updates", key, device=self.device)
        context = TrainingContext(key, generator)
        losses, grads = self._meta_gradient(self.params, batch, context)
        with in_iteration(key + 1):
            if not bool(losses.isfinite().all()):  # report invalid data first
                require_finite_tasks("data", *(part.inputs for part in batch))
            require_finite_tasks("query loss", losses, remedy=_REMEDY)
            require_finite_params("meta-gradient of", grads, remedy=_REMEDY)
        self._optimizer.set_gradients(grads, key)
        self.num_iterations = key + 1
        return {next(iter(self.metrics)): float(losses.mean())}

    def validate(self) -> Metrics:
        """Accuracy on 100 fixed tasks; {} for regression.

        They are from the validation split, or from the training split if there is none.
        """
        if self._is_regression:
            return {}
        batch = self._sampler.validation_batch(self.learner.problem, self.device)
        shares = []
        with torch.no_grad():
            for part in small_parts(batch):
                logits = self.predict(self.adapt(part.support), part.query)
                shares.append(accuracies(logits, part.query.targets, part.query.mask))
        return {self.score: float(torch.cat(shares).mean())}

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Torch's optimizer; `compute_gradients` sets its learning rate and gradients."""
        return self._optimizer.torch_optimizer

    def set_params(self, params: Params, running: Params) -> None:
        """Use these tensors as the parameters; the optimizer state is kept.

        Used by an owner that moves tensors, such as a Lightning module.

        Args:
            params: names and shapes as in `params`; all on one device.
            running: names and shapes as in `running`.
        """
        self._optimizer.set_params(params)
        self.params, self._statistics.values = params, running
        self.device = next(iter(params.values())).device

    # Prediction.

    @property
    def running(self) -> Params:
        """Running statistics of batch norm by name, as last estimated; {} if there are none."""
        return self._statistics.values

    @property
    def evaluation_params(self) -> Params:
        """The parameters and their running statistics, which only evaluation uses."""
        self._statistics.refresh(self.params, self.num_iterations)
        return {**self.params, **self.running}

    def forget_statistics(self) -> None:
        """Estimate the running statistics again when they are needed next."""
        self._statistics.iteration = None

    def adapt(self, support: LabeledSet) -> Adapted:
        """The learner's state for each task after its support set, tensors [tasks, ...].

        Raises:
            ValueError: if inputs or labels do not fit the learner, or a number is not finite.
        """
        problem = self.learner.problem
        require_inputs("support", support.inputs, problem.input_shape)
        if problem.kind == "classification":
            require_labels("support", support, problem.num_outputs)
        self.require_finite()
        return self.learner.adapt(self.evaluation_params, support)

    def predict(self, adapted: Adapted, query: LabeledSet | Tensor) -> Tensor:
        """Logits [tasks, points, ways] or predictions [tasks, points, D].

        Args:
            adapted: the result of `adapt`.
            query: inputs [tasks, points, *input_shape], or a set whose targets are not used.

        Raises:
            ValueError: if inputs do not fit the learner, or a number is not finite.
        """
        mask = query.mask if isinstance(query, LabeledSet) else None
        inputs = query.inputs if isinstance(query, LabeledSet) else query
        require_inputs("query", inputs, self.learner.problem.input_shape)
        return self.learner.predict(adapted, inputs, mask)

    def require_finite(self) -> None:
        """Raise a FloatingPointError, also a ValueError, if a number of the state is not finite."""
        require_finite_state(self._state())

    # Files and copies.

    def save(self, path: Path | str) -> None:
        """Write a checkpoint: parameters, their statistics, optimizer, settings and counters.

        Raises:
            FloatingPointError: if a number is not finite; nothing is written.
        """
        self._statistics.refresh(self.params, self.num_iterations)
        self.require_finite()
        tensors = {f"{group}/{n}": t for group, ts in self._state().items() for n, t in ts.items()}
        header = {
            "agent": LEARNER_PREFIX + self.name,
            "environment": self.tasks.name,
            "seed": self.seed,
            "config": asdict(self.config),
            "counters": {"num_iterations": self.num_iterations},
            "data": self.tasks.protocol,
        }
        save_checkpoint(Path(path), tensors, header)

    @classmethod
    def load(
        cls,
        path: Path | str,
        name: str,
        tasks: FewShotTasks,
        *,
        device: torch.device | str = "cpu",
        compile: bool = False,
    ) -> FewShotTraining:
        """Load the learner of a checkpoint, which continues as if it had not been stopped.

        Checkpoints of format 1 and published ones have no optimizer state: the learner adapts and
        predicts, but `iterate` starts with a new optimizer.

        Args:
            path: the checkpoint.
            name: the learner's name, as stored or in this version.
            tasks: the data set that it was trained on.
            device: device of all computation and of the data.
            compile: as in the constructor.

        Raises:
            ValueError: if the file is not a checkpoint of this learner on this data set, or the
                classes or images of the data set have changed.
        """
        stored = read_training(Path(path), name, tasks)
        training = cls(
            stored.name, tasks, stored.config, seed=stored.seed, device=device, compile=compile
        )
        training._set_state(stored.state(training._state()))
        training.num_iterations = training._statistics.iteration = stored.num_iterations
        return training

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are built by the constructor."""
        keywords = {"seed": self.seed, "device": self.device, "compile": self.is_compiled}
        made = (type(self), (self.name, self.tasks, self.config), keywords)
        iterations = (self.num_iterations, self._statistics.iteration)
        return _rebuilt, (*made, copy_state(self._state()), iterations)

    def _state(self) -> State:
        """All tensors that the next iteration depends on, by group and name."""
        optimizer = self._optimizer.tensors()
        return {"parameters": self.params, "running": self.running, "optimizer": optimizer}

    def _set_state(self, state: State) -> None:
        """Continue from tensors as in `_state`; a missing optimizer stays as it is."""
        with torch.no_grad():  # in place, because the optimizer refers to these tensors
            for group, mine in (("parameters", self.params), ("running", self.running)):
                for name, p in mine.items():
                    p.copy_(state[group][name])
        if "optimizer" in state:
            self._optimizer.restore(state["optimizer"])

    @property
    def _is_regression(self) -> bool:
        return self.learner.problem.kind == "regression"


def _rebuilt(
    training_type: type[FewShotTraining],
    arguments: tuple[Any, ...],
    keywords: Mapping[str, Any],
    state: State,
    iterations: tuple[int, int | None],
) -> FewShotTraining:
    """The learner of a copy or a pickle."""
    training = training_type(*arguments, **keywords)
    training.set_params(dict(state["parameters"]), dict(state["running"]))  # of any dtype
    training._optimizer.restore(state["optimizer"])
    training.require_finite()
    training.num_iterations, training._statistics.iteration = iterations
    return training
