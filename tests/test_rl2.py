"""RL² from outside: iterations, memory across episodes, prediction, files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_environments import Lock
from torch import Tensor

from metarl.agents import RL2, RL2Config
from metarl.agents.rl2 import RL2Player
from metarl.agents.task_numbers import TaskNumbers
from metarl.distributions import Distribution
from metarl.envs import make_family
from metarl.envs.bandits import Bandit
from metarl.envs.grids import GridNavigation
from metarl.envs.point_robots import SparsePointRobot
from metarl.envs.tensor_family import TensorBatch
from metarl.evaluation_protocol import EvaluationProtocol
from metarl.evaluator import evaluate
from metarl.tasks import TaskFamily
from metarl.trials import Moment, Trials, collect_trials

LOCK, ROBOT = Lock(), SparsePointRobot("pearl")
ROBOT.horizon = 4  # so that the tests are short
SMALL: dict[str, Any] = {
    "num_episodes": 2,
    "meta_batch_size": 4,
    "memory_size": 8,
    "value_hidden_sizes": (4,),
    "num_epochs": 2,
    "num_minibatches": 2,
    "learning_rate": 1e-2,
    "cg_iterations": 3,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "gru": {},
    "lstm": {"memory": "lstm", "encoder_sizes": (6,)},
    "transformer": {"memory": "transformer"},
    "none": {"memory": "none", "hidden_sizes": (6,)},
    "hypernetwork": {"head": "hypernetwork", "hidden_sizes": (5,)},
    "trpo": {"optimizer": "trpo"},
    "trpo transformer": {"optimizer": "trpo", "memory": "transformer"},
    "cleared": {"clear_each_episode": True},
    "cleared transformer": {"clear_each_episode": True, "memory": "transformer"},
    "truncated": {"backprop_steps": 3},
    "all options": {
        "normalize_observations": True, "value_sees_task": True, "anneal_iterations": 5,
        "value_clip": 0.2, "clear_each_episode": True,
    },
}  # fmt: skip
variants = pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
few = pytest.mark.parametrize(
    "settings", [{}, {"memory": "transformer"}], ids=["gru", "transformer"]
)
CASES = [(LOCK, name) for name in VARIANTS] + [(ROBOT, n) for n in ("gru", "trpo", "all options")]
cases = pytest.mark.parametrize(
    ("family", "settings"),
    [(family, VARIANTS[name]) for family, name in CASES],
    ids=[f"{name} {'lock' if family is LOCK else 'robot'}" for family, name in CASES],
)


def agent(*, family: TaskFamily = LOCK, seed: int = 0, **settings: Any) -> RL2:
    return RL2(family, RL2Config(**{**SMALL, **settings}), seed=seed)


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shaken(learner: RL2) -> RL2:
    """With parameters far from the first ones, so that the policy is no longer uniform."""
    with torch.no_grad():
        for k, p in enumerate(learner.params.values()):
            p.add_(torch.randn(p.shape, generator=chance(k)), alpha=0.3)
    return learner


def everything(learner: RL2) -> dict[str, Tensor]:
    """All that a checkpoint holds."""
    return {name: t.detach().clone() for name, t in learner._tensors().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Bit by bit."""
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def untimed(metrics: dict[str, float]) -> dict[str, float]:
    """Without what a clock measured."""
    measured = ("time/env_steps_per_second", "time/sampling_seconds", "time/update_seconds")
    return {name: value for name, value in metrics.items() if name not in measured}


def history(learner: RL2, num_iterations: int) -> list[dict[str, float]]:
    seen: list[dict[str, float]] = []
    learner.learn(num_iterations, callback=lambda _, metrics: seen.append(untimed(metrics)))
    return seen


def lived(learner: RL2, *, num_tasks: int = 4, num_envs: int = 1, **settings: Any) -> Trials:
    """Trials of the learner as it is."""
    tasks = learner.family.sample_tasks(num_tasks, seed=7)
    env = learner.family.make_batch(tasks, num_envs=num_envs)
    player = learner.play(num_tasks, num_envs, chance(1))
    settings.setdefault("num_episodes", learner.config.num_episodes)
    return collect_trials(env, player, chance(2), **settings)


def moments(trials: Trials) -> Iterator[Moment]:
    """What the agent of these trials was told."""
    never = torch.zeros_like(trials.mask[..., 0])
    yield Moment(trials.observations[:, :, 0], None, torch.zeros(never.shape), never, never)
    for t in range(1, trials.mask.shape[-1]):
        yield Moment(
            trials.observations[:, :, t], trials.actions[:, :, t - 1], trials.rewards[..., t - 1],
            trials.episode_ends[..., t - 1], never,
        )  # fmt: skip


def stepwise(learner: RL2, trials: Trials) -> list[Distribution]:
    """The policy at each moment of these trials, along the acting path."""
    state, found = None, []
    for moment in moments(trials):
        distribution, state = learner.policy_at(moment, state)
        found.append(distribution)
    return found


# Iterations.


@pytest.fixture
def phases(monkeypatch) -> list[Trials]:
    """The trials of each iteration."""
    seen: list[Trials] = []

    def recording(*arguments: Any, **settings: Any) -> Trials:
        seen.append(collect_trials(*arguments, **settings))
        return seen[-1]

    monkeypatch.setattr("metarl.agents.rl2.collect_trials", recording)
    return seen


@cases
def test_the_policy_that_learns_is_the_one_that_acted(phases, family, settings):
    """Log-probabilities of the training path are those of the acting path, ends out of step."""
    learner = agent(family=family, **settings).learn(2)
    trials = lived(shaken(learner))
    tasks = family.sample_tasks(4, seed=7)
    batch, _ = learner._process(trials, tasks)
    acted = torch.stack(
        [
            distribution.log_prob(trials.actions[:, :, t].flatten(0, 1))
            for t, distribution in enumerate(stepwise(learner, trials))
        ]
    )
    assert acted.std() > 0.05
    if family is LOCK:
        assert len(trials.mask.sum(-1).unique()) > 1
    torch.testing.assert_close(batch.log_probs[batch.mask], acted[batch.mask], rtol=0, atol=2e-5)
    del phases


@cases
def test_an_iteration_moves_the_policy_and_its_metrics_are_of_its_trials(phases, family, settings):
    learner = agent(family=family, **settings)
    before = everything(learner)
    metrics = learner.iterate()
    after = everything(learner)
    for name in learner.params:
        moved = not torch.equal(after[f"parameters/{name}"], before[f"parameters/{name}"])
        assert moved, name
    returns = phases[0].episode_returns
    assert metrics["rollout/support_return"] == pytest.approx(float(returns[..., 0].mean()))
    assert metrics["rollout/query_return"] == pytest.approx(float(returns[..., 1].mean()))
    assert metrics["rollout/trial_return"] == pytest.approx(float(returns.sum(-1).mean()))
    assert metrics["time/env_steps"] == int(phases[0].mask.sum()) == learner.num_env_steps
    assert all(np.isfinite(value) for value in metrics.values())
    assert learner.num_iterations == 1


@cases
def test_a_run_that_was_saved_and_loaded_goes_on_as_if_never_stopped(tmp_path, family, settings):
    straight, stopped = (agent(family=family, seed=3, **settings) for _ in range(2))
    expected = history(straight, 6)
    seen = history(stopped, 3)
    stopped.save(tmp_path / "agent")
    resumed = RL2.load(tmp_path / "agent", family)
    assert resumed.config == stopped.config
    seen += history(resumed, 3)
    assert seen == expected
    assert equal(everything(resumed), everything(straight))
    assert (resumed.num_iterations, resumed.num_env_steps) == (6, straight.num_env_steps)


def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    first, again, other = (agent(seed=seed) for seed in (0, 0, 1))
    assert not torch.equal(first.params["value.head.weight_0"], other.params["value.head.weight_0"])
    assert history(first, 2) == history(again, 2) != history(other, 2)
    assert equal(everything(first), everything(again))


def test_every_iteration_draws_tasks_and_noise_of_its_own(phases, monkeypatch):
    drawn = []
    sample = ROBOT.sample_tasks

    def remember(*arguments: Any, **settings: Any) -> Any:
        drawn.append(sample(*arguments, **settings))
        return drawn[-1]

    monkeypatch.setattr(ROBOT, "sample_tasks", remember)
    agent(family=ROBOT).learn(2)
    assert not np.array_equal(*drawn)
    first, second = (trials.actions[:, :, 0] for trials in phases)
    assert (first - second).abs().min() > 0


def test_a_callback_sees_each_iteration_and_may_end_training():
    seen: list[int] = []

    def callback(learner: RL2, metrics: dict[str, float]) -> bool:
        assert metrics["time/env_steps"] == learner.num_env_steps
        seen.append(learner.num_iterations)
        return len(seen) < 2

    learner = agent()
    assert learner.learn(5, callback=callback) is learner
    assert seen == [1, 2]


class Spoilt(Lock):
    """What it pays in its second batch of steps is not a number."""

    spoilt = False

    def transition(self, states: Tensor, *others: Any) -> Any:
        made = super().transition(states, *others)
        if self.spoilt:
            made.rewards[1] = torch.nan
        return made


@pytest.mark.parametrize("settings", [{}, {"optimizer": "trpo"}], ids=["ppo", "trpo"])
def test_a_reward_that_is_not_finite_stops_training_and_leaves_the_agent(settings):
    learner, untroubled = (agent(family=Spoilt(), **settings) for _ in range(2))
    learner.learn(1)
    before = everything(learner)
    learner.family.spoilt = True
    message = r"iteration 2: rewards must be finite, got nan from task 1.*; task 1 is \[\d"
    with pytest.raises(FloatingPointError, match=message):
        learner.learn(1)
    assert equal(everything(learner), before)
    assert learner.num_iterations == 1
    learner.family.spoilt = False
    assert [*history(learner, 2)] == history(untroubled, 3)[1:]
    assert equal(everything(learner), everything(untroubled))


def test_a_loss_that_is_not_finite_leaves_the_agent(monkeypatch):
    learner = agent().learn(1)
    before = everything(learner)

    def spoil(gradients: dict[str, Tensor], _: float) -> Tensor:
        for gradient in gradients.values():
            gradient.fill_(torch.nan)
        return torch.zeros(())

    monkeypatch.setattr("metarl.agents.rl2_updates._shorten", spoil)
    message = "iteration 2: parameter .* must be finite; try a smaller learning_rate"
    with pytest.raises(FloatingPointError, match=message):
        learner.iterate()
    assert equal(everything(learner), before)


def test_parameters_that_are_not_finite_are_named_and_not_saved(tmp_path: Path):
    learner = agent()
    with torch.no_grad():
        learner.params["policy.head.bias_0"][0] = torch.inf
    with pytest.raises(FloatingPointError, match=r"parameter policy.head.bias_0 must be finite"):
        learner.iterate()
    with pytest.raises(FloatingPointError, match=r"parameter policy.head.bias_0 must be finite"):
        learner.save(tmp_path / "agent")
    assert not (tmp_path / "agent").exists()


def test_environments_are_kept_until_the_agent_is_closed(monkeypatch):
    closed: list[TensorBatch] = []
    monkeypatch.setattr(TensorBatch, "close", lambda env: closed.append(env))  # noqa: PLW0108
    learner = agent().learn(2)
    assert closed == []
    learner.close()
    learner.close()
    assert len(closed) == 1


# Normalising and annealing.


def test_statistics_are_those_of_the_iterations_before(phases):
    learner = agent(normalize_observations=True, family=ROBOT)
    inputs = torch.randn(4, 6, generator=chance())
    torch.testing.assert_close(learner._normalized(inputs), inputs)  # nothing seen yet
    learner.learn(2)
    seen = torch.cat([learner.inputs.encode_trials(t)[t.mask] for t in phases]).double().numpy()
    shown = learner._normalized(inputs)
    numbers = [0, 1, 4]  # the position and the reward; not the action, not the flag
    expected = (inputs.numpy() - seen.mean(0)) / np.sqrt(seen.var(0) + 1e-8)
    np.testing.assert_allclose(
        shown[:, numbers], np.clip(expected[:, numbers], -10, 10), rtol=1e-4, atol=1e-5
    )
    assert torch.equal(shown[:, [2, 3, 5]], inputs[:, [2, 3, 5]])


def test_rewards_are_learnt_from_in_units_of_the_deviation_of_returns(phases):
    learner = agent(gamma=0.9, normalize_rewards=True)
    learner.learn(2)
    returns = []
    for trials in phases:
        for row, mask in zip(
            trials.rewards.flatten(0, 1).tolist(), trials.mask.flatten(0, 1), strict=True
        ):
            tail = row[: int(mask.sum())]
            returns += [sum(0.9**k * r for k, r in enumerate(tail[t:])) for t in range(len(tail))]
    assert learner._reward_factor() == pytest.approx(1 / np.std(returns), rel=1e-5)
    assert agent(normalize_rewards=False).learn(1)._reward_factor() == 1


def pulled(*, num_trials: int = 4000, **settings: Any) -> tuple[RL2, Trials]:
    """An agent of bandits that learns from what is summed up to the end, and trials of it."""
    learner = shaken(
        agent(
            family=Bandit("n10-k5"), gamma=1.0, gae_lambda=1.0, num_episodes=1,
            normalize_rewards=False, value_sees_task=True, **settings,
        )
    )  # fmt: skip
    return learner, lived(learner, num_tasks=num_trials)


def test_means_of_rewards_are_learnt_from_if_wanted():
    for wanted in (True, False):
        learner, trials = pulled(num_trials=3, expected_rewards=wanted)
        batch = learner._process(trials, learner.family.sample_tasks(3, seed=7))[0]
        learnt_from = trials.expected_rewards if wanted else trials.rewards
        assert learnt_from is not None
        sums = learnt_from.flatten(0, 1).flip(-1).cumsum(-1).flip(-1).T
        torch.testing.assert_close(batch.returns, sums, rtol=1e-4, atol=1e-5)


def test_means_of_rewards_give_the_same_gradient_on_average_with_less_noise():
    """Σ_t ∇ log π(a_t) R_t by a shift of all logits: means agree, deviations do not."""
    learner, trials = pulled()
    inputs = learner._shown(learner.inputs.encode_trials(trials).flatten(0, 1).transpose(0, 1))
    start = learner.policy.start(learner.params, 4000)
    policy, _, _ = learner.policy.sequence(learner.params, inputs, start, None)
    logits = policy.outputs[0].detach()
    chosen = trials.actions.flatten(0, 1).T
    scores = torch.nn.functional.one_hot(chosen, 5) - logits.softmax(-1)  # [T, B, arms]
    products = {}
    for name, rewards in (("drawn", trials.rewards), ("means", trials.expected_rewards)):
        assert rewards is not None
        to_come = rewards.flatten(0, 1).flip(-1).cumsum(-1).flip(-1).T
        products[name] = (scores * (to_come - to_come.mean(1, keepdim=True)).unsqueeze(-1)).sum(0)
    difference = products["drawn"] - products["means"]
    error = difference.std(0) / 4000**0.5
    assert (difference.mean(0).abs() < 4 * error).all()
    assert (products["means"].var(0) < 0.9 * products["drawn"].var(0)).all()


def test_means_that_a_family_does_not_tell_cannot_be_learnt_from():
    with pytest.raises(ValueError, match=r"expected_rewards must be False with Lock.*not tell"):
        agent(expected_rewards=True).learn(1)


def test_learning_rate_and_entropy_fall_to_zero_when_annealed():
    learner = agent(anneal_iterations=4, entropy_coefficient=0.2)
    found = []
    for done in range(6):
        learner.num_iterations = done
        now = learner._annealed()
        found.append((now.learning_rate, now.entropy_coefficient))
    rates, entropies = zip(*found, strict=True)
    assert rates == pytest.approx([1e-2, 7.5e-3, 5e-3, 2.5e-3, 0, 0], abs=1e-9)
    assert entropies == pytest.approx([0.2, 0.15, 0.1, 0.05, 0, 0])
    assert agent()._annealed() == agent().config


@pytest.mark.parametrize("sees", [False, True])
def test_values_are_told_the_time_and_if_wanted_the_task(sees):
    learner = agent(value_sees_task=sees)
    trials, tasks = lived(learner), LOCK.sample_tasks(4, seed=7)
    batch = learner._process(trials, tasks)[0]
    steps = trials.mask.shape[-1]
    assert batch.told.shape == (steps, 4, 1)
    assert batch.told[:, 2, 0].tolist() == pytest.approx([t / 8 for t in range(steps)])
    assert batch.tasks.shape == (1, 4, 5 if sees else 0)
    if sees:
        numbers = TaskNumbers(LOCK, seed=learner.seed, device=torch.device("cpu"))
        assert torch.equal(batch.tasks[0], numbers(tasks))


# Memory.


@variants
def test_the_memory_lasts_over_the_ends_of_episodes_unless_it_is_cleared(settings):
    learner = shaken(agent(**settings))
    trials = lived(learner)
    altered = lived(learner)
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
def test_a_memory_cleared_at_an_episodes_end_is_that_of_a_new_trial(memory):
    learner = shaken(
        agent(clear_each_episode=True, memory=memory, normalize_observations=True).learn(1)
    )
    trials = lived(learner)
    found = torch.stack([d.outputs[0] for d in stepwise(learner, trials)], 1)
    first_end = trials.episode_ends[:, 0].long().argmax(-1)
    fresh, _ = learner.policy_at(next(moments(trials)), None)
    for row, end in enumerate(first_end.tolist()):
        torch.testing.assert_close(found[row, end + 1], fresh.outputs[0][row], rtol=0, atol=1e-6)


@few
def test_every_trial_begins_with_a_new_memory(settings):
    learner = shaken(agent(**settings))
    first, again = lived(learner), lived(learner)
    assert torch.equal(first.actions, again.actions)


@few
def test_players_do_not_share_a_memory(settings):
    learner = shaken(agent(**settings))
    alone = lived(learner, num_exploratory=0)
    busy, other = learner.play(4, 1, chance(1)), learner.play(4, 1, chance(1))
    acted = []
    for moment, noise in zip(moments(alone), moments(lived(learner)), strict=False):
        wanted = moment._replace(deterministic=torch.ones_like(moment.deterministic))
        acted.append(busy.act(wanted))
        other.act(noise)
    together = torch.stack(acted, 2)
    steps = together.shape[2]
    mask = alone.mask[..., :steps]
    assert torch.equal(together[mask], alone.actions[:, :, :steps][mask])


@variants
@pytest.mark.parametrize("family", [LOCK, GridNavigation("varibad")], ids=["lock", "grid"])
def test_each_environment_lives_its_trial_as_if_alone(family, settings):
    learner = shaken(agent(family=family, **settings))
    tasks = family.sample_tasks(3, seed=7)

    def run(rows: Any, num_envs: int) -> Trials:
        env = family.make_batch(rows, num_envs=num_envs)
        player = learner.play(len(rows), num_envs, chance())
        return collect_trials(env, player, chance(), num_episodes=2, num_exploratory=0)

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
def test_predicting_with_its_state_is_playing(family, settings, deterministic):
    learner = shaken(agent(family=family, **settings))
    played = lived(learner, num_exploratory=0 if deterministic else None)
    generator, state, predicted = chance(1), None, []
    for moment in moments(played):
        actions, state = learner.predict(
            moment, state, deterministic=deterministic, generator=generator
        )
        predicted.append(actions)
    together = torch.stack(predicted, 2)
    assert together.shape == played.actions.shape
    assert torch.equal(together[played.mask], played.actions[played.mask])


def test_a_player_takes_the_mode_where_it_is_wanted_only():
    learner = shaken(agent(family=ROBOT))
    trials = lived(learner)
    moment = next(moments(trials))
    wanted = torch.tensor([[True], [False], [True], [False]])
    acted = RL2Player(learner, chance(1)).act(moment._replace(deterministic=wanted))
    mode, _ = learner.predict(moment)
    drawn, _ = learner.predict(moment, deterministic=False, generator=chance(1))
    assert torch.equal(acted, torch.where(wanted.unsqueeze(-1), mode, drawn))
    assert (mode - drawn).abs().min() > 0


def test_drawing_without_a_generator_is_refused():
    moment = next(moments(lived(agent())))
    with pytest.raises(ValueError, match=r"generator must be given .*deterministic=False"):
        agent().predict(moment, deterministic=False)


def test_without_a_memory_the_observation_is_all_there_is():
    learner = shaken(agent(memory="none", family=ROBOT))
    assert not learner.remembers
    assert agent().remembers
    first, *later = moments(lived(learner))
    same = later[3]._replace(observations=first.observations)
    assert torch.equal(learner.predict(first)[0], learner.predict(same)[0])


@pytest.mark.parametrize(("given", "resolved"), [(None, 10.0), (2.0, 2.0)])
def test_the_action_scale_is_the_variants_unless_it_is_given(tmp_path: Path, given, resolved):
    learner, plain = agent(family=ROBOT, action_scale=given), agent(family=ROBOT, action_scale=1.0)
    assert learner.config.action_scale == resolved
    moment = next(moments(lived(plain)))
    one, other = (one.policy_at(moment, None)[0].outputs for one in (learner, plain))
    torch.testing.assert_close(one[0], other[0] / resolved)
    torch.testing.assert_close(one[1].exp(), other[1].exp() / resolved)
    learner.save(tmp_path / "agent")
    assert RL2.load(tmp_path / "agent", ROBOT).config.action_scale == resolved


@pytest.mark.parametrize("memory", ["gru", "none"])
def test_the_evaluator_measures_it_episode_by_episode(memory):
    learner = shaken(agent(memory=memory))
    protocol = EvaluationProtocol(
        num_tasks=5, exploration_episodes=1, adaptation_steps=2, evaluation_episodes=1
    )
    found = evaluate(learner, LOCK, protocol)
    assert found.measured.returns.shape == (1, 3, 5, 1)
    assert found.stages[0] == ("episode 1" if learner.remembers else "before")


# Files.


@few
def test_a_loaded_agent_acts_the_same(tmp_path: Path, settings):
    learner = agent(seed=5, **settings).learn(2)
    learner.save(tmp_path / "agent")
    loaded = RL2.load(tmp_path / "agent", LOCK)
    assert (loaded.config, loaded.seed) == (learner.config, 5)
    assert equal(everything(loaded), everything(learner))
    one, other = lived(learner), lived(loaded)
    assert torch.equal(one.actions, other.actions)


def test_the_checkpoint_of_another_family_is_refused(tmp_path: Path):
    agent().save(tmp_path / "agent")
    with pytest.raises(ValueError, match="must be of environment 'Bandit:n10-k5', it is of 'Lock"):
        RL2.load(tmp_path / "agent", Bandit("n10-k5"))


def test_a_checkpoint_that_does_not_fit_its_settings_is_refused(tmp_path: Path):
    learner = agent()
    learner._seen = replace(learner._seen, mean=torch.zeros(2, dtype=torch.float64))
    learner.save(tmp_path / "agent")
    with pytest.raises(ValueError, match=r"must hold seen/mean as torch.float64 \[8\], it holds"):
        RL2.load(tmp_path / "agent", LOCK)


# What does not fit.


def test_heads_that_do_not_divide_the_size_are_refused():
    with pytest.raises(ValueError, match="num_heads must divide the size 8 of the memory, got 3"):
        agent(memory="transformer", num_heads=3)


def test_more_episodes_than_a_transformer_was_made_for_are_refused():
    learner = agent(memory="transformer", family=make_family("GridNavigation:varibad"))
    with pytest.raises(ValueError, match=r"trial must have at most the 30 steps .* comes to 31"):
        lived(learner, num_episodes=3)
