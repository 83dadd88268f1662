"""Supervised few-shot learning, on the same bilevel core as the agents."""

from metarl.evaluation.fewshot_results import FewShotEvaluation, MeasuredRuns
from metarl.fewshot.data.batches import EpisodeShape, FewShotBatch, FewShotTasks, LabeledSet
from metarl.fewshot.datasets.catalog import DATASETS, make_tasks
from metarl.fewshot.datasets.curves import SinusoidTasks
from metarl.fewshot.datasets.own import tensor_tasks
from metarl.fewshot.evaluation import adaptation_curve, evaluate_fewshot
from metarl.fewshot.learners.catalog import LEARNERS, recipe
from metarl.fewshot.learners.maml import MAML, MAMLConfig
from metarl.fewshot.training import FewShotTraining

__all__ = [
    "DATASETS",
    "LEARNERS",
    "MAML",
    "EpisodeShape",
    "FewShotBatch",
    "FewShotEvaluation",
    "FewShotTasks",
    "FewShotTraining",
    "LabeledSet",
    "MAMLConfig",
    "MeasuredRuns",
    "SinusoidTasks",
    "adaptation_curve",
    "evaluate_fewshot",
    "make_tasks",
    "recipe",
    "tensor_tasks",
]
