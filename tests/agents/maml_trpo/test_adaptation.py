"""MAML-TRPO from outside: adaptation and prediction."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from maml_agents import adapted, agent, batch_of, copied, episodes_of, equal, trained
from torch import Tensor

from metarl.agents import MAMLTRPO
from metarl.parameters import Params


def test_adapting_on_a_list_equals_adapting_step_by_step():
    learner = trained(1)
    state, data = learner.initial_state(3), []
    for step in range(3):
        data.append(episodes_of(learner, state, seed=step))
        state = learner.adapt_step(state, data[-1], step=step)
    assert equal(learner.adapt(data), state)
    assert not equal(learner.adapt(data[:2]), state)


@pytest.mark.parametrize(
    ("trained_for", "expected"), [(0, [1, 0.25, 0.25]), (1, [1, 0.25, 0.25]), (2, [1, 1, 0.25])]
)
def test_steps_beyond_those_trained_for_are_shorter(trained_for, expected):
    learner = agent(num_inner_steps=trained_for, later_lr_factor=0.25)
    state = learner.initial_state(3)
    episodes = episodes_of(learner, state)
    full = learner.adapt_step(state, episodes)["weight_0"] - state["weight_0"]
    for step, factor in enumerate(expected):
        moved = learner.adapt_step(state, episodes, step=step)["weight_0"] - state["weight_0"]
        torch.testing.assert_close(moved, factor * full, rtol=1e-3, atol=1e-6)
    assert full.abs().max() > 1e-3


def test_an_adaptation_step_is_the_gradient_step_of_each_task():
    learner = agent()
    episodes = episodes_of(learner, learner.initial_state(3))
    state = learner.adapt([episodes])
    support = batch_of(learner, learner.initial_state(3), episodes)
    for task in range(3):
        for name, p in adapted(learner, learner.params, support, task).items():
            torch.testing.assert_close(state[name][task], p, rtol=0, atol=1e-6)
            assert not torch.allclose(p, learner.params[name], rtol=0, atol=1e-4)


def test_adapting_leaves_the_shared_parameters():
    learner = agent()
    before = copied(learner.params)
    learner.adapt([episodes_of(learner, learner.initial_state(3))])
    assert equal(learner.params, before)


def test_both_inner_objectives_take_the_same_first_step():
    plain, ratio = agent(), agent(inner_objective="likelihood_ratio")
    assert equal(plain.params, ratio.params)
    episodes = episodes_of(plain, plain.initial_state(3))
    first, other = (learner.adapt([episodes]) for learner in (plain, ratio))
    torch.testing.assert_close(first, other, rtol=1e-5, atol=1e-6)


def test_adapting_on_no_episodes_is_refused():
    with pytest.raises(ValueError, match="episodes must hold one batch per inner step, got none"):
        agent().adapt([])


@pytest.fixture(scope="module")
def adapted_agent() -> tuple[MAMLTRPO, Params]:
    """An agent and its parameters for three tasks."""
    learner = agent()
    return learner, learner.adapt([episodes_of(learner, learner.initial_state(3))])


@pytest.mark.parametrize("shape", [(2,), (5, 2), (3, 5, 2), (3, 4, 5, 2)])
def test_predictions_before_adaptation_keep_the_leading_axes(shape):
    learner, observations = agent(), torch.rand(shape, generator=torch.Generator().manual_seed(0))
    actions = learner.predict(observations)
    assert actions.shape == shape
    rows = [learner.predict(row) for row in observations.reshape(-1, 2)]
    torch.testing.assert_close(actions.reshape(-1, 2), torch.stack(rows))


@pytest.mark.parametrize("shape", [(3, 2), (3, 5, 2), (3, 4, 5, 2)])
def test_predictions_after_adaptation_use_the_parameters_of_each_task(adapted_agent, shape):
    learner, params = adapted_agent
    observations = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    actions = learner.predict(observations, params)
    assert actions.shape == shape
    for task in range(3):
        own = {name: p[task] for name, p in params.items()}
        torch.testing.assert_close(actions[task], learner.predict(observations[task], own))
    assert not torch.allclose(actions, learner.predict(observations))


def test_observations_may_be_numpy_arrays():
    observations = np.array([[0.25, -0.5], [0.0, 1.0]])
    expected = agent().predict(torch.tensor(observations, dtype=torch.float32))
    assert torch.equal(agent().predict(observations), expected)


def test_drawn_actions_follow_the_generator_and_scatter_around_the_mode():
    learner, observations = agent(initial_std=0.3), torch.zeros(4000, 2)

    def drawn(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return learner.predict(observations, deterministic=False, generator=generator)

    first, again, other = drawn(0), drawn(0), drawn(1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    noise = first - learner.predict(observations)
    assert (noise.mean(0).abs() < 5 * 0.3 / math.sqrt(4000)).all()
    assert noise.std(0).tolist() == pytest.approx([0.3, 0.3], rel=5 / math.sqrt(2 * 4000))


@pytest.mark.parametrize("deterministic", [True, False])
def test_actor_and_predict_agree(adapted_agent, deterministic):
    learner, params = adapted_agent
    observations = torch.rand((3, 5, 2), generator=torch.Generator().manual_seed(0))
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    acted = learner.actor(params, generators[0], deterministic=deterministic)(observations)
    predicted = learner.predict(
        observations, params, deterministic=deterministic, generator=generators[1]
    )
    assert torch.equal(acted, predicted)


def test_drawing_without_a_generator_is_refused():
    with pytest.raises(ValueError, match=r"generator must be given .*deterministic=False"):
        agent().predict(torch.zeros(2), deterministic=False)


@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
def test_observations_of_another_size_are_refused(shape):
    with pytest.raises(ValueError, match="observations must have 2 features last, got shape"):
        agent().predict(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(2,), (2, 2), (4, 5, 2)])
def test_observations_of_another_number_of_tasks_are_refused(adapted_agent, shape):
    learner, params = adapted_agent
    with pytest.raises(ValueError, match=r"observations must have 3 tasks first.* got shape"):
        learner.predict(torch.zeros(shape), params)
