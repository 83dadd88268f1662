"""Tasks for training and validation: sampled from seed and iteration, of the right classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fewshot_runs import (
    GLYPHS,
    ON_GLYPHS,
    Recorded,
    learner,
)
from torch import Tensor

from metarl.fewshot import (
    FewShotBatch,
    FewShotTraining,
    evaluate_fewshot,
    recipe,
)
from metarl.fewshot.datasets.glyphs import GlyphTasks


def test_every_iteration_of_every_seed_samples_different_tasks():
    tasks: Any = Recorded()
    for seed in (0, 1):
        training = learner(tasks=tasks, seed=seed)
        training.iterate()
        training.iterate()
    inputs = torch.cat([batch.support.inputs.flatten() for batch in tasks.batches])
    assert inputs.unique().numel() == inputs.numel()


class RecordsSplits(GlyphTasks):
    """Glyphs that record the splits that are sampled."""

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "requested", set())

    def sample(self, *args: Any, split: str, **others: Any) -> FewShotBatch:
        self.requested.add(split)  # type: ignore[attr-defined] # set above
        return super().sample(*args, split=split, **others)

    def sample_points(self, *args: Any, split: str, **others: Any) -> tuple[Tensor, Tensor]:
        self.requested.add(split)  # type: ignore[attr-defined] # set above
        return super().sample_points(*args, split=split, **others)


@pytest.mark.parametrize("name", ["protonet", "transfer"])
def test_requested_validation_classes_are_trained_on_and_not_used_for_selection(name, tmp_path):
    tasks: Any = RecordsSplits()
    config = recipe(name, "glyphs", **ON_GLYPHS, train_split="train+validation")
    training = FewShotTraining(name, tasks, config)
    training.iterate()
    assert list(training.validate()) == ["train/accuracy"]
    assert tasks.requested == {"train+validation", "train"}
    training.save(tmp_path / "held")
    again = FewShotTraining.load(tmp_path / "held", name, GLYPHS)
    assert again.config.train_split == "train+validation"
    protocol = evaluate_fewshot(training, num_tasks=2).protocol
    assert (protocol["split"], protocol["train_split"]) == ("test", "train+validation")


def test_training_on_missing_validation_classes_is_rejected():
    with pytest.raises(ValueError, match="train_split must be train for sinusoid, which has no"):
        learner(train_split="train+validation")
    with pytest.raises(ValueError, match=r"train_split must be one of .*, got 'all'"):
        learner(train_split="all")
