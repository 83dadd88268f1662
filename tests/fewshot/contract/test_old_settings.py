"""Stored settings of MAML and its variants: old forms, and names that fix the algorithm."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from fewshot_runs import TASKS, trained

from metarl.fewshot import FewShotTraining, MAMLConfig, recipe
from metarl.fewshot.contract.old_settings import migrate_learner
from metarl.fewshot.learners.catalog import LEARNERS, StoredLearner, read_learner
from metarl.storage.checkpoints import load_checkpoint, save_checkpoint
from metarl.storage.renamed import with_current_names

OLD_NAMES = ("maml", "fomaml", "boil", "meta-sgd", "maml++", "learned-momentum")
OLD: dict[str, Any] = {
    "hidden_sizes": [8], "shots": 6, "meta_batch_size": 3, "num_inner_steps": 2, "inner_lr": 0.05,
    "mode": "unrolled", "adapted": "all", "rates": "fixed", "multi_step_iterations": 0,
    "first_order_iterations": 0,
}  # fmt: skip


def read_old_learner(name: str, stored: dict[str, Any]) -> StoredLearner:
    """Read settings under the names of earlier versions, as from a checkpoint."""
    settings = with_current_names(f"fewshot-{name}", stored)
    return read_learner(name, settings, source="here")


@pytest.mark.parametrize("name", OLD_NAMES)
@pytest.mark.parametrize(
    ("changes", "present"),
    [
        ({}, "maml"),
        ({"mode": "recurrence"}, "maml"),
        ({"mode": "first_order"}, "fomaml"),
        ({"adapted": "body"}, "boil"),
        ({"adapted": "body", "rates": "momentum", "mode": "first_order"}, "boil"),
        ({"rates": "per-parameter"}, "meta-sgd"),
        ({"rates": "per-layer-per-step"}, "maml++"),
        ({"rates": "momentum", "mode": "first_order"}, "learned-momentum"),
    ],
)
def test_an_old_form_becomes_the_learner_with_its_algorithm(name, changes, present):
    stored = {**OLD, **changes}
    found, config = read_old_learner(name, stored)
    assert found == present
    assert config.differentiation == stored["mode"]
    for setting in ("rates", "num_inner_steps", "inner_lr"):
        assert getattr(config, setting) == stored[setting]
    assert config.adapted == stored["adapted"]


def test_every_combination_of_old_settings_can_still_be_read():
    for mode, adapted, rates, first in itertools.product(
        ("unrolled", "recurrence", "first_order"),
        ("all", "body"),
        ("fixed", "per-parameter", "per-layer-per-step", "momentum"),
        (0, 5),
    ):
        stored = {**OLD, "mode": mode, "adapted": adapted, "rates": rates}
        stored |= {"first_order_iterations": first}
        _, config = read_old_learner("maml", stored)
        assert (config.differentiation, config.adapted, config.rates) == (mode, adapted, rates)


@pytest.mark.parametrize("entry", list(LEARNERS), ids=lambda entry: entry.name)
def test_settings_of_this_version_keep_name_and_values(entry):
    config = recipe(entry.name, "glyphs")
    stored = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(config).items()}
    assert migrate_learner(entry.name, stored) == (entry.name, stored)
    assert read_learner(entry.name, stored, source="here") == (entry.name, config)


def test_no_two_learners_share_settings_and_class():
    types = [(entry.load(), entry.load().config_type) for entry in LEARNERS]
    assert len({learner_type for learner_type, _ in types}) == len(types)
    for name, (_, config_type) in zip((entry.name for entry in LEARNERS), types, strict=True):
        others = [other for entry, (_, other) in zip(LEARNERS, types, strict=True)
                  if entry.name != name]  # fmt: skip
        assert not any(issubclass(config_type, other) for other in others)


def test_settings_that_a_subclass_changes_are_not_those_of_the_name():
    """They would be stored as plain MAML, and be read back as another algorithm."""

    class Disguised(MAMLConfig):
        rates = "per-parameter"  # type: ignore[assignment]

    with pytest.raises(TypeError, match="config must be a MAMLConfig for maml, got a Disguised"):
        FewShotTraining("maml", TASKS, Disguised())


@pytest.mark.parametrize("stored_name", ["maml", "meta-sgd"])
def test_a_checkpoint_of_an_old_form_continues_with_the_same_numbers(tmp_path: Path, stored_name):
    """Stored as `stored_name`, although its settings made it first-order MAML."""
    training = trained(2, "fomaml", num_inner_steps=2)
    training.save(tmp_path / "new")
    tensors, header = load_checkpoint(
        tmp_path / "new", agent="fewshot-fomaml", environment="sinusoid"
    )
    config = {**header["config"], "mode": "first_order", "adapted": "all", "rates": "fixed",
              "first_order_iterations": 0}  # fmt: skip
    old = {**header, "agent": f"fewshot-{stored_name}", "config": config}
    save_checkpoint(tmp_path / "old", tensors, old)
    for name in (stored_name, "fomaml"):
        loaded = FewShotTraining.load(tmp_path / "old", name, TASKS)
        assert (loaded.name, loaded.config) == ("fomaml", training.config)
        one = trained(3, "fomaml", num_inner_steps=2)
        loaded.iterate()
        assert all(torch.equal(p, one.params[key]) for key, p in loaded.params.items())
    with pytest.raises(ValueError, match=f"must be of agent 'fewshot-anil', .*-{stored_name}'"):
        FewShotTraining.load(tmp_path / "old", "anil", TASKS)


@pytest.mark.parametrize("name", ["meta-sgd", "fomaml", "boil"])
def test_settings_of_maml_make_no_variant(name):
    with pytest.raises(TypeError, match=f"config must be a .*Config for {name}, got a MAMLConfig"):
        FewShotTraining(name, TASKS, MAMLConfig())


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("meta-sgd", {"rates": "fixed"}, "whose rates is always 'per-parameter', got 'fixed'; "
         "use the learner maml for that"),
        ("maml", {"rates": "momentum"}, "rates must be left out for maml, .* the learner "
         "learned-momentum for that"),
        ("fomaml", {"differentiation": "unrolled"}, "is always 'first_order', got 'unrolled'; "
         "use the learner maml for that"),
        ("boil", {"adapted": "body"}, "got 'body'; leave it out"),
        ("maml", {"inner_lrr": 1}, "setting of maml .*'inner_lrr'; did you mean 'inner_lr'"),
        ("protonet", {"rates": "fixed"}, "setting of protonet .*'rates'"),
    ],
)  # fmt: skip
def test_contradictory_and_unknown_settings_are_rejected_in_one_sentence(name, changes, message):
    with pytest.raises(ValueError, match=message):
        recipe(name, "sinusoid", **changes)


def test_variants_differ_from_maml_and_from_each_other():
    weights = [trained(3, name, num_inner_steps=2).params["weight_0"] for name in OLD_NAMES]
    assert all(not torch.equal(*pair) for pair in itertools.combinations(weights, 2))
