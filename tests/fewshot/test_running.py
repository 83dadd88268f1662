"""Running statistics of batch norm: they belong to the parameters of every evaluation."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from fewshot_runs import GLYPHS, on_glyphs

from metarl.fewshot import FewShotTraining
from metarl.fewshot.running import NUM_BATCHES
from metarl.parameters import Params

NAMES = ("protonet", "relation", "maml", "transfer")


def estimated(training: FewShotTraining) -> Params:
    """Statistics of many training batches with the current parameters, from their definition."""
    sampler, learner = training._sampler, training.learner
    found = [
        learner.statistics(
            training.params,
            sampler.training_batch(learner, k, training.device, purpose="statistics"),
        )
        for k in range(NUM_BATCHES)
    ]
    return {name: torch.stack([each[name] for each in found]).mean(0) for name in found[0]}


def running(name: str, **settings: Any) -> FewShotTraining:
    return on_glyphs(name, batch_norm="running", meta_lr=0.1, **settings)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_iterations", [0, 1, 7])
def test_statistics_belong_to_the_parameters_at_any_time(name, num_iterations):
    training = running(name)
    training.validate()
    training.learn(num_iterations)
    used = training.evaluation_params
    for key, wanted in estimated(training).items():
        torch.testing.assert_close(used[key], wanted)


def test_statistics_are_estimated_once_for_each_iteration():
    training, calls = running("protonet"), []
    statistics = training.learner.statistics

    def counted(*arguments: Any) -> Params:
        calls.append(arguments)
        return statistics(*arguments)

    training.learner.statistics = counted  # type: ignore[method-assign]
    for _ in range(2):
        training.validate()
    assert len(calls) == NUM_BATCHES
    training.iterate()
    assert len(calls) == NUM_BATCHES  # not by training
    training.validate()
    assert len(calls) == 2 * NUM_BATCHES


def test_evaluation_in_between_does_not_change_training():
    alone, watched = running("protonet").learn(4), running("protonet")
    for _ in range(4):
        watched.iterate()
        watched.validate()
    assert all(torch.equal(p, watched.params[name]) for name, p in alone.params.items())
    assert alone.validate() == watched.validate()


def test_stored_statistics_are_used_until_training_continues(tmp_path: Path):
    """Files of earlier versions have averages of another kind, which their scores belong to."""
    training = running("protonet").learn(2)
    training.save(tmp_path / "checkpoint.safetensors")
    loaded = FewShotTraining.load(tmp_path / "checkpoint.safetensors", "protonet", GLYPHS)
    for name, stored in loaded.running.items():
        torch.testing.assert_close(stored, estimated(training)[name])
        stored.fill_(2.0)
    for each in (loaded, copy.deepcopy(loaded)):
        assert all((each.evaluation_params[name] == 2).all() for name in loaded.running)
    loaded.iterate()
    assert not any((loaded.evaluation_params[name] == 2).all() for name in loaded.running)


def test_forgotten_statistics_are_estimated_again():
    training = running("protonet").learn(1)
    wanted = {name: p.clone() for name, p in training.evaluation_params.items()}
    for values in training.running.values():
        values.fill_(2.0)
    training.forget_statistics()
    assert all(torch.equal(p, wanted[name]) for name, p in training.evaluation_params.items())
