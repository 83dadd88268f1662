"""The ranges of MAML-TRPO's settings."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest

from metarl.agents import MAMLTRPOConfig

OUT_OF_RANGE = [
    *((name, 0, "must be 1 or more, got 0") for name in
      ("meta_batch_size", "num_episodes", "cg_iterations", "line_search_steps", "chunk_size")),
    ("num_inner_steps", -1, "must be 0 or more, got -1"),
    *((name, value, rf"must lie in \(0, ∞\), got {value}")
      for name in ("inner_lr", "extra_step_lr_factor", "initial_std", "min_std", "max_kl_nats",
                   "action_divisor")
      for value in (0.0, -1.0, math.inf, math.nan)),
    ("cg_damping", -1e-9, r"must lie in \[0, ∞\), got -1e-09"),
    *((name, value, rf"must lie in \[0, 1\], got {value}")
      for name in ("gamma", "gae_lambda") for value in (-0.1, 1.1)),
    *(("fisher_fraction", value, rf"must lie in \(0, 1\], got {value}") for value in (0.0, 1.1)),
    *(("backtrack_ratio", value, rf"must lie in \(0, 1\), got {value}") for value in (0.0, 1.0)),
    ("hidden_sizes", (8, 0), "must be 1 or more, got 0"),
    ("activation", "sine", "must be one of relu, tanh, got 'sine'"),
    ("estimator", "ratio", "must be one of log_prob, lvc, dice, loaded_dice, taypo2, dr, tmaml, "),
    ("sampling_credit", "yes", "must be one of off, on, forced, got 'yes'"),
    ("baseline", "net", "must be one of auto, linear, projection, none, got 'net'"),
    ("policy_net", "conv", "must be one of auto, mlp, cnn, module:factory, got 'conv'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "message"), OUT_OF_RANGE)
def test_settings_out_of_range_are_rejected(name, value, message):
    with pytest.raises(ValueError, match=f"{name} {message}"):
        MAMLTRPOConfig(**{name: value})


@pytest.mark.parametrize(
    "settings",
    [
        {"cg_damping": 0.0, "gamma": 0.0, "gae_lambda": 0.0, "fisher_fraction": 1.0},
        {"gamma": 1.0, "hidden_sizes": (), "chunk_size": 1},
    ],
)
def test_settings_at_the_ends_of_their_ranges_are_accepted(settings):
    config = MAMLTRPOConfig(**settings)
    assert {name: getattr(config, name) for name in settings} == settings


def test_bootstrapped_returns_need_a_discount():
    with pytest.raises(ValueError, match="gamma must be below 1 with bootstrap_truncated"):
        MAMLTRPOConfig(bootstrap_truncated=True, gamma=1.0)


def test_bootstrapped_returns_need_a_baseline():
    message = "baseline must not be none with bootstrap_truncated, .* use baseline linear"
    with pytest.raises(ValueError, match=message):
        MAMLTRPOConfig(bootstrap_truncated=True, baseline="none")
    assert MAMLTRPOConfig(bootstrap_truncated=True, baseline="linear").bootstrap_truncated


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"estimator": "tmaml_fixed", "baseline": "none"},
            "baseline must not be none with estimator tmaml_fixed, which uses its values",
        ),
        (
            {"estimator": "lvc", "sampling_credit": "on"},
            "sampling_credit must be off or forced with estimator lvc",
        ),
        (
            {"num_inner_steps": 0, "sampling_credit": "on"},
            "sampling_credit must be off without inner steps, got on",
        ),
    ],
)
def test_estimators_that_contradict_other_settings_are_rejected(settings, message):
    with pytest.raises(ValueError, match=message):
        MAMLTRPOConfig(**settings)


def test_the_sampling_credit_can_be_forced():
    assert MAMLTRPOConfig(estimator="lvc", sampling_credit="forced").estimator == "lvc"
    assert MAMLTRPOConfig(estimator="first_order", sampling_credit="on").baseline == "auto"


def test_every_setting_with_a_range_is_checked():
    checked = {name for name, _, _ in OUT_OF_RANGE}
    switches = {"scale_observations", "normalize_advantages", "bootstrap_truncated"}
    assert checked == {field.name for field in fields(MAMLTRPOConfig)} - switches
