"""MAML-TRPO from outside: adaptation and prediction."""

from __future__ import annotations

import math

import pytest
import torch
from maml_agents import adapted, agent, batch_of, copied, episodes_of, equal, trained, unadapted
from torch import Tensor


def test_adapting_on_a_list_equals_adapting_step_by_step():
    learner = trained(1)
    state, data = unadapted(learner), []
    for step in range(3):
        data.append(episodes_of(learner, state, seed=step))
        state = learner.adapt_step(state, data[-1], step=step)
    observations = torch.rand((3, 5, 2), generator=torch.Generator().manual_seed(0))
    player = learner.play(3, 5, torch.Generator())
    player.params = state
    acted = player.mode(observations)
    assert torch.equal(learner.predict(observations, learner.adapt(data))[0], acted)
    assert not torch.equal(learner.predict(observations, learner.adapt(data[:2]))[0], acted)


@pytest.mark.parametrize(
    ("trained_for", "expected"), [(0, [1, 0.25, 0.25]), (1, [1, 0.25, 0.25]), (2, [1, 1, 0.25])]
)
def test_later_steps_than_in_training_are_shorter(trained_for, expected):
    learner = agent(num_inner_steps=trained_for, extra_step_lr_factor=0.25)
    state = unadapted(learner)
    episodes = episodes_of(learner, state)
    full = learner.adapt_step(state, episodes)["weight_0"] - state["weight_0"]
    for step, factor in enumerate(expected):
        moved = learner.adapt_step(state, episodes, step=step)["weight_0"] - state["weight_0"]
        torch.testing.assert_close(moved, factor * full, rtol=1e-3, atol=1e-6)
    assert full.abs().max() > 1e-3


def test_an_adaptation_step_is_the_gradient_step_of_each_task():
    learner = agent()
    episodes = episodes_of(learner, unadapted(learner))
    state = learner.adapt_step(unadapted(learner), episodes)
    support = batch_of(learner, unadapted(learner), episodes)
    for task in range(3):
        for name, p in adapted(learner, learner.params, support, task).items():
            torch.testing.assert_close(state[name][task], p, rtol=0, atol=1e-6)
            assert not torch.allclose(p, learner.params[name], rtol=0, atol=1e-4)


def test_adapting_leaves_the_shared_parameters():
    learner = agent()
    before = copied(learner.params)
    learner.adapt([episodes_of(learner, unadapted(learner))])
    assert equal(learner.params, before)


@pytest.mark.parametrize("name", ["lvc", "loaded_dice", "taypo2", "dr", "first_order"])
def test_all_estimators_take_the_same_first_step(name):
    plain, other = agent(), agent(estimator=name)
    assert equal(plain.params, other.params)
    episodes = episodes_of(plain, unadapted(plain))
    first, second = (one.adapt_step(unadapted(one), episodes) for one in (plain, other))
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)
    assert not equal(first, unadapted(plain))


@pytest.mark.parametrize("name", ["dice", "tmaml", "tmaml_fixed"])
def test_estimators_on_rewards_take_the_step_of_log_prob_without_discount(name):
    """Without normalization, whose shift of the advantages they do not have."""
    settings = {"gamma": 1.0, "normalize_advantages": False, "inner_lr": 1e-3}
    plain = agent(**settings, baseline="none" if name == "dice" else "linear")
    other = agent(**settings, estimator=name)
    episodes = episodes_of(plain, unadapted(plain))
    start = unadapted(plain)
    first, second = (one.adapt_step(start, episodes) for one in (plain, other))
    steps = [{k: moved[k] - start[k] for k in start} for moved in (first, second)]
    torch.testing.assert_close(steps[0], steps[1], rtol=1e-3, atol=1e-5)


def test_the_predictions_of_each_task_follow_from_its_parameters():
    learner = agent()
    episodes = episodes_of(learner, unadapted(learner))
    params = learner.adapt_step(unadapted(learner), episodes)
    observations = torch.rand((3, 5, 2), generator=torch.Generator().manual_seed(0))
    state = learner.adapt(episodes)
    actions, after = learner.predict(observations, state)
    assert after is state
    assert actions.shape == (3, 5, 2)
    for task in range(3):
        own = {name: p[task] for name, p in params.items()}
        expected = learner.policy.distribution(own, observations[task]).mode()
        torch.testing.assert_close(actions[task], expected)
    assert not torch.allclose(actions, learner.predict(observations)[0])


def test_sampled_actions_follow_the_generator_and_scatter_around_the_mode():
    learner, observations = agent(initial_std=0.3), torch.zeros(1, 4000, 2)

    def sampled(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return learner.predict(observations, deterministic=False, generator=generator)[0]

    first, again, other = sampled(0), sampled(0), sampled(1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    noise = (first - learner.predict(observations)[0])[0]
    assert (noise.mean(0).abs() < 5 * 0.3 / math.sqrt(4000)).all()
    assert noise.std(0).tolist() == pytest.approx([0.3, 0.3], rel=5 / math.sqrt(2 * 4000))


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_player_and_predict_agree(deterministic):
    learner = agent()
    episodes = episodes_of(learner, unadapted(learner))
    params = learner.adapt_step(unadapted(learner), episodes)
    observations = torch.rand((3, 5, 2), generator=torch.Generator().manual_seed(0))
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    player = learner.play(3, 5, generators[0])
    player.params = params
    acted = player.mode(observations) if deterministic else player.actor(observations)
    predicted, _ = learner.predict(
        observations, learner.adapt(episodes), deterministic=deterministic, generator=generators[1]
    )
    assert torch.equal(acted, predicted)
    assert torch.equal(*(generator.get_state() for generator in generators))
