"""The horizon does not change the results of agents whose episodes are shorter, nor their cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from maml_agents import batch_of
from torch import Tensor

import metarl.rl.masked
from metarl.agents import MAMLTRPO, RL2, MAMLTRPOConfig, RL2Config
from metarl.bilevel.adaptation import adapt
from metarl.estimators.catalog import ESTIMATORS
from metarl.evaluation.evaluator import evaluate
from metarl.evaluation.protocol import PRESETS
from metarl.parameters import Params
from metarl.rl.objectives import PolicyBatch
from metarl.rollouts.episodes import collect
from metarl.scripts.benchmark.short_episodes import ShortEpisodes

SETTINGS: dict[str, Any] = {
    "meta_batch_size": 3, "num_episodes": 5, "hidden_sizes": (8,), "chunk_size": 2,
    "cg_damping": 0.1, "cg_iterations": 5,  # rounding errors stay small
}  # fmt: skip
RL2_SETTINGS: dict[str, Any] = {
    "meta_batch_size": 4, "num_episodes": 2, "memory_size": 8, "value_hidden_sizes": (4,),
    "num_epochs": 1, "num_minibatches": 4,
}  # fmt: skip


def maml(horizon: int = 12, **settings: Any) -> MAMLTRPO:
    family = ShortEpisodes(horizon, shortest=1, longest=12)
    return MAMLTRPO(family, MAMLTRPOConfig(**(SETTINGS | settings)))


def untimed(metrics: dict[str, float]) -> dict[str, float]:
    return {k: v for k, v in metrics.items() if not k.startswith("time/") or k == "time/env_steps"}


@pytest.mark.parametrize("settings", [{}, {"num_inner_steps": 2, "bootstrap_truncated": True}])
def test_maml_trains_in_the_same_way_under_any_horizon(settings):
    short, long = maml(12, **settings), maml(1000, **settings)
    for _ in range(3):
        assert untimed(short.iterate()) == untimed(long.iterate())
    assert all(torch.equal(p, long.params[name]) for name, p in short.params.items())


def phases(learner: MAMLTRPO) -> tuple[PolicyBatch, PolicyBatch, Params]:
    """Support, query and adapted parameters of three tasks, in float64."""
    learner.params = {name: p.double() for name, p in learner.params.items()}
    family = learner.family
    env = family.make_batch(family.sample_tasks(3, seed=1), num_envs=5)
    resets, noise = torch.Generator(), torch.Generator().manual_seed(1)

    def phase(params: Params) -> PolicyBatch:
        player = learner.play(3, 5, noise)
        player.params = {name: p.float() for name, p in params.items()}
        return double(batch_of(learner, player.params, collect(env, player.actor, resets)))

    start = learner.play(3, 5, noise).params
    support = phase(start)
    adapted = start if learner.config.num_inner_steps == 0 else adapt_once(learner, support)
    query = phase(adapted)
    return support, query, adapted


def adapt_once(learner: MAMLTRPO, support: PolicyBatch) -> Params:
    with torch.no_grad():
        return adapt(learner.params, support, learner._inner)


def double(batch: PolicyBatch) -> PolicyBatch:
    return PolicyBatch(*(part.double() if part.is_floating_point() else part for part in batch))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"fisher_fraction": 1.0},
        {"num_inner_steps": 0},
        {"sampling_credit": "on"},
        *({"estimator": name} for name in ESTIMATORS),
    ],
)
def test_packed_steps_give_the_update_of_padded_ones(settings, monkeypatch):
    found = []
    for fraction in (0.9, 0.0):
        learner = maml(**settings)
        support, query, adapted = phases(learner)
        monkeypatch.setattr(metarl.rl.masked, "MAX_PACKED_FRACTION", fraction)
        assert (query.packed() is query) == (fraction == 0.0)
        supports = [support] * learner.config.num_inner_steps
        found.append(learner._update(supports, query, adapted))
    (packed, packed_metrics), (padded, padded_metrics) = found
    for name, p in padded.items():
        torch.testing.assert_close(packed[name], p, rtol=0, atol=1e-10)
    assert padded_metrics["meta/accepted"] == 1
    for name, value in padded_metrics.items():
        assert packed_metrics[name] == pytest.approx(value, abs=1e-10, rel=1e-10)


def test_the_policy_is_applied_to_valid_steps_only(monkeypatch):
    """Of 15 episodes of 1 to 12 steps each, 180 entries if padded to the longest."""
    rows: list[int] = []
    learner = maml(1000)
    plain = type(learner.policy).distribution

    def counting(policy: Any, params: Params, observations: Tensor) -> Any:
        rows.append(observations[..., 0].numel())
        return plain(policy, params, observations)

    monkeypatch.setattr(type(learner.policy), "distribution", counting)
    learner.iterate()
    assert 100 < learner.num_env_steps < 260  # of two phases
    assert max(rows) < 0.9 * 180


@pytest.mark.parametrize("preset", ["maml", "varibad", "metaworld"])
def test_evaluations_are_equal_under_any_horizon(preset):
    protocol = replace(PRESETS[preset], num_tasks=4)
    found = [evaluate(maml(h), maml(h).family, protocol) for h in (12, 1000)]
    assert np.array_equal(found[0].measured.returns, found[1].measured.returns)
    for name, other in found[0].references.items():
        assert np.array_equal(other.returns, found[1].references[name].returns)


# RL².


def rl2(horizon: int, **settings: Any) -> RL2:
    family = ShortEpisodes(horizon, shortest=1, longest=12)
    return RL2(family, RL2Config(**(RL2_SETTINGS | settings)))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"memory": "transformer"},
        {"memory": "none", "hidden_sizes": (6,)},
        {"memory": "none", "optimizer": "trpo", "hidden_sizes": (6,)},
        {"memory": "lstm", "backprop_steps": 4},
        {"optimizer": "trpo"},
    ],
    ids=str,
)
def test_rl2_trains_in_the_same_way_under_any_horizon(settings, monkeypatch):
    """Apart from numbers that the horizon defines: the time scales of the initial memory, and the
    progress of the trial that the critic sees."""
    for module in ("agent", "policy"):
        monkeypatch.setattr(f"metarl.agents.rl2.{module}.trial_steps", lambda *_: 24)
    short, long = rl2(12, **settings), rl2(1000, **settings)
    for _ in range(2):
        assert untimed(short.iterate()) == untimed(long.iterate())
    assert all(torch.equal(p, long.params[name]) for name, p in short.params.items())


@pytest.mark.parametrize("settings", [{}, {"memory": "lstm", "backprop_steps": 4}], ids=str)
def test_rows_of_the_memory_follow_the_longest_trial_of_a_minibatch(settings, monkeypatch):
    lengths: list[int] = []
    learner = rl2(1000, **settings)
    plain = type(learner.policy).sequence

    def counting(policy: Any, params: Params, inputs: Tensor, *others: Any) -> Any:
        lengths.append(inputs.shape[0] * inputs.shape[1])
        return plain(policy, params, inputs, *others)

    monkeypatch.setattr(type(learner.policy), "sequence", counting)
    learner.iterate()
    first, *updates = lengths  # the first computes the values of all trials
    assert first <= 4 * 24
    chunked = "backprop_steps" in settings
    assert sum(updates) < first if chunked else sum(updates) <= first
    assert sum(updates) >= learner.num_env_steps
