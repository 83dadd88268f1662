"""Checkpoints without the optimiser: they predict the same, and say that they cannot train on."""

from __future__ import annotations

import pytest
import torch

from metarl.checkpoints import load_checkpoint, read_header, save_checkpoint
from metarl.fewshot import FewShotTraining, evaluate_fewshot, make_tasks, recipe
from metarl.fewshot.small_checkpoints import copy_without_optimizer, holds_optimizer

TASKS = make_tasks("glyphs")


@pytest.fixture
def trained() -> FewShotTraining:
    settings = recipe(
        "protonet", "glyphs", decay_iterations=2, filters=(4, 4), ways=3, train_ways=4
    )
    training = FewShotTraining("protonet", TASKS, settings)
    for _ in range(2):
        training.iterate()
    return training


def test_a_small_checkpoint_predicts_the_same_and_is_a_third_of_the_size(trained, tmp_path):
    trained.save(tmp_path / "whole.safetensors")
    copy_without_optimizer(tmp_path / "whole.safetensors", tmp_path / "small.safetensors")
    tensors, header = load_checkpoint(
        tmp_path / "small.safetensors", agent="fewshot-protonet", environment="glyphs"
    )
    assert {name.split("/")[0] for name in tensors} == {"parameters", "running"}
    assert header["counters"] == {"num_iterations": 2}
    whole = read_header(tmp_path / "whole.safetensors")
    assert (holds_optimizer(whole), holds_optimizer(header)) == (True, False)
    loaded = FewShotTraining.load(tmp_path / "small.safetensors", "protonet", TASKS)
    for name, values in trained.evaluation_params.items():
        assert torch.equal(loaded.evaluation_params[name], values)
    expected, found = (
        evaluate_fewshot(training, num_tasks=4).scores for training in (trained, loaded)
    )
    assert (expected == found).all()


def test_a_checkpoint_that_lost_its_optimiser_without_saying_so_is_refused(trained, tmp_path):
    path = tmp_path / "whole.safetensors"
    trained.save(path)
    tensors, header = load_checkpoint(path, agent="fewshot-protonet", environment="glyphs")
    kept = {name: t for name, t in tensors.items() if not name.startswith("optimizer/")}
    save_checkpoint(path, kept, header)
    with pytest.raises(ValueError, match="must hold optimizer/step/"):
        FewShotTraining.load(path, "protonet", TASKS)


def test_checkpoints_of_format_1_hold_no_optimiser():
    assert not holds_optimizer({"format_version": 1})
