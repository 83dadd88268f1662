"""Data that do not fit a few-shot learner, and checkpoints that do not fit their data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fewshot_runs import GLYPHS, TASKS, on_glyphs, sampled, trained

from metarl.fewshot import EpisodeShape, FewShotBatch, FewShotTraining, evaluate_fewshot, recipe
from metarl.fewshot.data.class_tasks import ClassTasks
from metarl.fewshot.datasets.own import tensor_tasks
from metarl.fewshot.evaluation import require_testable
from metarl.finite import NonFiniteError
from metarl.seeding import torch_generator


def glyphs() -> FewShotBatch:
    shape = EpisodeShape(3, 2, 1)
    return GLYPHS.sample(2, shape, split="train", generator=torch_generator(0, "mistakes"))


@pytest.mark.parametrize("name", ["maml", "protonet"])
def test_labels_that_are_not_classes_of_the_episode_are_rejected(name):
    training, support = on_glyphs(name), glyphs().support
    for label in (-1, 3):
        wrong = support._replace(targets=support.targets.clone().fill_(label))
        message = f"targets of support must be classes 0 to 2 of their task, got {label}"
        with pytest.raises(ValueError, match=message):
            training.adapt(wrong)
    with pytest.raises(ValueError, match=r"must be int64 \[2, 6\], got torch.float32 \[2, 6\]"):
        training.adapt(support._replace(targets=support.targets.float()))


@pytest.mark.parametrize("name", ["maml", "protonet"])
def test_inputs_that_do_not_fit_are_rejected(name):
    training, (support, query) = on_glyphs(name), glyphs()
    colored = support.inputs.expand(-1, -1, 3, -1, -1)
    message = r"inputs of support must be \[tasks, points, 1, 28, 28\], got \[2, 6, 3, 28, 28\]"
    with pytest.raises(ValueError, match=message):
        training.adapt(support._replace(inputs=colored))
    adapted = training.adapt(support)
    with pytest.raises(ValueError, match=r"inputs of query must be .* got \[6, 1, 28, 28\]"):
        training.predict(adapted, query._replace(inputs=support.inputs[0]))
    for part, use in ((support, training.adapt), (query, lambda q: training.predict(adapted, q))):
        spoiled = part.inputs.clone()
        spoiled[1, 0, 0, 0, 0] = torch.nan
        with pytest.raises(NonFiniteError, match=r"inputs of .* of task 1 must be finite"):
            use(part._replace(inputs=spoiled))


def test_data_that_are_not_finite_are_named_and_not_the_rates(monkeypatch):
    training = trained(1)
    batch = sampled(3)
    batch.support.inputs[2, 0] = torch.nan
    monkeypatch.setattr(type(TASKS), "sample", lambda *_, **__: batch)
    with pytest.raises(FloatingPointError, match=r"iteration 2: data of task 2 must be finite$"):
        training.iterate()


def points(num_classes: int, **settings: object) -> ClassTasks:
    labels = torch.arange(num_classes).repeat_interleave(8)
    inputs = torch.rand(len(labels), 4, generator=torch_generator(0, "points"))
    return tensor_tasks(inputs, labels, **settings)  # type: ignore[arg-type] # its own


def test_a_checkpoint_is_rejected_with_other_classes(tmp_path: Path):
    """Other classes in the folder are another split: test classes may have been trained on."""
    config = recipe("protonet", "own", ways=2, shots=1, queries=2, train_ways=2)
    FewShotTraining("protonet", points(12), config).save(tmp_path / "a")
    again = FewShotTraining.load(tmp_path / "a", "protonet", points(12))
    assert evaluate_fewshot(again, num_tasks=2, queries=2).scores.shape == (1, 2)
    for other in (points(13), points(12, split_seed=1)):
        with pytest.raises(
            ValueError, match=r"must be the one that .*/a was trained on: split_digest was"
        ):
            FewShotTraining.load(tmp_path / "a", "protonet", other)


def test_query_points_of_a_curve_are_rejected_before_training():
    with pytest.raises(ValueError, match="queries of the test must be left out for sinusoid"):
        require_testable(trained(0), 5)
