"""Checkpoints of few-shot learners: what they hold, and continuing from them."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from fewshot_runs import (
    GLYPHS,
    TASKS,
    learner,
    on_glyphs,
    sampled,
    trained,
)
from safetensors.torch import save

from metarl.fewshot import (
    LEARNERS,
    FewShotTraining,
)
from metarl.storage.checkpoints import load_checkpoint, save_checkpoint


def test_a_saved_and_loaded_learner_predicts_the_same(tmp_path: Path):
    training = trained(3, activation="tanh", hidden_sizes=(8, 4))
    training.save(tmp_path / "maml")
    loaded = FewShotTraining.load(tmp_path / "maml", "maml", TASKS)
    assert (loaded.config, loaded.seed, loaded.num_iterations) == (training.config, 0, 3)
    batch = sampled()
    for one in (training, loaded):
        assert not any(p.requires_grad for p in one.adapt(batch.support).params.values())
    actual, expected = (
        one.predict(one.adapt(batch.support), batch.query) for one in (loaded, training)
    )
    assert torch.equal(actual, expected)


def test_the_checkpoint_of_another_learner_is_rejected(tmp_path: Path):
    trained(1).save(tmp_path / "maml")
    with pytest.raises(
        ValueError, match="must be of agent 'fewshot-anil', it is of 'fewshot-maml'"
    ):
        FewShotTraining.load(tmp_path / "maml", "anil", TASKS)
    tensors, header = load_checkpoint(
        tmp_path / "maml", agent="fewshot-maml", environment="sinusoid"
    )
    save_checkpoint(tmp_path / "other", tensors, {**header, "environment": "glyphs"})
    with pytest.raises(ValueError, match="must be of environment 'sinusoid', it is of 'glyphs'"):
        FewShotTraining.load(tmp_path / "other", "maml", TASKS)


def test_a_checkpoint_of_format_1_still_predicts(tmp_path: Path):
    training = trained(2)
    training.save(tmp_path / "maml")
    tensors, header = load_checkpoint(
        tmp_path / "maml", agent="fewshot-maml", environment="sinusoid"
    )
    plain = {k.removeprefix("parameters/"): v for k, v in tensors.items() if "optim" not in k}
    old = json.dumps({**header, "format_version": 1})
    (tmp_path / "old").write_bytes(save(plain, metadata={"metarl": old}))
    loaded = FewShotTraining.load(tmp_path / "old", "maml", TASKS)
    assert loaded.num_iterations == 2
    assert all(torch.equal(p, training.params[name]) for name, p in loaded.params.items())


def test_settings_of_an_earlier_version_are_completed_and_saved_in_full(tmp_path: Path):
    training = trained(1)
    training.save(tmp_path / "new")
    tensors, header = load_checkpoint(
        tmp_path / "new", agent="fewshot-maml", environment="sinusoid"
    )
    earlier = ("shots", "meta_batch_size", "num_inner_steps", "inner_lr", "meta_lr",
               "hidden_sizes", "activation")  # fmt: skip
    held = {name: header["config"][name] for name in earlier}
    held["mode"] = header["config"]["differentiation"]
    save_checkpoint(tmp_path / "old", tensors, {**header, "config": held})
    loaded = FewShotTraining.load(tmp_path / "old", "maml", TASKS)
    assert loaded.config == training.config
    loaded.save(tmp_path / "again")
    header = load_checkpoint(tmp_path / "again", agent="fewshot-maml", environment="sinusoid")[1]
    assert header["config"] == json.loads(json.dumps(asdict(training.config)))


def test_parameters_that_are_not_finite_are_not_saved(tmp_path: Path):
    training = trained(1)
    training.params["bias_0"] += math.nan
    with pytest.raises(FloatingPointError, match="parameter bias_0 must be finite"):
        training.save(tmp_path / "maml")
    assert not (tmp_path / "maml").exists()


@pytest.mark.parametrize("stops", [(0,), (2,), (1, 3)])
def test_a_saved_and_loaded_learner_continues_as_if_never_stopped(tmp_path: Path, stops):
    straight, resumed = learner(seed=3), learner(seed=3)
    expected = [straight.iterate() for _ in range(5)]
    seen = []
    for iteration in range(5):
        if iteration in stops:
            resumed.save(tmp_path / "maml")
            resumed = FewShotTraining.load(tmp_path / "maml", "maml", TASKS)
        seen.append(resumed.iterate())
    assert seen == expected
    assert all(torch.equal(p, straight.params[name]) for name, p in resumed.params.items())


@pytest.mark.parametrize("name", [entry.name for entry in LEARNERS])
def test_every_learner_trains_on_images_and_resumes_bitwise(tmp_path: Path, name):
    schedule: dict[str, Any] = {"schedule": "cosine", "decay_iterations": 10}
    straight, stopped = (on_glyphs(name, seed=4, **schedule) for _ in range(2))
    initial = {key: p.clone() for key, p in straight.params.items()}
    expected = [straight.iterate() for _ in range(3)]
    seen = [stopped.iterate()]
    stopped.save(tmp_path / "one")
    resumed = FewShotTraining.load(tmp_path / "one", name, GLYPHS)
    seen += [resumed.iterate() for _ in range(2)]
    assert seen == expected
    for key, p in straight.evaluation_params.items():
        assert torch.equal(resumed.evaluation_params[key], p)
    assert any(not torch.equal(p, initial[key]) for key, p in straight.params.items())
    assert resumed.validate() == straight.validate()


def test_paths_may_be_text(tmp_path: Path):
    training = trained(1)
    training.save(f"{tmp_path}/maml.safetensors")
    loaded = FewShotTraining.load(f"{tmp_path}/maml.safetensors", "maml", TASKS)
    assert torch.equal(loaded.params["weight_0"], training.params["weight_0"])
