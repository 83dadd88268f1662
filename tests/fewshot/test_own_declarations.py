"""Declarations of a user's learners and data sets that the library checks or applies."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

from metarl.fewshot import DATASETS, FewShotTraining
from metarl.fewshot.contract.metric import MetricLearner, SharedTasks
from metarl.fewshot.contract.settings import FewShotSettings
from metarl.fewshot.datasets.catalog import make_tasks
from metarl.fewshot.datasets.curves import SinusoidTasks
from metarl.fewshot.learners.catalog import LEARNERS, register_learner
from metarl.fewshot.learners.maml import MAML
from metarl.registry import Entry


class Lazy(MAML):
    """Adapts nothing."""

    def choose_adapted_names(self) -> tuple[str, ...]:
        return ()


class Nearest(MetricLearner):
    """Needs classes, as metric learners do."""

    config_type: ClassVar[type[Any]] = FewShotSettings
    adaptation_description = "none"

    def predict(self, adapted: SharedTasks, inputs: Any, mask: Any = None) -> torch.Tensor:
        raise AssertionError(adapted, inputs, mask)


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry in (DATASETS, LEARNERS):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))


def test_a_metric_learner_of_a_user_needs_classes_unless_it_says_otherwise() -> None:
    register_learner("nearest", Nearest, description="a toy")
    with pytest.raises(ValueError, match=r"^learner nearest needs a classification data set"):
        FewShotTraining("nearest", make_tasks("sinusoid"))


def test_a_learner_that_adapts_no_parameters_is_an_error() -> None:
    register_learner("lazy", Lazy, description="a toy")
    message = "^choose_adapted_names of Lazy must return the name of at least one parameter"
    with pytest.raises(ValueError, match=message):
        FewShotTraining("lazy", make_tasks("sinusoid"))


def test_a_data_set_has_the_name_under_which_it_is_registered() -> None:
    DATASETS.register(Entry("mine", SinusoidTasks, "a toy"))
    tasks = make_tasks("mine")
    assert tasks.name == "mine"
    assert make_tasks("sinusoid").name == "sinusoid"
