"""The evaluator, by agents and a family whose returns are known exactly."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from known_returns import (
    HORIZON,
    NUM_EPISODES,
    NUM_TASKS,
    Diver,
    Sinker,
    SinkerPlayer,  # noqa: F401 - a test names it in a text
    Slope,
    SlopeBatch,
    measured,
    protocol,
    returns,
)
from torch import Tensor

from metarl.agents import MAMLTRPO, MAMLTRPOConfig
from metarl.envs.navigation.goals import Navigation2D
from metarl.evaluation.evaluator import evaluate, stage_names
from metarl.evaluation.protocol import PRESETS
from metarl.evaluation.results import Evaluation
from metarl.rl.players import as_agent, unadapted
from metarl.rollouts.episodes import Episodes

# Agents that adapt between batches of episodes.


def test_the_return_after_each_step_belongs_to_the_adapted_policy():
    got = measured(Diver(), adaptation_steps=3)
    assert returns(got).shape == (4, NUM_TASKS, NUM_EPISODES)
    for k, row in enumerate(returns(got)):
        expected = HORIZON * got.tasks[0] * -0.25 * k
        np.testing.assert_allclose(row, expected.repeat(NUM_EPISODES, 1), atol=1e-12)


def test_evaluation_episodes_are_the_next_data_if_they_are_collected_identically():
    agent = Diver(noise=1.0)
    got = measured(agent)
    assert agent.steps == [0, 1]  # nothing is adapted on the last ones
    for row, episodes in zip(returns(got), agent.adapted_on, strict=False):
        assert episodes.rewards.shape == (NUM_TASKS, NUM_EPISODES, HORIZON)
        np.testing.assert_array_equal(row, episodes.returns.numpy())


@pytest.mark.parametrize(("exploration", "evaluation"), [(2, 5), (5, 2)])
def test_otherwise_the_data_are_separate_episodes(exploration, evaluation):
    agent = Diver(noise=1.0)
    settings = {"exploration_episodes": exploration, "evaluation_episodes": evaluation}
    got = measured(agent, **settings)
    assert returns(got).shape == (3, NUM_TASKS, evaluation)
    assert agent.num_envs == 5
    for row, episodes in zip(returns(got), agent.adapted_on, strict=False):
        assert episodes.rewards.shape == (NUM_TASKS, exploration, HORIZON)
        assert not np.isin(row, episodes.returns.numpy()).any()


def test_exploration_is_sampled_and_evaluation_may_be_deterministic():
    agent = Diver(noise=1.0)
    got = measured(agent, deterministic="evaluation")
    expected = HORIZON * got.tasks[0] * np.array([0, -0.25, -0.5])[:, None, None]
    np.testing.assert_allclose(returns(got), expected.repeat(NUM_EPISODES, 2), atol=1e-12)
    assert agent.requested == 2 * ([True] * HORIZON + [False] * HORIZON) + [True] * HORIZON
    for episodes in agent.adapted_on:
        assert episodes.returns.std(1).min() > 0.01


def test_without_steps_the_agent_is_measured_and_never_adapted():
    agent = Diver(noise=1.0)
    got = measured(agent, adaptation_steps=0)
    assert returns(got).shape == (1, NUM_TASKS, NUM_EPISODES)
    assert agent.adapted_on == []
    np.testing.assert_array_equal(returns(got)[0], returns(measured(Diver(noise=1.0)))[0])


def test_an_object_of_a_user_is_measured():
    class Still:
        def act(self, observations: Tensor) -> Tensor:
            return torch.full_like(observations, 0.5)

    got = measured(as_agent(lambda *_: Still()))
    expected = 0.5 * HORIZON * got.tasks[0]
    np.testing.assert_allclose(returns(got), expected.repeat(NUM_EPISODES, 1)[None])


def test_agents_that_never_adapt_are_measured_once_and_shown_so():
    class Still:
        def act(self, observations: Tensor) -> Tensor:
            return torch.full_like(observations, 0.5)

    class Keen(Still):
        def adapt(self, episodes: Episodes) -> None:
            del episodes

    for agent in (as_agent(lambda *_: Still()), unadapted(Diver(noise=1.0))):
        got = measured(agent)
        assert got.stages == ("no adaptation",)
        assert got.protocol.adaptation_steps == 0
        assert "per step" not in got.protocol.describe()
        assert Evaluation.from_json(got.to_json()).stages == got.stages
    assert len(measured(as_agent(lambda *_: Keen())).stages) == 3
    reference = {"other": {"": Diver(noise=0.0)}}
    both = evaluate(as_agent(lambda *_: Still()), Slope(), protocol(), references=reference)
    last = measured(Diver(noise=0.0))
    np.testing.assert_array_equal(both.references["other"].returns[0], returns(last)[-1])


@pytest.mark.parametrize("made", [None, object()])
def test_an_agent_whose_play_gives_no_player_is_named(made):
    class Odd:
        remembers = False

        def play(self, *_: Any) -> Any:
            return made

    kind = type(made).__name__
    message = f"^play of Odd must return a player with a method act, got one of type {kind}$"
    with pytest.raises(TypeError, match=message):
        measured(Odd())


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (
            None,
            r"act of the agent must return an array or tensor .*, got one of type None",
        ),
        (
            "left",
            r"act of the agent must return an array or tensor .*, got one of type str",
        ),
        (np.zeros(3), r"actions must have shape \[\d+, \d+, 1\], got \[3\]"),
    ],
)
def test_actions_of_a_wrong_form_are_named(result, message):
    class Odd:
        def act(self, _: Tensor) -> Any:
            return result

    with pytest.raises((TypeError, ValueError), match=message):
        measured(as_agent(lambda *_: Odd()))


def test_a_player_that_returns_no_tensor_is_named():
    class Player:
        def act(self, _: Any) -> Any:
            return None

        def adapt(self, _: Any) -> None:
            return None

    class Odd:
        remembers = False

        def play(self, *_: Any) -> Any:
            return Player()

    with pytest.raises(TypeError, match=r"actions must be a tensor of shape .*, got type None"):
        measured(Odd())


# Agents that learn while they act.


def test_the_stages_of_a_memory_are_its_episodes_in_turn():
    agent = Sinker()
    got = measured(agent, exploration_episodes=1, evaluation_episodes=1, adaptation_steps=3)
    assert got.stages == ("episode 1", "episode 2", "episode 3", "episode 4")
    assert len(agent.players) == 1  # a single trial has all stages
    assert agent.players[0].lived.tolist() == [[3]] * NUM_TASKS
    expected = HORIZON * got.tasks[0] * -0.25
    for k, row in enumerate(returns(got)):
        np.testing.assert_allclose(row, k * expected, atol=1e-12)


@pytest.mark.parametrize("deterministic", ["never", "evaluation", "always"])
def test_each_trial_is_measured_on_the_episode_after_its_exploration(deterministic):
    """The return of the sinker is its episode's index, times −.25 · horizon · slope."""
    agent = Sinker(noise=0.0 if deterministic == "never" else 1.0)
    settings = {"exploration_episodes": 3, "evaluation_episodes": 2, "adaptation_steps": 2}
    got = measured(agent, deterministic=deterministic, **settings)
    assert got.stages == ("before", "after 3 episodes", "after 6 episodes")
    expected = HORIZON * got.tasks[0] * -0.25
    for k, episode in enumerate((0, 3, 6)):
        np.testing.assert_allclose(returns(got)[k], expected.repeat(2, 1) * episode, atol=1e-12)
    if deterministic == "evaluation":  # trials of each stage, which explore with sampled actions
        for k, player in enumerate(agent.players):
            explored = [False] * (3 * k * HORIZON)
            assert player.requested == explored + HORIZON * [True]
    else:
        (player,) = agent.players
        assert player.requested == [deterministic == "always"] * (7 * HORIZON)
        assert player.lived.shape == (NUM_TASKS, 2)


def test_the_trials_of_a_task_are_independent():
    got = measured(Sinker(noise=1.0), evaluation_episodes=2)
    first, second = np.moveaxis(returns(got), -1, 0)
    assert not np.isin(first, second).any()


def test_stages_are_named_by_steps_or_by_episodes():
    pearl, varibad, maml = (PRESETS[name] for name in ("pearl", "varibad", "maml"))
    steps = ("before", "after 1 step", "after 2 steps", "after 3 steps")
    assert stage_names(maml, remembers=False) == steps
    assert stage_names(maml, remembers=True)[1:3] == ("after 20 episodes", "after 40 episodes")
    assert stage_names(pearl, remembers=True) == ("before", "after 2 episodes")
    assert stage_names(varibad, remembers=True) == ("episode 1", "episode 2")
    assert stage_names(replace(varibad, deterministic="evaluation"), remembers=True) == (
        "before", "after 1 episode",
    )  # fmt: skip
    assert stage_names(varibad, remembers=False) == ("before", "after 1 step")


# What counts.


@pytest.mark.parametrize("agent", [Diver, Sinker])
def test_the_last_episode_or_the_mean_of_all_is_reported(agent):
    mean, last = (measured(agent(0.5), task_score=score) for score in ("mean", "last"))
    np.testing.assert_array_equal(returns(mean), returns(last))
    for k in range(3):
        np.testing.assert_array_equal(mean.scores(k)[0], returns(mean)[k].mean(-1))
        np.testing.assert_array_equal(last.scores(k)[0], returns(mean)[k, :, -1])
    np.testing.assert_array_equal(
        last.reference("random"), last.references["random"].returns[..., -1]
    )


@pytest.mark.parametrize("agent", [Diver(), Sinker()], ids=["diver", "sinker"])
def test_success_at_any_step_counts(agent):
    settings = {"exploration_episodes": 1, "evaluation_episodes": 1, "adaptation_steps": 3}
    got = measured(agent, Slope(has_success=True), **settings)
    assert got.metrics == ("return", "success")
    for k in range(4):
        expected = -0.25 * k * got.tasks[0, :, 0] > 0.2
        np.testing.assert_array_equal(got.scores(k, "success")[0], expected)
    assert 0 < got.scores(3, "success").mean() < 1
    oracle = np.abs(got.tasks[0, :, 0]) > 0.2
    np.testing.assert_array_equal(got.reference("oracle", "success")[0], oracle)


# References.


@pytest.mark.parametrize(("split", "sign"), [("train", 1), ("test", -1)])
def test_tasks_are_those_of_the_split(split, sign):
    got = measured(Diver(), split=split)
    assert (np.sign(got.tasks[0]) == sign).all()
    assert got.tasks[0].shape == (NUM_TASKS, 1)


def test_the_oracle_row_is_the_best_return_of_each_task():
    got = measured(Diver())
    expected = HORIZON * np.abs(got.tasks[0])
    np.testing.assert_allclose(
        got.references["oracle"].returns[0], expected.repeat(NUM_EPISODES, 1)
    )


def test_the_oracle_acts_in_every_state(monkeypatch):
    monkeypatch.setattr(SlopeBatch, "flip", True)
    got = measured(Diver())
    np.testing.assert_allclose(got.reference("oracle")[0], HORIZON * np.abs(got.tasks[0, :, 0]))


def test_a_family_without_an_oracle_has_no_oracle_row():
    assert list(measured(Diver(), Slope(has_oracle=False)).references) == ["random"]


def test_random_actions_are_uniform_over_the_action_space():
    got = measured(Diver(), num_tasks=500, evaluation_episodes=4)
    deviations = np.abs(got.tasks[0, :, 0]) * math.sqrt(HORIZON / 3 / 4)  # Var U(−1, 1) = 1/3
    standardized = got.reference("random")[0] / deviations
    assert abs(standardized.mean()) < 5 / math.sqrt(500)
    assert standardized.std() == pytest.approx(1, abs=5 / math.sqrt(2 * 500))


def test_other_agents_are_measured_at_the_last_stage():
    others = {"two": {"a": Diver(), "b": Diver()}, "memory": {"c": Sinker()}}
    settings = protocol(exploration_episodes=1, evaluation_episodes=1, paired=True)
    got = evaluate(Diver(), Slope(), settings, references=others)
    expected = HORIZON * got.tasks[0, :, 0] * -0.5
    assert list(got.references) == ["random", "oracle", "two", "memory"]
    np.testing.assert_allclose(got.reference("two"), [expected] * 2)
    np.testing.assert_allclose(got.reference("memory"), [expected])


def test_episodes_of_a_reference_with_a_memory_are_added_up():
    group = {"memory": {"a": Sinker(), "b": Sinker()}, "steps": {"c": Diver()}}
    settings = protocol(exploration_episodes=1, evaluation_episodes=1, paired=True)
    got = evaluate(Sinker(), Slope(), settings, references=group)
    assert got.trial_returns is not None
    assert list(got.totals) == ["memory"]
    np.testing.assert_array_equal(got.totals["memory"], [got.trial_returns[0]] * 2)
    apart = evaluate(Sinker(), Slope(), protocol(exploration_episodes=2), references=group)
    assert not apart.totals


# Randomness.


def test_paired_runs_and_references_have_the_same_tasks_and_random_numbers():
    runs = {"a": Diver(1.0), "b": Diver(1.0), "c": Diver(0.5)}
    got = evaluate(runs, Slope(), protocol(paired=True), references={"d": {"d": Diver(1.0)}})
    assert got.runs == ("a", "b", "c")
    assert got.same_tasks
    first, second, third = got.measured.returns
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(got.references["d"].returns[0], first[-1])
    assert not np.isin(third, first).any()
    np.testing.assert_array_equal(first, returns(measured(Diver(1.0))))


@pytest.mark.parametrize("agent", [Diver, Sinker])
def test_runs_have_their_own_tasks_and_random_numbers_by_default(agent):
    group = {"single": {"d": agent(1.0)}, "several": {"e": agent(1.0), "f": agent(1.0)}}
    runs = {"a": agent(1.0), "b": agent(1.0)}
    got = evaluate(runs, Slope(), protocol(), references=group)
    first, second = got.measured.returns
    assert not got.same_tasks
    assert got.tasks.shape == (2, NUM_TASKS, 1)
    assert not np.isin(first, second).any()
    np.testing.assert_array_equal(first, returns(measured(agent(1.0))))
    # A single agent has the tasks of all runs, one run after another; run k those of run k.
    last = np.concatenate([first[-1], second[-1]])
    np.testing.assert_array_equal(got.references["single"].returns, last[None])
    np.testing.assert_array_equal(got.references["several"].returns, [first[-1], second[-1]])
    oracle = HORIZON * np.abs(got.task_parameters[:, 0])
    np.testing.assert_allclose(got.reference("oracle")[0], oracle)


def test_runs_that_happen_to_have_the_same_tasks_are_crossed():
    class TwoSlopes(Slope):
        def _sample_tasks(self, num_tasks, *_):
            return np.resize([[0.5], [-0.5]], (num_tasks, 1))

    got = evaluate({"a": Diver(1.0), "b": Diver(1.0)}, TwoSlopes(), protocol())
    assert got.same_tasks
    assert got.tasks.shape == (1, NUM_TASKS, 1)
    first, second = got.measured.returns
    assert not np.isin(first, second).any()


@pytest.mark.parametrize("agent", [Diver, Sinker])
def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(agent):
    first, again, other = (measured(agent(1.0), seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.tasks, again.tasks)
    np.testing.assert_array_equal(returns(first), returns(again))
    assert not np.isin(first.tasks, other.tasks).any()
    assert not np.isin(returns(first), returns(other)).any()
    for name in ("random", "oracle"):
        mine, yours = first.references[name].returns, other.references[name].returns
        np.testing.assert_array_equal(mine, again.references[name].returns)
        assert not np.isin(mine, yours).any()


def test_statistics_equal_sums_over_the_raw_returns():
    """Two runs of a trained agent at three stages of six tasks."""
    family = Navigation2D("maml17")
    config = MAMLTRPOConfig(meta_batch_size=3, num_episodes=4, hidden_sizes=(8,))
    agents = {str(seed): MAMLTRPO(family, config, seed=seed).learn(1) for seed in (0, 1)}
    content = evaluate(agents, family, protocol(num_tasks=6, seed=3)).to_json()
    raw = np.array(content["measured"]["returns"])  # [runs, stages, tasks, episodes]
    tables = raw.sum(-1) / NUM_EPISODES
    before = tables[:, 0]
    for k, stage in enumerate(content["statistics"]["return"]["stages"]):
        table = tables[:, k]
        assert stage["mean"]["value"] == pytest.approx(table.sum() / 12)
        middle = sorted(table.flatten())[3:9]
        assert stage["interquartile_mean"]["value"] == pytest.approx(sum(middle) / 6)
        assert stage["gain"]["value"] == pytest.approx((table - before).sum() / 12, abs=1e-9)
        pairs = zip(table.flatten(), before.flatten(), strict=True)
        wins = sum((x > y) + (x == y) / 2 for x, y in pairs)
        assert stage["probability_of_improvement"]["value"] == pytest.approx(wins / 12)
        first, second = table.mean(1)  # Student's interval of two means: t₁ = 12.7062
        spread = 12.7062 * abs(first - second) / 2
        assert stage["mean"]["high"] - stage["mean"]["value"] >= spread * 0.9999
        if spread > 6 * table.std():  # then the variance within the runs is smaller
            assert stage["mean"]["high"] - stage["mean"]["value"] == pytest.approx(spread)
    oracle = np.array(content["references"]["oracle"]["returns"])
    stored = content["statistics"]["return"]["references"]["oracle"]["value"]
    assert stored == pytest.approx(oracle.mean())


# Ends and errors.


@pytest.mark.parametrize("name", ["Diver.adapt_step", "SinkerPlayer.act"])
def test_environments_are_closed_even_if_the_agent_fails(monkeypatch, name):
    family = Slope()
    agent = Diver() if name.startswith("Diver") else Sinker()
    measured(agent, family)
    monkeypatch.setattr(f"{__name__}.{name}", lambda *_, **__: 1 / 0, raising=True)
    with pytest.raises(ZeroDivisionError):
        measured(agent, family)
    assert family.batches
    assert all(batch.closed for batch in family.batches)


def test_invalid_evaluations_are_rejected():
    with pytest.raises(ValueError, match="split must be one of train, test, got 'tets'; did you"):
        measured(Diver(), split="tets")
    with pytest.raises(ValueError, match="agents must hold at least one run, got none"):
        evaluate({}, Slope())


def test_the_evaluation_records_its_protocol():
    got = evaluate(Diver(), Slope(), protocol(seed=5), name="diver")
    assert (got.environment, got.agent, got.runs) == ("Slope:one", "diver", ("diver",))
    assert got.protocol == protocol(seed=5)
    assert evaluate(Diver(), Slope()).protocol == PRESETS["maml"]
