"""Each choice of each learner's settings trains, adapts, predicts and has an effect."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import pytest
import torch
from fewshot_episodes import generator
from fewshot_runs import GLYPHS
from torch import Tensor

from metarl.fewshot import LEARNERS, EpisodeShape, FewShotTraining, recipe

SMALL: dict[str, Any] = {
    "backbone": "conv", "filters": (2, 2), "hidden_sizes": (6,), "meta_batch_size": 2, "ways": 3,
    "queries": 2, "train_ways": None, "schedule": "constant", "decay_iterations": 1,
}  # fmt: skip
FEW_STEPS: dict[str, dict[str, Any]] = {
    "maml": {"num_inner_steps": 2},
    "meta-sgd": {"num_inner_steps": 2},
    "boil": {"num_inner_steps": 2},
    "fomaml": {"num_inner_steps": 2},
    "reptile": {"num_inner_steps": 2, "num_test_steps": 2},
    "imaml": {"num_inner_steps": 3},
    "maml++": {"num_inner_steps": 2},
    "transfer": {"queries": None, "head_steps": 3},
}
OF_PERCEPTRONS = ("activation",)
SAME_NUMBERS = {("differentiation", "recurrence")}
"""Choices that change memory and speed, not numbers."""


class Outcome(NamedTuple):
    """The tensors that training and prediction end with."""

    params: dict[str, Tensor]
    outputs: Tensor


class Option(NamedTuple):
    learner: str
    setting: str
    value: Any


def choices(hint: Any) -> tuple[Any, ...]:
    """The values of a Literal (also in a union) or of a bool; () for other types."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    if hint is bool:
        return (False, True)
    return tuple(value for part in get_args(hint) for value in choices(part))


def options() -> list[Option]:
    """All options of all learners except the values of the small configuration."""
    found = []
    for entry in LEARNERS:
        config_type = entry.load().config_type
        hints = get_type_hints(config_type)
        for field in dataclasses.fields(config_type):
            base = getattr(small_config(entry.name, field.name), field.name)
            values = [value for value in choices(hints[field.name]) if value != base]
            found += [Option(entry.name, field.name, value) for value in values]
    return found


def small_config(name: str, setting: str = "", **changes: Any) -> Any:
    settings = {**SMALL, **FEW_STEPS.get(name, {}), "batch_norm": "batch"}
    if name == "relation":
        settings["pooling"] = "max"
    if setting in OF_PERCEPTRONS:
        settings["backbone"] = "mlp"
    return recipe(name, "glyphs", **{**settings, **changes})


def accepted(name: str, setting: str, value: Any) -> Any:
    """The settings, or the sentence that rejects them."""
    try:
        return small_config(name, setting, **{setting: value})
    except ValueError as error:
        return str(error)


def outcome(name: str, config: Any) -> Outcome:
    training = FewShotTraining(name, GLYPHS, config, seed=1)
    for _ in range(2):
        training.iterate()
    support, query = GLYPHS.sample(2, EpisodeShape(3, 1, 2), split="test", generator=generator())
    return Outcome(training.params, training.predict(training.adapt(support), query))


@cache
def base_outcome(name: str, setting: str) -> Outcome:
    return outcome(name, small_config(name, setting))


def are_equal(one: Outcome, other: Outcome) -> bool:
    if one.params.keys() != other.params.keys() or not torch.equal(one.outputs, other.outputs):
        return False
    return all(torch.equal(p, other.params[name]) for name, p in one.params.items())


@pytest.mark.parametrize("option", options(), ids=lambda option: "-".join(map(str, option)))
def test_an_option_has_an_effect_or_is_rejected_in_one_sentence(option: Option) -> None:
    name, setting, value = option
    family = setting if setting in OF_PERCEPTRONS else ""
    config = accepted(name, setting, value)
    if isinstance(config, str):
        sentence = config
        assert sentence.startswith(setting)
        assert "\n" not in sentence
        assert repr(value) in sentence
        return
    base, found = base_outcome(name, family), outcome(name, config)
    assert found.outputs.shape == (2, 6, 3)
    assert not found.outputs.isnan().any()
    if (setting, value) in SAME_NUMBERS:
        torch.testing.assert_close(found.outputs, base.outputs, rtol=1e-3, atol=1e-4)
    else:
        assert not are_equal(base, found)


def test_the_small_configuration_is_reproducible() -> None:
    """Otherwise any difference would count as an effect."""
    for name in ("maml", "reptile", "transfer"):
        assert are_equal(base_outcome(name, ""), outcome(name, small_config(name)))


def test_options_are_found_in_all_settings() -> None:
    found = options()
    assert {option.learner for option in found} == {entry.name for entry in LEARNERS}
    for wanted in (
        Option("anil", "differentiation", "first_order"),
        Option("boil", "rates", "momentum"),
        Option("matching", "full_context", True),
        Option("reptile", "inner_optimizer", "sgd"),
        Option("siamese", "activation", "tanh"),
    ):
        assert wanted in found
