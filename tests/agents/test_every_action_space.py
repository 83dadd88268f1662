"""Both agents, the random reference, `metarl check` and the bridges on every action space."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "support"))

from odd_actions import SPACES, OddActions

from metarl.agents import MAMLTRPO, RL2, MAMLTRPOConfig, RL2Config
from metarl.bridges.gymnasium_env import TaskEnv
from metarl.bridges.vector_env import TaskVectorEnv
from metarl.evaluation.evaluator import evaluate
from metarl.evaluation.protocol import EvaluationProtocol
from metarl.rollouts.trials import ActorInput
from metarl.soundness.check import check_family
from metarl.tasks.actions import ActionLayout

every_space = pytest.mark.parametrize("name", SPACES)
MAML = MAMLTRPOConfig(meta_batch_size=4, num_episodes=8, hidden_sizes=(4,))
TRIALS = RL2Config(
    meta_batch_size=2, num_episodes=2, num_minibatches=1, memory_size=4, value_hidden_sizes=(4,)
)
TRUST_REGION = replace(TRIALS, optimizer="trpo")
PROTOCOL = EvaluationProtocol(
    num_tasks=2, exploration_episodes=1, adaptation_steps=1, evaluation_episodes=1
)
AGENTS = {
    "maml-trpo": lambda family: MAMLTRPO(family, MAML),
    "rl2": lambda family: RL2(family, TRIALS),
    "rl2 with a trust region": lambda family: RL2(family, TRUST_REGION),
}


@every_space
@pytest.mark.parametrize("make", AGENTS.values(), ids=AGENTS)
def test_an_agent_trains_and_is_evaluated_next_to_random_actions(name, make):
    family = OddActions(name)
    agent = make(family)
    before = {key: p.detach().clone() for key, p in agent.params.items()}
    agent.learn(3)
    agent.close()
    assert any(not torch.equal(p, before[key]) for key, p in agent.params.items())
    measured = evaluate({"run": agent}, family, PROTOCOL)
    for part in measured.references.values():
        assert np.isfinite(part.returns).all()


@every_space
def test_a_family_of_the_space_is_sound(name):
    failed = [c for c in check_family(OddActions(name), num_tasks=2) if c.outcome == "failed"]
    assert failed == []


def test_check_names_unusual_ranges():
    detail = {
        name: check.detail
        for name in ("box", "off-center box", "half-bounded box", "discrete")
        for check in check_family(OddActions(name), num_tasks=2, num_envs=2)
        if check.name == "policies can reach the actions"
    }
    assert detail["box"] == "policies act around 0 in units of the boxes' half-widths"
    assert detail["off-center box"] == (
        "unusual range of action component 0, [500, 2000]: policies act around 1250 in units of 750"
    )
    assert detail["half-bounded box"].startswith(
        "unusual range of action component 0 (and 1 more), [3, inf]: policies act around 4 in"
    )
    assert detail["discrete"] == "all actions are discrete"


@every_space
def test_the_bridges_accept_points_of_the_space(name):
    family = OddActions(name)
    env, envs = TaskEnv(family), TaskVectorEnv(family, 3)
    assert env.action_space == SPACES[name]
    env.reset(seed=0)
    envs.reset(seed=0)
    env.action_space.seed(0)
    envs.action_space.seed(0)
    for _ in range(3):
        assert np.isfinite(env.step(env.action_space.sample())[1])
        assert np.isfinite(envs.step(envs.action_space.sample())[1]).all()
    env.close()
    envs.close()


@pytest.mark.parametrize("make", AGENTS.values(), ids=AGENTS)
@pytest.mark.parametrize("name", ["off-center box", "2-D box", "integer box", "byte box"])
def test_untrained_policies_cover_a_box_around_its_center(name, make):
    family = OddActions(name)
    agent = make(family)
    tasks = family.sample_tasks(20, seed=0)
    env = family.make_batch(tasks, num_envs=20)
    generator = torch.Generator().manual_seed(1)
    player = agent.play(20, 20, generator)
    observations = env.reset(generator)
    start = observations.new_zeros(20, 20)
    sampled = player.act(ActorInput(observations, None, start, start.bool(), start.bool()))
    env.close()
    agent.close()
    (part,) = ActionLayout(family.action_space).parts
    spread = (sampled.numpy() - part.center) / part.half_width
    assert np.abs(spread.mean((0, 1))).max() < 0.2
    assert np.abs(spread.std((0, 1)) - 1).max() < 0.1


@every_space
@pytest.mark.parametrize("make", AGENTS.values(), ids=AGENTS)
def test_predictions_are_rows_of_actions(name, make):
    family = OddActions(name)
    agent = make(family)
    layout = ActionLayout(family.action_space)
    rows, _ = agent.predict(torch.zeros(2, 3, 1))
    assert rows.shape == (2, 3, *layout.row_shape)
    for row in rows.flatten(0, 1):
        point = layout.from_row(layout.clip(row.numpy()))
        assert family.action_space.contains(point)


def test_a_number_as_action_divisor_keeps_actions_around_0():
    family = OddActions("off-center box")
    family.action_divisor = 1.0
    agent = MAMLTRPO(family, MAML)
    assert agent.config.action_divisor == 1.0
    assert agent.predict(torch.zeros(1, 5, 1))[0].abs().max() < 1
    family.action_divisor = None
    agent = MAMLTRPO(family, MAML)
    assert agent.config.action_divisor is None
    assert (agent.predict(torch.zeros(1, 5, 1))[0] - 1250).abs().max() < 100
