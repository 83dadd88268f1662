"""Supervised few-shot learning on the same bilevel core that the agents use."""

from metarl.fewshot.batches import EpisodeShape, FewShotBatch, FewShotTasks, LabelledSet
from metarl.fewshot.catalog import DATASETS, make_tasks
from metarl.fewshot.evaluation import FewShotEvaluation, adaptation_curve, evaluate_fewshot
from metarl.fewshot.learners import LEARNERS, recipe
from metarl.fewshot.maml import MAML, MAMLConfig
from metarl.fewshot.measured_runs import MeasuredRuns
from metarl.fewshot.own_data import tensor_tasks
from metarl.fewshot.sinusoid import SinusoidTasks
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
    "LabelledSet",
    "MAMLConfig",
    "MeasuredRuns",
    "SinusoidTasks",
    "adaptation_curve",
    "evaluate_fewshot",
    "make_tasks",
    "recipe",
    "tensor_tasks",
]
