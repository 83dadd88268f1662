"""RL² from outside, in training: iterations, normalizing, annealing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rl2_agents import (
    LOCK,
    ROBOT,
    SMALL,
    agent,
    cases,
    equal,
    everything,
    history,
    make_generator,
    shaken,
    stepwise,
    trials_of,
    variants,
)
from tiny_environments import Lock
from torch import Tensor

import metarl
from metarl.agents import RL2, RL2Config
from metarl.agents.rl2.batch import trial_gae
from metarl.agents.rl2.task_features import TaskEncoder
from metarl.envs.bandits import Bandit
from metarl.envs.simulators.tensor import TensorBatch
from metarl.rl.distributions import Categorical
from metarl.rollouts.trials import Trials, collect_trials
from metarl.tasks.family import Step

STORED = Path(__file__).parents[2] / "data" / "version_0_1"

# Iterations.


@pytest.fixture
def phases(monkeypatch) -> list[Trials]:
    """The trials of each iteration."""
    seen: list[Trials] = []

    def recording(*arguments: Any, **settings: Any) -> Trials:
        seen.append(collect_trials(*arguments, **settings))
        return seen[-1]

    monkeypatch.setattr("metarl.agents.rl2.agent.collect_trials", recording)
    return seen


@cases
def test_the_training_path_equals_the_acting_path(phases, family, settings):
    """Both paths give the same log-probabilities, with episodes that end at different times."""
    learner = agent(family=family, **settings).learn(2)
    trials = trials_of(shaken(learner))
    tasks = family.sample_tasks(4, seed=7)
    batch, _ = learner._process(trials, tasks, learner.config)
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
def test_an_iteration_changes_the_policy_and_its_metrics_describe_its_trials(
    phases, family, settings
):
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
def test_a_run_that_was_saved_and_loaded_continues_as_if_never_stopped(tmp_path, family, settings):
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


def test_every_iteration_samples_different_tasks_and_noise(phases, monkeypatch):
    sampled = []
    sample = ROBOT.sample_tasks

    def remember(*arguments: Any, **settings: Any) -> Any:
        sampled.append(sample(*arguments, **settings))
        return sampled[-1]

    monkeypatch.setattr(ROBOT, "sample_tasks", remember)
    agent(family=ROBOT).learn(2)
    assert not np.array_equal(*sampled)
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


class Spoiled(Lock):
    """Its rewards are NaN in the second batch of steps."""

    spoiled = False

    def transition(self, states: Tensor, *others: Any) -> Any:
        made = super().transition(states, *others)
        if self.spoiled:
            made.rewards[1] = torch.nan
        return made


@pytest.mark.parametrize("settings", [{}, {"optimizer": "trpo"}], ids=["ppo", "trpo"])
def test_a_reward_that_is_not_finite_stops_training_and_leaves_the_agent(settings):
    learner, untroubled = (agent(family=Spoiled(), **settings) for _ in range(2))
    learner.learn(1)
    before = everything(learner)
    learner.family.spoiled = True
    message = r"iteration 2: rewards must be finite, got nan from task 1.*; task 1 is \[\d"
    with pytest.raises(FloatingPointError, match=message):
        learner.learn(1)
    assert equal(everything(learner), before)
    assert learner.num_iterations == 1
    learner.family.spoiled = False
    assert [*history(learner, 2)] == history(untroubled, 3)[1:]
    assert equal(everything(learner), everything(untroubled))


def test_a_loss_that_is_not_finite_leaves_the_agent(monkeypatch):
    learner = agent().learn(1)
    before = everything(learner)

    def spoil(gradients: dict[str, Tensor], _: float) -> Tensor:
        for gradient in gradients.values():
            gradient.fill_(torch.nan)
        return torch.zeros(())

    monkeypatch.setattr("metarl.agents.rl2.updates._clip_grad_norm", spoil)
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


def test_statistics_are_from_earlier_iterations(phases):
    learner = agent(normalize_observations=True, family=ROBOT)
    inputs = torch.randn(4, 6, generator=make_generator())
    torch.testing.assert_close(learner._normalizer.normalized(inputs), inputs)  # nothing seen yet
    learner.learn(2)
    seen = torch.cat([learner.inputs.encode_trials(t)[t.mask] for t in phases]).double().numpy()
    shown = learner._normalizer.normalized(inputs)
    numbers = [0, 1, 4]  # the position and the reward; not the action, not the flag
    expected = (inputs.numpy() - seen.mean(0)) / np.sqrt(seen.var(0) + 1e-8)
    np.testing.assert_allclose(
        shown[:, numbers], np.clip(expected[:, numbers], -10, 10), rtol=1e-4, atol=1e-5
    )
    assert torch.equal(shown[:, [2, 3, 5]], inputs[:, [2, 3, 5]])


def test_rewards_are_divided_by_the_standard_deviation_of_returns(phases):
    learner = agent(gamma=0.9, normalize_rewards=True)
    learner.learn(2)
    returns = []
    for trials in phases:
        for row, mask in zip(
            trials.rewards.flatten(0, 1).tolist(), trials.mask.flatten(0, 1), strict=True
        ):
            tail = row[: int(mask.sum())]
            returns += [sum(0.9**k * r for k, r in enumerate(tail[t:])) for t in range(len(tail))]
    assert learner._normalizer.reward_factor == pytest.approx(1 / np.std(returns), rel=1e-5)
    assert agent(normalize_rewards=False).learn(1)._normalizer.reward_factor == 1


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [10.0, -10.0, 0.0]),
        ({"reward_clip": 2.5}, [2.5, -2.5, 0.0]),
        ({"reward_clip": None}, [1e4, -1e4, 0.0]),
        ({"normalize_rewards": False}, [1.0, -1.0, 0.0]),
    ],
)
def test_normalized_rewards_are_clipped_after_silent_batches(settings, expected):
    learner = agent(**settings)
    learner._normalizer.add_returns(silent(learner), 0.9)
    found = learner._normalizer.normalized_rewards(torch.tensor([1.0, -1.0, 0.0]))
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=0)


def silent(learner: RL2) -> Trials:
    """Trials without any reward."""
    trials = trials_of(learner, num_tasks=3)
    return replace(trials, rewards=torch.zeros_like(trials.rewards))


def test_the_update_learns_from_clipped_rewards():
    learner = agent(gae_lambda=1.0, gamma=1.0)
    learner._normalizer.add_returns(silent(learner), 1.0)
    trials = trials_of(learner, num_tasks=3)
    rewards = torch.zeros_like(trials.rewards)
    rewards[:, :, 0] = torch.tensor([[1.0], [-2.0], [1e-4]])
    tasks = learner.family.sample_tasks(3, seed=0)
    batch = learner._process(replace(trials, rewards=rewards), tasks, learner.config)[0]
    expected = torch.tensor([10.0, -10.0, 1.0])
    torch.testing.assert_close(batch.returns[0], expected, rtol=1e-3, atol=1e-4)


def test_runs_from_before_the_clip_keep_their_rewards():
    assert metarl.load(STORED / "rl2").config.reward_clip is None


def pulled(*, num_trials: int = 4000, **settings: Any) -> tuple[RL2, Trials]:
    """An agent on bandits that learns from undiscounted returns, and trials of it."""
    learner = shaken(
        agent(
            family=Bandit("n10-k5"), gamma=1.0, gae_lambda=1.0, num_episodes=1,
            normalize_rewards=False, privileged_critic=True, **settings,
        )
    )  # fmt: skip
    return learner, trials_of(learner, num_tasks=num_trials)


def test_training_uses_expected_rewards_if_requested():
    for wanted in (True, False):
        learner, trials = pulled(num_trials=3, use_expected_rewards=wanted)
        batch = learner._process(trials, learner.family.sample_tasks(3, seed=7), learner.config)[0]
        learnt_from = trials.expected_rewards if wanted else trials.rewards
        assert learnt_from is not None
        sums = learnt_from.flatten(0, 1).flip(-1).cumsum(-1).flip(-1).T
        torch.testing.assert_close(batch.returns, sums, rtol=1e-4, atol=1e-5)


def test_expected_rewards_give_the_same_mean_gradient_with_less_noise():
    """Σ_t ∇ log π(a_t) R_t by a shift of all logits: means agree, deviations do not."""
    learner, trials = pulled()
    inputs = learner._policy_inputs(
        learner.inputs.encode_trials(trials).flatten(0, 1).transpose(0, 1)
    )
    start = learner.policy.start(learner.params, 4000)
    policy, _, _ = learner.policy.sequence(learner.params, inputs, start, None)
    logits = policy.outputs[0].detach()
    chosen = trials.actions.flatten(0, 1).T
    scores = torch.nn.functional.one_hot(chosen, 5) - logits.softmax(-1)  # [T, B, arms]
    products = {}
    for name, rewards in (("sampled", trials.rewards), ("means", trials.expected_rewards)):
        assert rewards is not None
        to_come = rewards.flatten(0, 1).flip(-1).cumsum(-1).flip(-1).T
        products[name] = (scores * (to_come - to_come.mean(1, keepdim=True)).unsqueeze(-1)).sum(0)
    difference = products["sampled"] - products["means"]
    error = difference.std(0) / 4000**0.5
    assert (difference.mean(0).abs() < 4 * error).all()
    assert (products["means"].var(0) < 0.9 * products["sampled"].var(0)).all()


def test_expected_rewards_need_a_family_that_provides_them():
    with pytest.raises(ValueError, match=r"use_expected_rewards must be False with Lock.*provide"):
        agent(use_expected_rewards=True)


@pytest.mark.parametrize("settings", [{}, {"optimizer": "trpo"}, {"memory": "transformer"}])
def test_values_after_the_end_of_a_trial_are_ignored(settings, monkeypatch):
    step = TensorBatch.step
    over: dict[int, Tensor] = {}

    def broken(env: TensorBatch, actions: Tensor) -> Step:
        made = step(env, actions)
        ends = over.get(id(env), torch.zeros_like(made.terminated, dtype=torch.int64))
        over[id(env)] = ends + (made.terminated | made.truncated)
        waits = ends >= 2  # the trial was over before this step
        return made._replace(
            observations=made.observations.masked_fill(waits.unsqueeze(-1), torch.nan)
        )

    monkeypatch.setattr(TensorBatch, "step", broken)
    metrics = agent(num_episodes=2, **settings).iterate()
    assert any(bool((ends > 2).any()) for ends in over.values())  # some trials did wait
    assert all(math.isfinite(value) for value in metrics.values())


def test_an_invalid_number_of_iterations_is_rejected():
    with pytest.raises(ValueError, match="num_iterations must be 0 or more, got -1"):
        agent().learn(-1)


def test_training_uses_the_annealed_discount(monkeypatch):
    seen = []

    def spy(trials, rewards, values, gamma, lam):
        seen.append(gamma)
        return trial_gae(trials, rewards, values, gamma, lam)

    monkeypatch.setattr("metarl.agents.rl2.agent.trial_gae", spy)
    agent(gamma=0.9, final_gamma=0.99, anneal_iterations=2).learn(3)
    assert seen == pytest.approx([0.9, 1 - 0.1**1.5, 0.99])


@pytest.mark.parametrize("sees", [False, True])
def test_the_critic_observes_the_time_and_if_privileged_the_task(sees):
    learner = agent(privileged_critic=sees)
    trials, tasks = trials_of(learner), LOCK.sample_tasks(4, seed=7)
    batch = learner._process(trials, tasks, learner.config)[0]
    steps = trials.mask.shape[-1]
    assert batch.trial_progress.shape == (steps, 4, 1)
    assert batch.trial_progress[:, 2, 0].tolist() == pytest.approx([t / 8 for t in range(steps)])
    assert batch.tasks.shape == (1, 4, 5 if sees else 0)
    if sees:
        numbers = TaskEncoder(LOCK, seed=learner.seed, device=torch.device("cpu"))
        assert torch.equal(batch.tasks[0], numbers(tasks))


# Errors.


def test_an_error_in_the_middle_of_an_update_leaves_the_agent_as_it_was(monkeypatch):
    """The third minibatch of the second iteration runs out of memory."""
    learner = agent(num_minibatches=2, num_epochs=2).learn(1)
    before = everything(learner)
    steps, take = [], torch.optim.Adam.step

    def failing(self: torch.optim.Adam, *arguments: Any, **settings: Any) -> None:
        steps.append(1)
        if len(steps) == 3:
            raise MemoryError
        take(self, *arguments, **settings)

    monkeypatch.setattr(torch.optim.Adam, "step", failing)
    with pytest.raises(MemoryError):
        learner.iterate()
    assert len(steps) == 3
    assert learner.num_iterations == 1
    assert equal(everything(learner), before)


def test_an_error_at_the_end_of_an_iteration_leaves_the_agent_as_it_was(monkeypatch):
    learner = agent().learn(1)
    before, steps = everything(learner), learner.num_env_steps
    monkeypatch.setattr(Trials, "num_steps", property(interrupted))
    with pytest.raises(KeyboardInterrupt):
        learner.iterate()
    assert (learner.num_iterations, learner.num_env_steps) == (1, steps)
    assert equal(everything(learner), before)


def interrupted(_: Trials) -> int:
    raise KeyboardInterrupt


# On a GPU.


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.gpu
@variants
def test_an_agent_acts_the_same_on_the_gpu_and_trains_there(settings, monkeypatch):
    def sample(distribution: Categorical, _: torch.Generator) -> Tensor:
        sampled = torch.rand(distribution.logits.shape, generator=noise).to(distribution.logits)
        return (-torch.log1p(-sampled) / distribution.logits.exp()).argmin(-1)

    monkeypatch.setattr(Categorical, "sample", sample)  # the same numbers on both devices
    seen = []
    for device in ("cpu", "cuda"):
        noise = make_generator()
        learner = RL2(LOCK, RL2Config(**{**SMALL, **settings}), device=device)
        seen.append(learner.iterate())
        assert learner.iterate()["time/env_steps"] == learner.num_env_steps
        assert all(p.device.type == device and p.isfinite().all() for p in learner.params.values())
    for name in ("rollout/support_return", "rollout/trial_return", "meta/explained_variance"):
        assert seen[1][name] == pytest.approx(seen[0][name], rel=1e-2, abs=1e-2)
