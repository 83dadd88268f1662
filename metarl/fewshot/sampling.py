"""Training and validation tasks of a few-shot learner, sampled from seed and iteration."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from metarl.fewshot.contract.interface import FewShotLearner
from metarl.fewshot.contract.problem import Problem
from metarl.fewshot.contract.settings import FewShotSettings
from metarl.fewshot.data.batches import (
    EpisodeRanges,
    EpisodeShape,
    FewShotBatch,
    FewShotTasks,
    VariableTasks,
)
from metarl.fewshot.learners.transfer import PointTasks, Transfer
from metarl.seeding import torch_generator

__all__ = ["TaskSampler"]

_VALIDATION_TASKS = 100


@dataclass(frozen=True)
class TaskSampler:
    """Tasks of a data set for a learner's settings; the same arguments give the same tasks.

    Raises:
        ValueError: if train_split names validation classes and the data set has none.
    """

    tasks: FewShotTasks
    config: FewShotSettings
    seed: int

    def __post_init__(self) -> None:
        tasks, split = self.tasks, self.config.train_split
        has_validation = tasks.kind == "classification" and "validation" in tasks.splits
        if split != "train" and not has_validation:
            raise ValueError(
                f"train_split must be train for {tasks.name}, which has no validation "
                f"classes, got {split!r}"
            )

    @property
    def validation_split(self) -> str:
        """The validation classes if the learner is not trained on them, else the training ones."""
        kept = self.config.train_split == "train" and "validation" in self.tasks.splits
        return "validation" if kept else "train"

    def problem(self, device: torch.device) -> Problem:
        """Inputs and outputs; for regression, a task is sampled to count the outputs."""
        tasks, config = self.tasks, self.config
        if tasks.kind == "classification":
            num_classes = (
                tasks.num_classes(config.train_split) if isinstance(tasks, PointTasks) else 0
            )
            return Problem(tasks.kind, tasks.input_shape, config.ways, num_classes)
        batch = self._sample(1, EpisodeShape(1, 1, 1), config.train_split, device)
        return Problem(tasks.kind, tasks.input_shape, batch.query.targets.shape[-1])

    def training_batch(
        self,
        learner: FewShotLearner,
        iteration: int,
        device: torch.device,
        *,
        purpose: str = "tasks",
    ) -> FewShotBatch:
        """Episodes of a training iteration, or labeled points for the transfer baseline.

        Batches of another purpose are independent of the ones for training.
        """
        config = self.config
        if isinstance(learner, Transfer):
            assert isinstance(self.tasks, PointTasks)
            generator = torch_generator(self.seed, purpose, iteration, device=device)
            return learner.sample_batch(self.tasks, generator)
        sizes = config.train_episodes(learner.problem)
        return self._sample(
            config.meta_batch_size,
            sizes,
            config.train_split,
            device,
            iteration=iteration,
            purpose=purpose,
        )

    def validation_batch(self, problem: Problem, device: torch.device) -> FewShotBatch:
        """The fixed 100 tasks by which the best checkpoint of a run is selected."""
        shape, split = self.config.test_shape(problem), self.validation_split
        return self._sample(_VALIDATION_TASKS, shape, split, device, purpose="validation")

    def smallest_batch(self, problem: Problem, device: torch.device) -> FewShotBatch:
        """One training task with one point per class."""
        shape = replace(self.config.train_shape(problem), shots=1, queries=1)
        return self._sample(1, shape, self.config.train_split, device)

    def require_episodes(self, learner: FewShotLearner, device: torch.device) -> None:
        """Sample a training and a validation episode, so that errors appear at construction.

        Raises:
            ValueError: if the data set has too few classes or points.
        """
        config, problem = self.config, learner.problem
        if not isinstance(learner, Transfer):
            largest = config.train_shape(problem)
            largest.require_memory(config.meta_batch_size, self.tasks.input_shape)
            self._sample(1, config.train_episodes(problem), config.train_split, device)
        if problem.kind == "classification":
            self._sample(1, config.test_shape(problem), self.validation_split, device)

    def _sample(
        self,
        num_tasks: int,
        sizes: EpisodeShape | EpisodeRanges,
        split: str,
        device: torch.device,
        *,
        iteration: int = 0,
        purpose: str = "tasks",
    ) -> FewShotBatch:
        generator = torch_generator(self.seed, purpose, iteration, device=device)
        if isinstance(sizes, EpisodeShape):
            sizes.require_memory(num_tasks, self.tasks.input_shape)
            return self.tasks.sample(num_tasks, sizes, split=split, generator=generator)
        if not isinstance(self.tasks, VariableTasks):
            raise ValueError(
                f"min_ways and min_shots must be left out for {self.tasks.name}, whose episodes "
                "all have the same size"
            )
        return self.tasks.sample_variable(num_tasks, sizes, split=split, generator=generator)
