"""Supervised few-shot learning, on the same bilevel core as the agents."""

from typing import TYPE_CHECKING

from metarl.lazy import lazy_attributes

if TYPE_CHECKING:
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

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "DATASETS": "metarl.fewshot.datasets.catalog",
        "LEARNERS": "metarl.fewshot.learners.catalog",
        "MAML": "metarl.fewshot.learners.maml",
        "EpisodeShape": "metarl.fewshot.data.batches",
        "FewShotBatch": "metarl.fewshot.data.batches",
        "FewShotEvaluation": "metarl.evaluation.fewshot_results",
        "FewShotTasks": "metarl.fewshot.data.batches",
        "FewShotTraining": "metarl.fewshot.training",
        "LabeledSet": "metarl.fewshot.data.batches",
        "MAMLConfig": "metarl.fewshot.learners.maml",
        "MeasuredRuns": "metarl.evaluation.fewshot_results",
        "SinusoidTasks": "metarl.fewshot.datasets.curves",
        "adaptation_curve": "metarl.fewshot.evaluation",
        "evaluate_fewshot": "metarl.fewshot.evaluation",
        "make_tasks": "metarl.fewshot.datasets.catalog",
        "recipe": "metarl.fewshot.learners.catalog",
        "tensor_tasks": "metarl.fewshot.datasets.own",
    },
)
