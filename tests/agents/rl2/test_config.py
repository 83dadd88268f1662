"""Settings of RL²: every range, and invalid combinations."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest

from metarl.agents import RL2Config

OUT_OF_RANGE = [
    *((name, 0, "must be 1 or more, got 0") for name in
      ("num_episodes", "meta_batch_size", "memory_size", "num_layers", "num_heads", "num_epochs",
       "num_minibatches", "cg_iterations", "line_search_steps", "anneal_iterations",
       "backprop_steps")),
    *((name, (8, 0), "must be 1 or more, got 0") for name in
      ("encoder_sizes", "hidden_sizes", "value_hidden_sizes")),
    *((name, value, rf"must lie in \(0, ∞\), got {value}")
      for name in ("initial_std", "min_std", "learning_rate", "clip", "max_gradient_norm",
                   "max_kl_nats", "action_divisor", "value_clip", "reward_clip")
      for value in (0.0, -1.0, math.inf, math.nan)),
    *((name, -1e-9, r"must lie in \[0, ∞\), got -1e-09")
      for name in ("value_coefficient", "entropy_coefficient", "cg_damping")),
    *((name, value, rf"must lie in \[0, 1\], got {value}")
      for name in ("gamma", "gae_lambda") for value in (-0.1, 1.1)),
    *(("fisher_fraction", value, rf"must lie in \(0, 1\], got {value}") for value in (0.0, 1.1)),
    *(("backtrack_ratio", value, rf"must lie in \(0, 1\), got {value}") for value in (0.0, 1.0)),
    ("policy_net", "conv", "must be one of auto, mlp, cnn, module:factory, got 'conv'"),
    ("activation", "sine", "must be one of relu, tanh, got 'sine'"),
    ("memory", "rnn", "must be one of gru, lstm, transformer, none, got 'rnn'"),
    ("head", "linear", "must be one of mlp, hypernetwork, got 'linear'"),
    ("optimizer", "a2c", "must be one of ppo, trpo, got 'a2c'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "message"), OUT_OF_RANGE)
def test_settings_out_of_range_are_rejected(name, value, message):
    with pytest.raises(ValueError, match=f"{name} {message}"):
        RL2Config(**{name: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"num_minibatches": 5, "meta_batch_size": 4},
            "num_minibatches must be at most the 4 trials of meta_batch_size, got 5",
        ),
        (
            {"backprop_steps": 20, "memory": "transformer"},
            "backprop_steps must be None with a transformer, which attends to whole trials, got 20",
        ),
        (
            {"include_previous_step": True, "memory": "none"},
            "include_previous_step must be False without a memory, got True; "
            "use memory gru, lstm or transformer",
        ),
        (
            {"backprop_steps": 20, "optimizer": "trpo"},
            "backprop_steps must be None with trpo, got 20; use ppo",
        ),
        (
            {"initial_std": 0.1, "min_std": 0.5},
            "initial_std must be at least 0.5, the value of min_std, got 0.1; below it",
        ),
        (
            {"clear_each_episode": True, "memory": "none"},
            "clear_each_episode must be False without a memory to clear, got True; use memory gru",
        ),
        (
            {"value_clip": 0.2, "optimizer": "trpo"},
            "value_clip must be None with trpo, got 0.2; use ppo",
        ),
        (
            {"final_gamma": 0.995, "gamma": 1.0, "anneal_iterations": 3},
            "final_gamma must be None if gamma is 1, its maximum, got 0.995",
        ),
        (
            {"final_gamma": 0.995},
            "final_gamma must be None without anneal_iterations, got 0.995; set the number",
        ),
        (
            {"final_gamma": 0.9, "gamma": 0.95, "anneal_iterations": 3},
            r"final_gamma must lie in \[0.95, 1\), got 0.9",
        ),
    ],
)
def test_invalid_combinations_of_settings_are_rejected(settings, message):
    with pytest.raises(ValueError, match=message):
        RL2Config(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"gamma": 0.0, "gae_lambda": 0.0, "fisher_fraction": 1.0, "cg_damping": 0.0},
        {"gamma": 1.0, "gae_lambda": 1.0, "value_coefficient": 0.0, "entropy_coefficient": 0.0},
        {"num_episodes": 1, "meta_batch_size": 4, "num_minibatches": 4, "backprop_steps": 1},
        {"encoder_sizes": (), "hidden_sizes": (), "value_hidden_sizes": (), "value_clip": 0.1},
        {"anneal_iterations": 1, "action_divisor": 2.0, "backprop_steps": 20, "memory": "lstm"},
    ],
)
def test_settings_at_the_ends_of_their_ranges_are_accepted(settings):
    config = RL2Config(**settings)
    assert {name: getattr(config, name) for name in settings} == settings


def test_every_setting_with_a_range_is_checked():
    checked = {name for name, _, _ in OUT_OF_RANGE}
    switches = {
        "clear_each_episode", "privileged_critic", "use_expected_rewards", "normalize_observations",
        "normalize_rewards", "include_previous_step", "scale_observations",
    }  # fmt: skip
    of_others = {"final_gamma"}  # between gamma and 1
    assert checked == {field.name for field in fields(RL2Config)} - switches - of_others


def test_learning_rate_and_entropy_fall_to_zero_when_annealed():
    config = RL2Config(learning_rate=1e-2, anneal_iterations=4, entropy_coefficient=0.2)
    found = [config.at_iteration(done) for done in range(6)]
    rates = [now.learning_rate for now in found]
    assert rates == pytest.approx([1e-2, 7.5e-3, 5e-3, 2.5e-3, 0, 0], abs=1e-9)
    entropies = [now.entropy_coefficient for now in found]
    assert entropies == pytest.approx([0.2, 0.15, 0.1, 0.05, 0, 0])
    assert {now.gamma for now in found} == {config.gamma}
    assert RL2Config().at_iteration(100) == RL2Config()


def test_the_annealed_discount_increases():
    config = RL2Config(gamma=0.9, final_gamma=0.999, anneal_iterations=4)
    horizons = [1 / (1 - config.at_iteration(done).gamma) for done in range(6)]
    assert horizons == pytest.approx([10, 10**1.5, 100, 10**2.5, 1000, 1000])
