"""RL² from outside, when acting: memory across episodes, prediction, files."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rl2_agents import (
    LOCK,
    ROBOT,
    actor_inputs,
    agent,
    cases,
    equal,
    everything,
    few,
    history,
    make_generator,
    shaken,
    stepwise,
    trials_of,
    variants,
)

from metarl.agents import RL2
from metarl.agents.rl2.agent import RL2Player
from metarl.envs import make_family
from metarl.envs.bandits import Bandit
from metarl.envs.navigation.grids import GridNavigation
from metarl.evaluation.evaluator import evaluate
from metarl.evaluation.protocol import EvaluationProtocol
from metarl.rollouts.episodes import Episodes
from metarl.rollouts.trials import ActorInput, Trials, collect_trials

# Memory.


@variants
def test_the_memory_persists_across_episodes_unless_it_is_cleared(settings):
    learner = shaken(agent(**settings))
    trials = trials_of(learner)
    altered = trials_of(learner)
    altered.rewards[..., 0] += 1.0  # of the first episode
    second = trials.episode_indices[:, 0] == 1
    ends = trials.mask.shape[-1]
    one, other = (
        torch.stack([d.outputs[0] for d in stepwise(learner, t)], 1)[:, :ends]
        for t in (trials, altered)
    )
    second &= trials.mask[:, 0]
    second[:, :2] = False  # whose previous reward is the altered one
    assert second.sum() >= 4
    difference = (one - other).abs().amax(-1)[second]
    remembers = learner.remembers and not learner.config.clear_each_episode
    assert bool((difference > 0).any()) == remembers
    if remembers:
        assert difference.max() > 1e-4


@pytest.mark.parametrize("memory", ["gru", "lstm", "transformer"])
def test_a_memory_cleared_at_an_episode_end_equals_one_of_a_new_trial(memory):
    learner = shaken(
        agent(clear_each_episode=True, memory=memory, normalize_observations=True).learn(1)
    )
    trials = trials_of(learner)
    found = torch.stack([d.outputs[0] for d in stepwise(learner, trials)], 1)
    first_end = trials.episode_ends[:, 0].long().argmax(-1)
    fresh, _ = learner.policy_at(next(actor_inputs(trials)), None)
    for row, end in enumerate(first_end.tolist()):
        torch.testing.assert_close(found[row, end + 1], fresh.outputs[0][row], rtol=0, atol=1e-6)


@few
def test_every_trial_begins_with_a_new_memory(settings):
    learner = shaken(agent(**settings))
    first, again = trials_of(learner), trials_of(learner)
    assert torch.equal(first.actions, again.actions)


@few
def test_players_do_not_share_a_memory(settings):
    learner = shaken(agent(**settings))
    alone = trials_of(learner, num_exploratory=0)
    busy, other = learner.play(4, 1, make_generator(1)), learner.play(4, 1, make_generator(1))
    acted = []
    for actor_input, noise in zip(
        actor_inputs(alone), actor_inputs(trials_of(learner)), strict=False
    ):
        wanted = actor_input._replace(deterministic=torch.ones_like(actor_input.deterministic))
        acted.append(busy.act(wanted))
        other.act(noise)
    together = torch.stack(acted, 2)
    steps = together.shape[2]
    mask = alone.mask[..., :steps]
    assert torch.equal(together[mask], alone.actions[:, :, :steps][mask])


@variants
@pytest.mark.parametrize("family", [LOCK, GridNavigation("varibad")], ids=["lock", "grid"])
def test_each_environment_is_independent_of_the_others_in_a_trial(family, settings):
    learner = shaken(agent(family=family, **settings))
    tasks = family.sample_tasks(3, seed=7)

    def run(rows: Any, num_envs: int) -> Trials:
        env = family.make_batch(rows, num_envs=num_envs)
        player = learner.play(len(rows), num_envs, make_generator())
        return collect_trials(env, player, make_generator(), num_episodes=2, num_exploratory=0)

    together = run(tasks, 2)
    for n, e in np.ndindex(3, 2):
        alone = run(tasks[n : n + 1], 1)
        steps = alone.mask.shape[-1]
        assert int(together.mask[n, e].sum()) == steps
        for name in ("actions", "rewards", "observations", "episode_ends"):
            mine, other = getattr(together, name)[n, e, :steps], getattr(alone, name)[0, 0]
            assert torch.equal(mine, other), name


# Prediction and playing.


@cases
@pytest.mark.parametrize("deterministic", [True, False])
def test_predicting_with_the_state_equals_acting(family, settings, deterministic):
    learner = shaken(agent(family=family, **settings))
    played = trials_of(learner, num_exploratory=0 if deterministic else None)
    generator, state, predicted = make_generator(1), None, []
    for actor_input in actor_inputs(played):
        actions, state = learner.predict(
            actor_input, state, deterministic=deterministic, generator=generator
        )
        predicted.append(actions)
    together = torch.stack(predicted, 2)
    assert together.shape == played.actions.shape
    assert torch.equal(together[played.mask], played.actions[played.mask])


def test_inputs_or_memories_that_do_not_fit_are_rejected():
    learner = agent(family=ROBOT)
    first = next(actor_inputs(trials_of(learner)))
    for size in (1, 5):
        wrong = first._replace(observations=torch.zeros(4, 1, size))
        with pytest.raises(
            ValueError, match=rf"observations must have shape \[.*, 2\], got \[4, 1, {size}"
        ):
            learner.predict(wrong)
    _, state = learner.predict(first)
    fewer = first._replace(observations=first.observations[:3])
    message = r"observations must have shape \[4, 1, 2\], got \[3, 1, 2\]"
    with pytest.raises(ValueError, match=message):
        learner.predict(fewer, state)
    other = agent(family=ROBOT, memory="transformer")
    with pytest.raises(ValueError, match="adapted must be a state of this agent"):
        other.predict(first, state)


def test_observations_in_double_precision_are_accepted():
    learner = shaken(agent(family=ROBOT))
    first = next(actor_inputs(trials_of(learner)))
    double = first._replace(observations=first.observations.double())
    assert torch.equal(learner.predict(first)[0], learner.predict(double)[0])


def test_a_player_takes_the_mode_only_in_environments_that_request_it():
    learner = shaken(agent(family=ROBOT))
    trials = trials_of(learner)
    actor_input = next(actor_inputs(trials))
    wanted = torch.tensor([[True], [False], [True], [False]])
    acted = RL2Player(learner, make_generator(1)).act(actor_input._replace(deterministic=wanted))
    mode, _ = learner.predict(actor_input)
    sampled, _ = learner.predict(actor_input, deterministic=False, generator=make_generator(1))
    assert torch.equal(acted, torch.where(wanted.unsqueeze(-1), mode, sampled))
    assert (mode - sampled).abs().min() > 0


def test_sampling_without_a_generator_is_rejected():
    actor_input = next(actor_inputs(trials_of(agent())))
    with pytest.raises(ValueError, match=r"generator must be given .*deterministic=False"):
        agent().predict(actor_input, deterministic=False)


def test_without_a_memory_the_policy_observes_nothing_else():
    learner = shaken(agent(memory="none", family=ROBOT))
    assert not learner.remembers
    assert agent().remembers
    first, *later = actor_inputs(trials_of(learner))
    same = later[3]._replace(observations=first.observations)
    assert torch.equal(learner.predict(first)[0], learner.predict(same)[0])


@pytest.mark.parametrize(("given", "resolved"), [(None, 10.0), (2.0, 2.0)])
def test_the_default_action_divisor_is_the_one_of_the_variant(tmp_path: Path, given, resolved):
    learner, plain = (
        agent(family=ROBOT, action_divisor=given),
        agent(family=ROBOT, action_divisor=1.0),
    )
    assert learner.config.action_divisor == resolved
    actor_input = next(actor_inputs(trials_of(plain)))
    one, other = (one.policy_at(actor_input, None)[0].outputs for one in (learner, plain))
    torch.testing.assert_close(one[0], other[0] / resolved)
    torch.testing.assert_close(one[1].exp(), other[1].exp() / resolved)
    learner.save(tmp_path / "agent")
    assert RL2.load(tmp_path / "agent", ROBOT).config.action_divisor == resolved


@pytest.mark.parametrize(
    ("memory", "stages"),
    [("gru", ("episode 1", "episode 2", "episode 3")), ("none", ("no adaptation",))],
)
def test_the_evaluator_measures_episode_by_episode_or_once_without_a_memory(memory, stages):
    learner = shaken(agent(memory=memory))
    protocol = EvaluationProtocol(
        num_tasks=5, exploration_episodes=1, adaptation_steps=2, evaluation_episodes=1
    )
    found = evaluate(learner, LOCK, protocol)
    assert found.stages == stages
    assert found.measured.returns.shape == (1, len(stages), 5, 1)


# Files.


@few
def test_a_loaded_agent_acts_the_same(tmp_path: Path, settings):
    learner = agent(seed=5, **settings).learn(2)
    learner.save(tmp_path / "agent")
    loaded = RL2.load(tmp_path / "agent", LOCK)
    assert (loaded.config, loaded.seed) == (learner.config, 5)
    assert equal(everything(loaded), everything(learner))
    one, other = trials_of(learner), trials_of(loaded)
    assert torch.equal(one.actions, other.actions)


def test_the_checkpoint_of_another_family_is_rejected(tmp_path: Path):
    agent().save(tmp_path / "agent")
    with pytest.raises(ValueError, match="must be of environment 'Bandit:n10-k5', it is of 'Lock"):
        RL2.load(tmp_path / "agent", Bandit("n10-k5"))


def test_a_checkpoint_that_does_not_fit_its_settings_is_rejected(tmp_path: Path):
    learner = agent()
    statistics = learner._normalizer._input_moments
    learner._normalizer._input_moments = replace(
        statistics, mean=torch.zeros(2, dtype=torch.float64)
    )
    learner.save(tmp_path / "agent")
    with pytest.raises(ValueError, match=r"must hold seen/mean as torch.float64 \[8\], it holds"):
        RL2.load(tmp_path / "agent", LOCK)


# Invalid arguments.


def test_a_number_of_heads_that_does_not_divide_the_size_is_rejected():
    with pytest.raises(ValueError, match="num_heads must divide the size 8 of the memory, got 3"):
        agent(memory="transformer", num_heads=3)


def test_trials_longer_than_the_transformer_supports_are_rejected():
    learner = agent(memory="transformer", family=make_family("GridNavigation:varibad"))
    with pytest.raises(ValueError, match=r"trial must have at most 30 steps.* got 31"):
        trials_of(learner, num_episodes=3)


# Recorded data.


def as_episodes(trials: Trials, number: int, horizon: int) -> Episodes:
    """The episodes of one number within their trials, each padded to the horizon."""
    here = (trials.episode_indices == number) & trials.mask
    first = here.to(torch.int8).argmax(-1, keepdim=True)  # [N, E, 1]
    at = (first + torch.arange(horizon)).clamp(max=here.shape[-1] - 1)
    mask = here.gather(-1, at)

    def taken(values: torch.Tensor) -> torch.Tensor:
        return values.take_along_dim(at.view(*at.shape, *(1,) * (values.dim() - 3)), 2)

    observations = taken(trials.observations)
    led_to = torch.full_like(observations[:, :, :1], torch.nan)  # not recorded, and not needed
    return Episodes(
        torch.cat([observations, led_to], 2),
        taken(trials.actions),
        taken(trials.rewards) * mask,
        taken(trials.episode_ends) & mask,
        torch.zeros_like(mask),
        mask,
    )


@cases
def test_adapting_to_recorded_episodes_equals_acting_in_them(family, settings):
    """Deterministic third episodes, after two that were recorded from the evaluator's player."""
    learner = shaken(agent(family=family, **(settings | {"num_episodes": 3})))
    played = trials_of(learner, num_exploratory=2)
    recorded = [as_episodes(played, k, family.horizon) for k in range(2)]
    state = learner.adapt(recorded)
    third = played.episode_indices == 2
    first = third.to(torch.int8).argmax(-1)
    rows = torch.arange(4)
    start = first[:, 0]
    inputs: Any = played.observations[rows, 0, start].unsqueeze(1)
    for step in range(2):
        actions, state = learner.predict(inputs, state)
        at = (start + step).clamp(max=third.shape[-1] - 1)
        counts = (third & played.mask)[rows, 0, at]
        assert step > 0 or bool(counts.all())
        torch.testing.assert_close(
            actions[counts, 0], played.actions[rows, 0, at][counts], rtol=0, atol=1e-6
        )
        later = (at + 1).clamp(max=third.shape[-1] - 1)
        never = torch.zeros(4, 1, dtype=torch.bool)
        inputs = ActorInput(
            played.observations[rows, 0, later].unsqueeze(1),
            actions,
            played.rewards[rows, 0, at].unsqueeze(1),
            never,
            never,
        )


def test_recorded_data_change_the_actions_and_states_can_be_reused():
    learner = shaken(agent(family=ROBOT))
    played = trials_of(learner)
    state = learner.adapt(as_episodes(played, 0, ROBOT.horizon))
    observations = played.observations[:, :, 0]
    one, after = learner.predict(observations, state)
    again, _ = learner.predict(observations, state)
    assert torch.equal(one, again)
    assert after is not state
    assert (one - learner.predict(observations)[0]).abs().max() > 1e-3
    with pytest.raises(ValueError, match="inputs must be an ActorInput with the previous actions"):
        learner.predict(observations, after)
    with pytest.raises(ValueError, match=r"must have shape \[4, 1, 2\], got \[4, 2, 2\]"):
        learner.predict(observations.expand(4, 2, 2), state)


def test_trials_of_different_numbers_of_environments_are_rejected():
    learner = agent(family=ROBOT)
    one, two = (as_episodes(trials_of(learner, num_envs=envs), 0, ROBOT.horizon) for envs in (1, 2))
    message = r"same number of tasks and environments in each batch, got \[4, 1\] and \[4, 2\]"
    with pytest.raises(ValueError, match=message):
        learner.adapt([one, two])


# Copies.


@few
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_a_copy_continues_bitwise(settings, copied):
    learner, straight = (agent(normalize_observations=True, **settings).learn(2) for _ in range(2))
    other = copied(learner)
    assert history(other, 2) == history(straight, 2)
    assert equal(everything(other), everything(straight))
    assert learner.num_iterations == 2
