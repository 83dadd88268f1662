"""Trials: steps of each episode, ends at different times, and the inputs of the agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from torch import Tensor

from metarl.envs.navigation.grids import GridNavigation
from metarl.finite import NonFiniteError
from metarl.rollouts.trials import ActorInput, Trials, collect_trials
from metarl.tasks.family import Step

HORIZON = 5


class Steps:
    """Environment (n, e) has episodes of 1 + (n + 2 e) % 5 steps; nothing is random.

    Observes [10 n + e, episodes started, steps in this one]; the reward is 1 plus the action.
    Returned tensors are reused in the next step.
    """

    autoreset_mode: ClassVar[AutoresetMode] = AutoresetMode.DISABLED
    horizon = HORIZON
    observation_space = spaces.Box(-np.inf, np.inf, (3,))
    action_space = spaces.Discrete(7)

    tells_means = False

    def __init__(self, num_tasks: int = 2, num_envs: int = 3, *, has_success: bool = False) -> None:
        self.num_tasks, self.num_envs, self.has_success = num_tasks, num_envs, has_success
        n, e = torch.arange(num_tasks).unsqueeze(1), torch.arange(num_envs)
        self.lengths, self.names = 1 + (n + 2 * e) % 5, 10 * n + e
        self.begun, self.time = torch.zeros_like(self.names), torch.zeros_like(self.names)
        self.rewards = torch.zeros(self.names.shape)
        self.seen = torch.zeros(*self.names.shape, 3)
        self.resets: list[Tensor] = []

    def reset(self, generator: torch.Generator, env_mask: Tensor | None = None) -> Tensor:
        del generator
        chosen = torch.ones_like(self.names, dtype=torch.bool) if env_mask is None else env_mask
        self.resets.append(chosen.clone())
        self.begun += chosen
        self.time[chosen] = 0
        return self.observe()

    def step(self, actions: Tensor) -> Step:
        self.time += 1
        self.rewards[:] = 1 + actions
        terminated = self.time >= self.lengths
        success = (self.time == 2) if self.has_success else None
        expected = 10 * self.rewards if self.tells_means else None
        ended = terminated, self.time >= HORIZON
        return Step(self.observe(), self.rewards, *ended, success, expected)

    def observe(self) -> Tensor:
        self.seen[:] = torch.stack([self.names, self.begun, self.time], -1)
        return self.seen


class Recorder:
    """Acts by a rule and records its inputs."""

    def __init__(self, rule: Callable[[ActorInput, int], Tensor] | None = None) -> None:
        self.rule = rule or (
            lambda actor_input, _: torch.zeros_like(actor_input.episode_ended).long()
        )
        self.actor_inputs: list[ActorInput] = []
        self.actions: list[Tensor] = []

    def act(self, actor_input: ActorInput) -> Tensor:
        kept = (None if part is None else part.clone() for part in actor_input)
        self.actor_inputs.append(ActorInput(*kept))  # type: ignore[arg-type] # in the fields' order
        self.actions.append(self.rule(actor_input, len(self.actions)))
        return self.actions[-1]


def make_generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def collected(env: Steps, actor: Recorder | None = None, num_episodes: int = 2, **k) -> Trials:
    return collect_trials(
        env, actor or Recorder(), make_generator(), num_episodes=num_episodes, **k
    )


def counting(actor_input: ActorInput, step: int) -> Tensor:
    """Actions that differ between environments and steps."""
    return (actor_input.observations[..., 0].long() + step) % 7


# Numbers of a trial.


def by_hand() -> Trials:
    """One environment whose two episodes take three steps and one; then it waits for two."""
    return Trials(
        observations=torch.zeros(1, 1, 6, 1),
        actions=torch.zeros(1, 1, 6, dtype=torch.int64),
        rewards=torch.tensor([[[1.0, -2.0, 4.0, 8.0, 0.0, 0.0]]]),
        episode_ends=torch.tensor([[[False, False, True, True, False, False]]]),
        mask=torch.tensor([[[True, True, True, True, False, False]]]),
        final_observations=torch.zeros(1, 1, 2, 1),
        num_episodes=2,
        success=torch.tensor([[[False, True, False, False, False, False]]]),
    )


def test_a_step_that_ends_an_episode_belongs_to_it():
    assert by_hand().episode_indices.tolist() == [[[0, 0, 0, 1, 1, 1]]]


def test_returns_are_summed_episode_by_episode():
    assert by_hand().episode_returns.tolist() == [[[3, 8]]]
    assert by_hand().num_steps == 4


def test_an_episode_succeeds_at_any_of_its_steps():
    assert by_hand().episode_success.tolist() == [[[True, False]]]


def test_expected_rewards_are_stored_if_the_family_provides_them():
    env = Steps()
    assert collected(env).expected_rewards is None
    env.tells_means = True
    trials = collected(env, Recorder(counting))
    assert trials.expected_rewards is not None
    torch.testing.assert_close(trials.expected_rewards, 10 * trials.rewards)
    assert (trials.rewards[trials.mask] > 0).all()
    assert not trials.expected_rewards[~trials.mask].any()


def test_without_success_in_the_family_there_is_none():
    trials = collected(Steps())
    assert trials.success is None
    assert trials.episode_success is None


# Collecting, with ends out of step.


def test_the_episodes_of_each_environment_are_independent_of_the_others():
    env = Steps()
    trials = collected(env, num_episodes=2)
    assert env.lengths.tolist() == [[1, 3, 5], [2, 4, 1]]
    assert trials.mask.sum(-1).equal(2 * env.lengths)
    assert trials.mask.shape == (2, 3, 10)
    for n, e in np.ndindex(2, 3):
        length = int(env.lengths[n, e])
        name = 10 * n + e
        expected = [[name, begun, t] for begun in (1, 2) for t in range(length)]
        shown = trials.observations[n, e, : 2 * length]
        assert [row[:1] + row[2:] for row in shown.tolist()] == [
            row[:1] + row[2:] for row in expected
        ]
        assert trials.episode_ends[n, e].nonzero().flatten().tolist() == [
            length - 1,
            2 * length - 1,
        ]
        assert trials.episode_indices[n, e, : 2 * length].tolist() == [0] * length + [1] * length
        assert trials.episode_returns[n, e].tolist() == [length, length]


def test_each_trial_equals_the_trial_alone():
    together = collected(Steps(3, 4, has_success=True), Recorder(counting), num_episodes=3)
    for n, e in np.ndindex(3, 4):
        env = Steps(3, 4, has_success=True)
        for name in ("lengths", "names", "begun", "time", "rewards", "seen"):
            setattr(env, name, getattr(env, name)[n : n + 1, e : e + 1])
        env.num_tasks = env.num_envs = 1
        alone = collected(env, Recorder(counting), num_episodes=3)
        steps = alone.mask.shape[-1]
        assert bool(alone.mask.all())
        assert not bool(together.mask[n, e, steps:].any())
        for name in ("actions", "rewards", "episode_ends", "success", "observations"):
            mine, other = getattr(together, name)[n, e], getattr(alone, name)[0, 0]
            if name == "observations":  # the second number counts resets of this run
                mine, other = mine[:, [0, 2]], other[:, [0, 2]]
            assert torch.equal(mine[:steps], other), name
        assert torch.equal(together.episode_returns[n, e], alone.episode_returns[0, 0])
        assert torch.equal(together.episode_success[n, e], alone.episode_success[0, 0])


def test_each_trial_on_a_family_equals_the_trial_alone():
    """Goals of a grid, found at different times; the walker goes over the cells in a fixed way."""
    family = GridNavigation("varibad")
    tasks = family.sample_tasks(5, seed=0)

    def walk(actor_input: ActorInput, step: int) -> Tensor:
        return torch.full_like(actor_input.previous_rewards, step * 7 % 5).long()

    def run(rows: np.ndarray) -> Trials:
        env = family.make_batch(rows, num_envs=1)
        return collect_trials(env, Recorder(walk), make_generator(), num_episodes=3)

    together = run(tasks)
    for n in range(5):
        alone = run(tasks[n : n + 1])
        for name in ("observations", "actions", "rewards", "episode_ends", "mask"):
            assert torch.equal(getattr(together, name)[n], getattr(alone, name)[0]), name


def test_only_ended_environments_with_episodes_left_are_reset():
    env = Steps(1, 2)  # one step; three steps
    trials = collected(env, num_episodes=2)
    assert [where.tolist() for where in env.resets] == [
        [[True, True]],
        [[True, False]],
        [[False, True]],
    ]
    assert trials.mask.shape[-1] == 6


def test_steps_of_waiting_environments_do_not_count():
    env = Steps(1, 2)
    actor = Recorder(lambda actor_input, _: torch.full_like(actor_input.previous_rewards, 4).long())
    trials = collected(env, actor, num_episodes=1)
    assert trials.rewards.tolist() == [[[5, 0, 0], [5, 5, 5]]]
    assert trials.mask.tolist() == [[[True, False, False], [True, True, True]]]
    assert trials.episode_ends.tolist() == [[[True, False, False], [False, False, True]]]
    assert trials.episode_returns.tolist() == [[[5], [15]]]


def test_success_of_waiting_environments_does_not_count():
    trials = collected(Steps(1, 2, has_success=True), num_episodes=1)
    assert trials.episode_success.tolist() == [[[False], [True]]]


def test_a_trial_ends_with_its_last_episode_and_no_step_later():
    env = Steps(1, 1)
    actor = Recorder()
    trials = collected(env, actor, num_episodes=4)
    assert len(actor.actor_inputs) == 4
    assert trials.mask.shape == (1, 1, 4)


# Inputs of the actor.


def test_the_actor_gets_its_previous_action_reward_and_episode_end():
    actor = Recorder(counting)
    trials = collected(Steps(), actor)
    first, *later = actor.actor_inputs
    assert first.previous_actions is None
    assert first.previous_rewards.tolist() == [[0] * 3] * 2
    assert not bool(first.episode_ended.any())
    assert len(later) == trials.mask.shape[-1] - 1
    for t, actor_input in enumerate(later):
        running = trials.mask[:, :, t + 1]
        assert torch.equal(actor_input.previous_actions, actor.actions[t])
        earned = torch.where(running, 1.0 + actor.actions[t], 0)
        assert torch.equal(actor_input.previous_rewards, earned)
        assert torch.equal(
            actor_input.episode_ended[running], trials.episode_ends[:, :, t][running]
        )
        assert torch.equal(actor_input.observations, trials.observations[:, :, t + 1])
        steps_into_episode = actor_input.observations[..., 2][running]
        assert torch.equal(steps_into_episode == 0, actor_input.episode_ended[running])


def test_actions_are_stored_as_they_were_taken():
    actor = Recorder(counting)
    trials = collected(Steps(), actor)
    assert torch.equal(trials.actions, torch.stack(actor.actions, dim=2))


def test_by_default_no_deterministic_actions_are_requested():
    actor = Recorder()
    collected(Steps(), actor, num_episodes=3)
    assert not any(bool(actor_input.deterministic.any()) for actor_input in actor.actor_inputs)


@pytest.mark.parametrize("num_exploratory", [0, 1, 2, 3])
def test_actions_become_deterministic_in_each_environment_with_its_own_episodes(num_exploratory):
    actor = Recorder()
    trials = collected(Steps(), actor, num_episodes=3, num_exploratory=num_exploratory)
    requested = torch.stack(
        [actor_input.deterministic for actor_input in actor.actor_inputs], dim=2
    )
    expected = trials.episode_indices >= num_exploratory
    assert torch.equal(requested[trials.mask], expected[trials.mask])
    assert bool(requested[trials.mask].any()) == (num_exploratory < 3)


# Invalid arguments.


def test_numbers_out_of_range_are_rejected():
    with pytest.raises(ValueError, match="num_episodes must be 1 or more, got 0"):
        collected(Steps(), num_episodes=0)
    with pytest.raises(ValueError, match="num_exploratory must be 0 or more, got -1"):
        collected(Steps(), num_exploratory=-1)


def test_tensors_of_another_shape_are_rejected(monkeypatch):
    message = r"observations of the environment must have shape \[2, 3, 3\], got \[2, 3\]"
    monkeypatch.setattr(Steps, "observe", lambda self: self.names)
    with pytest.raises(ValueError, match=message):
        collected(Steps())
    monkeypatch.undo()
    step = Steps.step
    monkeypatch.setattr(Steps, "step", lambda s, a: step(s, a)._replace(rewards=torch.zeros(2)))
    message = r"rewards of the environment must have shape \[2, 3\], got \[2\]"
    with pytest.raises(ValueError, match=message):
        collected(Steps())


@pytest.mark.parametrize("name", ["rewards", "observations"])
def test_numbers_that_are_not_finite_are_rejected_with_their_indices(monkeypatch, name):
    step, observe = Steps.step, Steps.observe
    rewards, observations = torch.zeros(2, 3), torch.zeros(2, 3, 1)
    {"rewards": rewards, "observations": observations}[name][1, 1] = torch.nan
    monkeypatch.setattr(Steps, "observe", lambda self: observe(self) + observations)
    monkeypatch.setattr(
        Steps, "step", lambda s, a: (made := step(s, a))._replace(rewards=made.rewards + rewards)
    )
    message = f"{name} must be finite, got nan from task 1, environment 1, step 0"
    with pytest.raises(NonFiniteError, match=message):
        collected(Steps())


def test_numbers_of_waiting_environments_are_not_checked(monkeypatch):
    step = Steps.step

    def broken(self: Steps, actions: Tensor) -> Step:
        made = step(self, actions)
        waiting = self.time > self.lengths
        return made._replace(
            rewards=made.rewards.masked_fill(waiting, torch.nan),
            observations=made.observations.masked_fill(waiting.unsqueeze(-1), torch.nan),
        )

    monkeypatch.setattr(Steps, "step", broken)
    actor = Recorder()
    trials = collected(Steps(), actor, num_episodes=1)
    for actor_input in actor.actor_inputs:  # a network would make actions and gradients of them
        assert bool(actor_input.observations.isfinite().all())
        assert bool(actor_input.previous_rewards.isfinite().all())
    assert torch.equal(trials.episode_returns[..., 0], Steps().lengths.float())
    assert bool(trials.rewards.isfinite().all())
