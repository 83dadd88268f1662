"""MAML-TRPO from outside: one update, whole runs, files."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from maml_agents import (
    NAVIGATION,
    SMALL,
    adapted,
    agent,
    batch_of,
    copied,
    episodes_of,
    equal,
    history,
    torch_normal,
    trained,
    unadapted,
    untimed,
)
from torch import Tensor

from metarl.agents import MAMLTRPO, MAMLTRPOConfig
from metarl.envs import make_family
from metarl.envs.navigation.goals import Navigation2D
from metarl.envs.simulators.tensor import TensorBatch
from metarl.rl.distributions import DiagonalGaussian
from metarl.rollouts.episodes import Episodes, collect
from metarl.rollouts.trials import ActorInput
from metarl.tasks.family import Step
from metarl.tasks.spaces import Tasks


@pytest.fixture
def phases(monkeypatch) -> list[Episodes]:
    """The episodes of each phase that training collects, in order."""
    seen: list[Episodes] = []

    def recording(*arguments: Any) -> Episodes:
        seen.append(collect(*arguments))
        return seen[-1]

    monkeypatch.setattr("metarl.agents.maml_trpo.agent.collect", recording)
    return seen


# One update, checked task by task against the public functions and torch.


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_update_raises_the_adapted_surrogate_and_keeps_the_divergence_in_bounds(phases, seed):
    learner = agent(seed=seed)
    before = copied(learner.params)
    shared = unadapted(learner)
    metrics = learner.iterate()
    support = batch_of(learner, shared, phases[0])
    acting = [adapted(learner, before, support, task) for task in range(3)]
    stacked = {name: torch.stack([task[name] for task in acting]) for name in before}
    query = batch_of(learner, stacked, phases[1])

    gains, divergences = [], []
    for task, old in enumerate(acting):
        new = adapted(learner, learner.params, support, task)
        counts = query.mask[task]
        observations, actions = query.observations[task][counts], query.actions[task][counts]
        was, now = (torch_normal(learner, params, observations) for params in (old, new))
        ratios = torch.exp(now.log_prob(actions) - was.log_prob(actions))
        gains.append(((ratios - 1) * query.advantages[task][counts]).mean())
        divergences.append(torch.distributions.kl_divergence(was, now).mean())
    gain, divergence = float(torch.stack(gains).mean()), float(torch.stack(divergences).mean())

    assert metrics["meta/accepted"] == 1
    assert gain > 1e-3
    assert 1e-3 < divergence <= learner.config.max_kl_nats * (1 + 1e-4)
    assert metrics["meta/improvement"] == pytest.approx(gain, abs=1e-5)
    assert metrics["meta/kl_nats"] == pytest.approx(divergence, abs=1e-5)


def test_the_metrics_of_an_iteration_follow_from_its_episodes(phases):
    learner = agent(num_inner_steps=2)
    metrics = learner.iterate()
    assert len(phases) == 3
    assert metrics["rollout/support_return"] == pytest.approx(float(phases[0].returns.mean()))
    assert metrics["rollout/query_return"] == pytest.approx(float(phases[2].returns.mean()))
    assert metrics["time/env_steps"] == sum(int(episodes.mask.sum()) for episodes in phases)
    learner.iterate()
    assert learner.num_env_steps == sum(int(episodes.mask.sum()) for episodes in phases)
    assert learner.num_iterations == 2


def test_a_failed_line_search_leaves_the_parameters_and_is_reported(monkeypatch):
    def uphill(gradient: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        return 0.1 * gradient, 0.1 * gradient @ gradient

    monkeypatch.setattr("metarl.agents.maml_trpo.agent.trust_region_step", uphill)
    learner = agent(line_search_steps=4)
    before = copied(learner.params)
    metrics = learner.iterate()
    assert equal(learner.params, before)
    assert metrics["meta/accepted"] == 0
    assert metrics["meta/line_search_steps"] == 4
    assert metrics["meta/kl_nats"] == metrics["meta/improvement"] == 0
    assert learner.num_iterations == 1  # the next iteration tries other tasks


class Overflowing(Navigation2D):
    """Rewards are finite, but their sum over an episode is not."""

    def make_batch(self, *arguments: Any, **settings: Any) -> TensorBatch:
        env = super().make_batch(*arguments, **settings)
        step = env.step
        env.step = lambda actions: overflowing(step(actions))
        return env


def overflowing(step: Step) -> Step:
    return step._replace(rewards=torch.full_like(step.rewards, 2e38))


def test_a_gradient_that_is_not_finite_stops_training_and_leaves_the_parameters():
    learner = agent(family=Overflowing("maml17"), num_inner_steps=0, baseline="none")
    before = copied(learner.params)
    message = "iteration 1: query loss of task 0 must be finite; a smaller inner_lr.*; task 0 is"
    with pytest.raises(FloatingPointError, match=message):
        learner.learn(1)
    assert equal(learner.params, before)
    assert (learner.num_iterations, learner.num_env_steps) == (0, 0)


def test_an_error_at_the_end_of_an_iteration_leaves_the_agent_as_it_was(monkeypatch):
    learner = trained(1)
    before, steps = copied(learner.params), learner.num_env_steps
    monkeypatch.setattr(Episodes, "num_steps", property(interrupted))
    with pytest.raises(KeyboardInterrupt):
        learner.iterate()
    assert (learner.num_iterations, learner.num_env_steps) == (1, steps)
    assert equal(learner.params, before)


def interrupted(_: Episodes) -> int:
    raise KeyboardInterrupt


def test_environments_are_kept_until_an_iteration_fails_or_the_agent_is_closed(monkeypatch):
    closed: list[TensorBatch] = []
    monkeypatch.setattr(TensorBatch, "close", lambda env: closed.append(env))  # noqa: PLW0108
    learner = agent()
    learner.learn(2)
    assert closed == []
    learner.close()
    learner.close()
    assert len(closed) == 1
    learner.iterate()
    learner.params["bias_1"] += math.nan
    with pytest.raises(FloatingPointError, match="iteration 4: parameter bias_1 must be finite"):
        learner.iterate()
    assert len(closed) == 2
    assert closed[0] is not closed[1]


# Whole runs.


def test_the_same_seed_gives_the_same_run_bitwise():
    first, again = agent(), agent()
    assert history(first, 3) == history(again, 3)
    assert equal(first.params, again.params)


def test_another_seed_gives_other_parameters():
    first, other = agent(seed=0), agent(seed=1)
    assert not torch.equal(first.params["weight_0"], other.params["weight_0"])


class RecordsTasks(Navigation2D):
    """Records the tasks for which environments were created."""

    def check_tasks(self, tasks: object) -> Tasks:
        rows = super().check_tasks(tasks)
        self.tasks = [*getattr(self, "tasks", []), rows]
        return rows


def test_every_iteration_of_every_seed_samples_different_tasks_and_noise(phases):
    families = [RecordsTasks("maml17"), RecordsTasks("maml17")]
    for seed, family in enumerate(families):
        agent(seed=seed, family=family).learn(2)
    goals = np.concatenate([tasks for family in families for tasks in family.tasks])
    assert len(np.unique(goals)) == 2 * 2 * 3 * 2  # seeds, iterations, tasks, coordinates
    # The first observation of each episode is the same, so the first actions differ by noise only.
    first_actions = torch.stack([episodes.actions[:, :, 0] for episodes in phases])
    for one, other in itertools.combinations(first_actions, 2):
        assert (one - other).abs().max() > 1


def test_a_run_that_was_saved_and_loaded_continues_as_if_never_stopped(tmp_path: Path):
    straight, stopped = agent(seed=3), agent(seed=3)
    expected = history(straight, 4)
    seen = history(stopped, 2)
    stopped.save(tmp_path / "agent")
    resumed = MAMLTRPO.load(tmp_path / "agent", Navigation2D("maml17"))
    assert seen + history(resumed, 2) == expected
    assert equal(resumed.params, straight.params)
    assert resumed.num_env_steps == straight.num_env_steps


def test_saving_does_not_change_the_run(tmp_path: Path):
    straight, saved = trained(2), trained(1)
    saved.save(tmp_path / "agent")
    assert equal(saved.learn(1).params, straight.params)


@pytest.mark.parametrize("num_inner_steps", [0, 1, 2])
def test_any_number_of_inner_steps_trains(phases, num_inner_steps):
    learner = agent(num_inner_steps=num_inner_steps)
    before = copied(learner.params)
    metrics = learner.iterate()
    assert len(phases) == num_inner_steps + 1
    assert metrics["meta/accepted"] == 1
    assert not any(torch.equal(learner.params[name], before[name]) for name in before)
    same_phase = metrics["rollout/support_return"] == metrics["rollout/query_return"]
    assert same_phase == (num_inner_steps == 0)


def test_a_callback_sees_every_iteration_and_can_end_training():
    seen: list[tuple[int, float]] = []

    def stop_at_two(learner: MAMLTRPO, metrics: dict[str, float]) -> bool:
        seen.append((learner.num_iterations, metrics["time/env_steps"]))
        return learner.num_iterations < 2

    learner = agent().learn(5, callback=stop_at_two)
    assert [iteration for iteration, _ in seen] == [1, 2]
    assert seen[-1][1] == learner.num_env_steps
    learner.learn(1, callback=lambda *_: None)
    assert learner.num_iterations == 3


def test_dropping_second_derivatives_changes_the_step():
    second_order, first_order = trained(1), trained(1, estimator="first_order")
    assert not torch.allclose(second_order.params["weight_0"], first_order.params["weight_0"])


def test_the_chunk_size_changes_rounding_only():
    whole, chunked = trained(1, chunk_size=None), trained(1, chunk_size=2)
    torch.testing.assert_close(whole.params, chunked.params, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_a_step_is_accepted_with_all_or_half_of_the_states_in_the_fisher_matrix(fraction):
    accepted = [m["meta/accepted"] for m in history(agent(fisher_fraction=fraction), 3)]
    assert accepted == [1, 1, 1]


def test_the_fraction_of_states_in_the_fisher_matrix_changes_the_step():
    whole, half = trained(1, fisher_fraction=1.0), trained(1, fisher_fraction=0.5)
    assert not torch.allclose(whole.params["weight_0"], half.params["weight_0"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.gpu
def test_an_iteration_on_the_gpu_agrees_with_the_cpu(monkeypatch):
    def sample(distribution: DiagonalGaussian, _: torch.Generator) -> Tensor:
        sampled = torch.randn(distribution.mean.shape, generator=noise)
        return distribution.mean + sampled.to(distribution.mean) * distribution.log_std.exp()

    monkeypatch.setattr(DiagonalGaussian, "sample", sample)  # the same numbers on both devices
    learners, seen = [], []
    for device in ("cpu", "cuda"):
        noise = torch.Generator().manual_seed(0)
        learners.append(MAMLTRPO(NAVIGATION, MAMLTRPOConfig(**SMALL), device=device))
        seen.append(untimed(learners[-1].iterate()))
    on_cpu, on_gpu = learners
    assert all(p.is_cuda for p in on_gpu.params.values())
    moved = {name: p.cpu() for name, p in on_gpu.params.items()}
    torch.testing.assert_close(moved, on_cpu.params, rtol=1e-2, atol=1e-3)
    assert seen[1] == pytest.approx(seen[0], rel=1e-2, abs=1e-3)


# Files.


def test_a_loaded_agent_acts_and_adapts_the_same(tmp_path: Path):
    learner = trained(2, seed=5, num_inner_steps=2)
    learner.save(tmp_path / "agent")
    loaded = MAMLTRPO.load(tmp_path / "agent", Navigation2D("maml17"))
    assert (loaded.config, loaded.seed) == (learner.config, 5)
    observations = torch.rand((3, 5, 2), generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.predict(observations)[0], learner.predict(observations)[0])
    episodes = episodes_of(learner, unadapted(learner))
    actions = [one.predict(observations, one.adapt([episodes]))[0] for one in (loaded, learner)]
    assert torch.equal(*actions)


def test_the_checkpoint_of_another_family_is_rejected(tmp_path: Path):
    agent().save(tmp_path / "agent")
    message = "must be of environment 'HalfCheetahVel:promp', it is of 'Navigation2D:maml17'"
    with pytest.raises(ValueError, match=message):
        MAMLTRPO.load(tmp_path / "agent", make_family("HalfCheetahVel:promp"))


@pytest.mark.parametrize(("given", "resolved"), [(None, 4.0), (2.0, 2.0)])
def test_the_default_action_divisor_is_the_one_of_the_variant(tmp_path: Path, given, resolved):
    scaled = Navigation2D("maml17")
    scaled.action_divisor = 4.0
    learner, plain = agent(family=scaled, action_divisor=given), agent(action_divisor=1.0)
    assert learner.config.action_divisor == resolved
    observations = torch.rand((1, 5, 2), generator=torch.Generator().manual_seed(0))
    actions = [one.predict(observations)[0] for one in (learner, plain)]
    torch.testing.assert_close(actions[0], actions[1] / resolved)
    learner.save(tmp_path / "agent")
    assert MAMLTRPO.load(tmp_path / "agent", scaled).config.action_divisor == resolved


# Copies.


@pytest.mark.parametrize("family", [NAVIGATION, make_family("HalfCheetahVel:promp")])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_a_copy_continues_bitwise(family, copied, monkeypatch):
    monkeypatch.setattr(family, "horizon", 5)
    learner, straight = (agent(family=family).learn(1) for _ in range(2))
    other = copied(learner)
    assert history(other, 2) == history(straight, 2)
    assert equal(other.params, straight.params)
    assert learner.num_iterations == 1
    for one in (learner, straight, other):
        one.close()


# The evaluator.


def test_adapt_equals_the_adaptation_of_an_evaluation():
    learner = trained(1)
    player = learner.play(3, 4, torch.Generator().manual_seed(0))
    never = torch.zeros(3, 4, dtype=torch.bool)
    seen = []
    for step in range(3):
        seen.append(episodes_of(learner, unadapted(learner), seed=step))
        player.adapt(seen[-1])
        observations = torch.rand((3, 4, 2), generator=torch.Generator().manual_seed(step))
        inputs = ActorInput(observations, None, torch.zeros(3, 4), never, ~never)
        assert torch.equal(
            player.act(inputs), learner.predict(observations, learner.adapt(seen))[0]
        )
