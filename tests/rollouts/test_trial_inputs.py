"""The inputs of a memory: every number in its place, when acting and when training."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.rollouts.trial_inputs import TrialInputs
from metarl.rollouts.trials import ActorInput, Trials

N, E, T = 2, 3, 5
OBSERVATIONS = spaces.Box(-np.inf, np.inf, (2,), np.float32)
SPACES = {
    "discrete": spaces.Discrete(4),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
    "continuous": spaces.Box(-1.0, 1.0, (3,), np.float32),
}
all_spaces = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


def make_generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sampled_actions(space: gymnasium.Space[Any]) -> Tensor:
    space.seed(0)
    rows = np.stack([space.sample() for _ in range(N * E * T)])
    return torch.as_tensor(rows).view(N, E, T, *rows.shape[1:])


def trials(space: gymnasium.Space[Any]) -> Trials:
    """Trials in which all numbers differ, with episodes that end at different times."""
    actions = sampled_actions(space)
    ends = torch.rand(N, E, T, generator=make_generator(1)) < 0.4
    return Trials(
        observations=torch.randn(N, E, T, 2, generator=make_generator(2)),
        actions=actions,
        rewards=torch.randn(N, E, T, generator=make_generator(3)),
        episode_ends=ends,
        mask=torch.ones_like(ends),
        final_observations=torch.zeros(N, E, T, 2),
        num_episodes=T,
    )


def actor_inputs(whole: Trials) -> list[ActorInput]:
    """The inputs of the agent in these trials."""
    never = torch.zeros(N, E, dtype=torch.bool)
    first = ActorInput(whole.observations[:, :, 0], None, torch.zeros(N, E), never, never)
    later = [
        ActorInput(
            whole.observations[:, :, t],
            whole.actions[:, :, t - 1],
            whole.rewards[:, :, t - 1],
            whole.episode_ends[:, :, t - 1],
            never,
        )
        for t in range(1, T)
    ]
    return [first, *later]


@all_spaces
def test_single_steps_and_whole_trials_are_encoded_identically(space):
    inputs, whole = TrialInputs(OBSERVATIONS, space), trials(space)
    one_by_one = torch.stack(
        [inputs.encode(actor_input) for actor_input in actor_inputs(whole)], dim=2
    )
    together = inputs.encode_trials(whole)
    assert together.shape == (N, E, T, inputs.size)
    assert together.dtype == torch.float32
    assert torch.equal(together, one_by_one)


@all_spaces
def test_the_first_input_of_a_trial_has_the_observation_only(space):
    inputs, whole = TrialInputs(OBSERVATIONS, space), trials(space)
    first = inputs.encode_trials(whole)[:, :, 0]
    assert torch.equal(first[..., :2], whole.observations[:, :, 0])
    assert not first[..., 2:].any()


def encoded(space: gymnasium.Space[Any], action: Any, *, ended: bool) -> list[float]:
    actor_input = ActorInput(
        observations=torch.tensor([[[0.25, -7.0]]]),
        previous_actions=torch.as_tensor(action).view(1, 1, *np.shape(action)),
        previous_rewards=torch.tensor([[-1.5]]),
        episode_ended=torch.tensor([[ended]]),
        deterministic=torch.tensor([[True]]),
    )
    return TrialInputs(OBSERVATIONS, space).encode(actor_input).flatten().tolist()


@pytest.mark.parametrize(
    ("space", "action", "numbers"),
    [
        (SPACES["discrete"], 2, [0, 0, 1, 0]),
        (SPACES["multi-discrete"], [1, 0], [0, 1, 1, 0, 0]),
        (SPACES["continuous"], [0.5, -0.125, 3.0], [0.5, -0.125, 3]),
    ],
    ids=SPACES,
)
@pytest.mark.parametrize("ended", [False, True])
def test_observation_action_reward_and_end_are_in_this_order(space, action, numbers, ended):
    assert encoded(space, action, ended=ended) == [0.25, -7, *numbers, -1.5, float(ended)]


@all_spaces
def test_the_last_action_and_reward_of_a_trial_are_not_in_any_input(space):
    inputs, whole = TrialInputs(OBSERVATIONS, space), trials(space)
    before = inputs.encode_trials(whole)
    whole.rewards[..., -1] += 1
    whole.episode_ends[..., -1] ^= True
    whole.actions[:, :, -1] = whole.actions[:, :, 0]
    assert torch.equal(inputs.encode_trials(whole), before)


def test_encoding_does_not_modify_arguments():
    space = SPACES["discrete"]
    whole, untouched = trials(space), trials(space)
    TrialInputs(OBSERVATIONS, space).encode_trials(whole)
    for name in ("observations", "actions", "rewards", "episode_ends"):
        assert torch.equal(getattr(whole, name), getattr(untouched, name))


@pytest.mark.parametrize(
    "space", [spaces.Discrete(3), spaces.Box(0, 1, (2, 2), np.float32)], ids=str
)
def test_other_observations_than_a_flat_box_are_rejected(space):
    with pytest.raises(TypeError, match="observation_space must be a flat Box, got "):
        TrialInputs(space, SPACES["discrete"])


def test_actions_that_cannot_be_encoded_are_rejected():
    with pytest.raises(TypeError, match="action_space must be built from Box, Discrete"):
        TrialInputs(OBSERVATIONS, spaces.Text(3))
