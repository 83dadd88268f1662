"""Training batches of trials: advantages across episodes, rows, cleared memories."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.agents.rl2.batch import TrialBatch, keep_observations_only, time_first, trial_gae
from metarl.rl.distributions import Categorical
from metarl.rollouts.trials import Trials

N, E, T = 2, 3, 6
LENGTHS = torch.tensor([[6, 1, 4], [5, 6, 2]])  # steps of each trial
GAMMA, LAMBDA = 0.9, 0.7


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def trials(*, inner_ends: bool = True) -> Trials:
    """Trials that end early, with episodes that end within them."""
    times = torch.arange(T)
    mask = times < LENGTHS.unsqueeze(-1)
    last = times == LENGTHS.unsqueeze(-1) - 1
    inner = (times == 1) | (times == 3) if inner_ends else torch.zeros(T, dtype=torch.bool)
    return Trials(
        observations=randn(N, E, T, 2, seed=0),
        actions=torch.zeros(N, E, T, dtype=torch.int64),
        rewards=torch.where(mask, randn(N, E, T, seed=1), 0),
        episode_ends=(inner & mask) | last,
        mask=mask,
        final_observations=randn(N, E, 3, 2, seed=3),
        num_episodes=3,
    )


VALUES = randn(T, N * E, seed=2)


def advantages(whole: Trials, values: Tensor = VALUES, lam: float = LAMBDA) -> Tensor:
    return trial_gae(whole, time_first(whole.rewards), values, GAMMA, lam)


def by_definition(whole: Trials, lam: float) -> Tensor:
    """Σ_k (γλ)^k δ_{t+k} up to the trial's end, where no value follows; one trial at a time."""
    found = torch.zeros(T, N * E, dtype=torch.float64)
    for row in range(N * E):
        length = int(LENGTHS.flatten()[row])
        rewards = whole.rewards.flatten(0, 1)[row]
        for t in range(length):
            for k in range(t, length):
                following = float(VALUES[k + 1, row]) if k + 1 < length else 0.0
                delta = float(rewards[k]) + GAMMA * following - float(VALUES[k, row])
                found[t, row] += (GAMMA * lam) ** (k - t) * delta
    return found


@pytest.mark.parametrize("lam", [0.0, LAMBDA, 1.0])
def test_advantages_follow_their_definition_across_the_trial(lam):
    whole = trials()
    mask = time_first(whole.mask)
    got = advantages(whole, lam=lam)
    torch.testing.assert_close(got[mask], by_definition(whole, lam)[mask], rtol=0, atol=1e-12)


def test_advantages_continue_across_episode_ends():
    assert torch.equal(advantages(trials()), advantages(trials(inner_ends=False)))


def test_steps_after_the_trial_do_not_count():
    whole, values = trials(), VALUES.clone()
    mask = time_first(whole.mask)
    values[~mask] = 1e6
    assert torch.equal(advantages(whole, values)[mask], advantages(whole)[mask])


def test_with_lambda_one_advantages_are_returns_of_the_trial_minus_values():
    whole = trials()
    returns = torch.zeros(T, N * E, dtype=torch.float64)
    running = torch.zeros(N * E, dtype=torch.float64)
    for t in reversed(range(T)):
        running = time_first(whole.rewards)[t] + GAMMA * running
        returns[t] = running
    mask = time_first(whole.mask)
    got = advantages(whole, lam=1.0)
    torch.testing.assert_close(got[mask], (returns - VALUES)[mask], rtol=0, atol=1e-12)


def test_the_advantages_of_a_trial_do_not_depend_on_other_trials():
    whole, other = trials(), trials()
    other.rewards[1, 2] += 5
    other.mask[1, 2, 3:] = True
    one, two = advantages(whole), advantages(other)
    assert torch.equal(one[:, :5], two[:, :5])
    assert not torch.equal(one[:, 5], two[:, 5])


def test_time_goes_first_and_tasks_and_environments_become_one():
    values = torch.arange(N * E * T * 2).view(N, E, T, 2)
    turned = time_first(values)
    assert turned.shape == (T, N * E, 2)
    for n, e, t in np.ndindex(N, E, T):
        assert torch.equal(turned[t, E * n + e], values[n, e, t])


# Rows.


def batch() -> TrialBatch:
    numbered = torch.arange(T * 6).view(T, 6)
    return TrialBatch(
        inputs=randn(T, 6, 3, seed=3),
        trial_progress=randn(T, 6, 1, seed=4),
        tasks=randn(1, 6, 2, seed=6),
        cleared=None,
        actions=numbered,
        log_probs=numbered.double(),
        values=numbered + 0.25,
        advantages=-numbered.double(),
        returns=numbered * 2.0,
        mask=numbered % 5 != 0,
        old=Categorical(randn(T, 6, 4, seed=5)),
    )


def test_rows_are_whole_trials_in_the_given_order():
    whole = batch()
    rows = torch.tensor([4, 0])
    some = whole.select_trials(rows)
    for name in {field.name for field in fields(whole)} - {"cleared", "old"}:
        assert torch.equal(getattr(some, name), getattr(whole, name)[:, rows]), name
    assert some.cleared is None
    assert some.old is whole.old


def test_the_mask_of_cleared_memories_is_indexed_with_the_rows():
    cleared = batch().mask
    whole = replace(batch(), cleared=cleared)
    assert torch.equal(whole.select_trials(torch.tensor([3])).cleared, cleared[:, 3:4])


# Forgetting.


def test_a_cleared_memory_keeps_the_observation_only():
    inputs = torch.arange(1.0, 13.0).view(3, 4)
    cleared = torch.tensor([False, True, False])
    kept = keep_observations_only(inputs, cleared, 1)
    assert kept.tolist() == [[1, 2, 3, 4], [5, 0, 0, 0], [9, 10, 11, 12]]
    assert inputs[1].tolist() == [5, 6, 7, 8]
