"""An agent in one environment, step by step: it acts and learns as it does in a batch."""

from __future__ import annotations

import maml_agents
import numpy as np
import pytest
import rl2_agents
import torch
from maml_agents import NAVIGATION

from metarl.bridges.gymnasium_env import TaskEnv
from metarl.envs import make_family
from metarl.rl.deployment import DeployedAgent
from metarl.rollouts.episodes import collect
from metarl.rollouts.trials import collect_trials

GOAL = [0.3, -0.4]


def run_episode(env: TaskEnv, deployed: DeployedAgent, *, deterministic: bool) -> list[np.ndarray]:
    """The actions of one episode."""
    observation, _ = env.reset()
    actions, ended = [], False
    while not ended:
        actions.append(deployed.act(observation, deterministic=deterministic))
        observation, reward, terminated, truncated, _ = env.step(actions[-1])
        deployed.record(observation, reward, terminated, truncated)
        ended = terminated or truncated
    return actions


def test_it_adapts_as_the_agent_does_to_the_same_episodes():
    agent = maml_agents.trained(1)
    deployed, env = DeployedAgent(agent, seed=3), TaskEnv(NAVIGATION, task=GOAL)
    for _ in range(3):
        run_episode(env, deployed, deterministic=False)
    assert deployed.num_episodes == 3
    recorded = deployed._episodes
    deployed.adapt()

    batch = NAVIGATION.make_batch(np.array([GOAL]), num_envs=3)
    steps = iter(zip(*([s.action for s in episode] for episode in recorded), strict=True))
    episodes = collect(batch, lambda _: torch.stack(next(steps))[None], torch.Generator())
    observation, _ = env.reset()
    expected, _ = agent.predict(observation[None, None], agent.adapt(episodes))
    before, _ = agent.predict(observation[None, None])
    action = deployed.act(observation, deterministic=True)
    np.testing.assert_allclose(action, expected[0, 0].clamp(-0.1, 0.1), rtol=1e-5, atol=1e-6)
    assert not np.allclose(before[0, 0], expected[0, 0], atol=1e-4)


def test_episodes_of_different_lengths_are_padded():
    agent = maml_agents.agent()
    long, both = DeployedAgent(agent), DeployedAgent(agent)
    for deployed, lengths in ((long, [4]), (both, [4, 2])):
        for length in lengths:
            for t in range(length):
                deployed.act([0.1 * t, 0.0])
                deployed.record([0.1 * t + 0.1, 0.0], -1.0, t == length - 1)
    (short,) = [e for e in both._episodes if len(e) == 2]
    assert [step.terminated for step in short] == [False, True]
    both.adapt()
    long.adapt()
    assert all(torch.isfinite(p).all() for p in both._player.params.values())


@pytest.mark.parametrize("settings", [{}, {"memory": "transformer"}], ids=["gru", "transformer"])
def test_an_agent_with_a_memory_acts_as_in_a_trial(settings):
    agent = rl2_agents.agent(family=rl2_agents.ROBOT, **settings).learn(1)
    task = rl2_agents.ROBOT.sample_tasks(1, seed=1)
    env = TaskEnv(rl2_agents.ROBOT, task=task[0])
    deployed = DeployedAgent(agent)
    actions = [a for _ in range(2) for a in run_episode(env, deployed, deterministic=True)]
    trials = collect_trials(
        rl2_agents.ROBOT.make_batch(task, num_envs=1),
        agent.play(1, 1, torch.Generator()),
        torch.Generator(),
        num_episodes=2,
        num_exploratory=0,
    )
    expected = np.clip(trials.actions[0, 0].numpy(), env.action_space.low, env.action_space.high)
    np.testing.assert_allclose(np.array(actions), expected, rtol=1e-4, atol=1e-5)
    assert deployed.num_episodes == 2
    deployed.adapt()  # it has learned while it acted


def test_a_discrete_action_is_an_integer_of_the_space():
    agent = rl2_agents.agent()
    action = DeployedAgent(agent).act(np.zeros(agent.family.observation_space.shape))
    assert agent.family.action_space.contains(action)


def test_sampled_actions_depend_on_the_seed():
    agent = maml_agents.agent()
    one, same, other = (DeployedAgent(agent, seed=s).act([0.0, 0.0]) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_mistakes_are_one_sentence():
    deployed = DeployedAgent(maml_agents.agent(family=make_family("PointRobot:pearl")))
    with pytest.raises(ValueError, match="act must be called before record"):
        deployed.record([0.0, 0.0], 0.0, False)
    with pytest.raises(ValueError, match=r"observation must have shape \[2\] .* got shape \[3\]"):
        deployed.act([0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="adapt needs at least one complete episode"):
        deployed.adapt()
    deployed.act([0.0, 0.0])
    with pytest.raises(ValueError, match="record must be called with the result of an action"):
        deployed.act([0.0, 0.0])
    with pytest.raises(ValueError, match="reward must be finite, got nan"):
        deployed.record([0.0, 0.0], float("nan"), False)
