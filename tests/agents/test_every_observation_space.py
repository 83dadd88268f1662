"""Both agents on every observation space: training, checkpoints, evaluation, recorded data."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1] / "support"))

from pixel_families import OBSERVATIONS, MarkedSides, Mission, OddObservations
from short_runs import metarl

from metarl.agents import MAMLTRPO, RL2, MAMLTRPOConfig, RL2Config
from metarl.envs import FAMILIES, register_family
from metarl.evaluation.evaluator import evaluate
from metarl.evaluation.protocol import EvaluationProtocol
from metarl.rl.agent import Agent
from metarl.rl.objectives import action_log_probs, policy_batch
from metarl.rollouts.episodes import collect
from metarl.scripts.cli import dispatch
from metarl.seeding import torch_generator
from metarl.storage.checkpoints import load_checkpoint, read_header, save_checkpoint

MAML = MAMLTRPOConfig(
    meta_batch_size=2, num_episodes=8, hidden_sizes=(8,), activation="tanh", cg_iterations=2
)
TRIALS = RL2Config(
    meta_batch_size=4, num_episodes=2, num_minibatches=1, memory_size=4, value_hidden_sizes=(4,),
    normalize_observations=True,
)  # fmt: skip
PROTOCOL = EvaluationProtocol(
    num_tasks=2, exploration_episodes=1, adaptation_steps=1, evaluation_episodes=1
)
CONFIGS: dict[str, tuple[type[Agent[Any]], Any]] = {
    "maml-trpo": (MAMLTRPO, MAML),
    "rl2": (RL2, TRIALS),
    "rl2 with a trust region": (RL2, replace(TRIALS, optimizer="trpo", head="hypernetwork")),
    "rl2 without a memory": (RL2, replace(TRIALS, memory="none")),
}
every_agent = pytest.mark.parametrize(("agent_type", "config"), CONFIGS.values(), ids=CONFIGS)


def flat_net(space: spaces.Space[Any], num_outputs: int) -> nn.Module:
    """A network of the user's, for observations that are one box."""
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(space.shape or ())), num_outputs))


def observed(family: Any) -> Tensor:
    with torch.no_grad():
        return family.make_batch([[0.0], [1.0]], num_envs=2).reset(torch_generator(0, "test"))


@every_agent
@pytest.mark.parametrize("name", [*OBSERVATIONS, "mission"])
def test_an_agent_trains_is_stored_and_is_evaluated(agent_type, config, name, tmp_path):
    family = Mission("numbers") if name == "mission" else OddObservations(name)
    agent = agent_type(family, config)
    before = {key: p.detach().clone() for key, p in agent.params.items()}
    agent.learn(2)
    agent.close()
    assert any(not torch.equal(p, before[key]) for key, p in agent.params.items())
    agent.save(tmp_path / "agent.pt")
    loaded = agent_type.load(tmp_path / "agent.pt", family)
    inputs = observed(family)
    (found, _), (expected, _) = loaded.predict(inputs), agent.predict(inputs)
    assert torch.equal(found, expected)
    measured = evaluate({"run": loaded}, family, PROTOCOL)
    assert np.isfinite(measured.measured.returns).all()


@every_agent
def test_the_network_is_chosen_recorded_and_replaceable(agent_type, config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "my_net", sys.modules[__name__])
    family = OddObservations("image")
    numbers: dict[str, int] = {}
    for net, stored in {"auto": "cnn", "mlp": "mlp", "my_net:flat_net": "my_net:flat_net"}.items():
        agent = agent_type(family, replace(config, policy_net=net))
        agent.learn(1)
        path = tmp_path / "agent.pt"
        agent.save(path)
        assert read_header(path)["config"]["policy_net"] == stored
        inputs = observed(family)
        found, _ = agent_type.load(path, family).predict(inputs)
        assert torch.equal(found, agent.predict(inputs)[0])
        numbers[stored] = sum(p.numel() for p in agent.params.values())
    assert len(set(numbers.values())) == 3
    assert agent_type(OddObservations("unbounded"), config).config.policy_net == "mlp"
    with pytest.raises(ValueError, match=r"policy_net must be mlp .* contain no images, got cnn"):
        agent_type(OddObservations("unbounded"), replace(config, policy_net="cnn"))


@every_agent
def test_checkpoints_without_the_settings_act_on_unscaled_numbers(agent_type, config, tmp_path):
    """Earlier versions had no network but the perceptron and scaled nothing."""
    family = OddObservations("off-center")
    old = agent_type(family, replace(config, scale_observations=False, policy_net="mlp"))
    path = tmp_path / "agent.pt"
    old.save(path)
    tensors, header = load_checkpoint(path, agent=old.name, environment=family.id)
    for name in ("scale_observations", "policy_net"):
        del header["config"][name]
    save_checkpoint(path, tensors, header)
    loaded = agent_type.load(tmp_path / "agent.pt", family)
    assert loaded.config == old.config
    assert agent_type(family, config).config.scale_observations


def test_pixels_are_collected_as_bytes_with_rewards_as_numbers():
    family = MarkedSides("one")
    player = MAMLTRPO(family, MAML).play(2, 3, torch_generator(0, "noise"))
    env = family.make_batch([[0.0], [1.0]], num_envs=3)
    episodes = collect(env, player.actor, torch_generator(0, "resets"))
    assert episodes.observations.dtype == torch.uint8
    assert episodes.rewards.dtype == torch.float32


def test_the_baselines_of_pixels_reduce_the_variance_of_advantages():
    """Early steps of an episode have higher returns; who acts at random gets half of them."""
    family = MarkedSides("one")
    agent = MAMLTRPO(family, replace(MAML, meta_batch_size=2, num_episodes=60))
    assert agent.config.baseline == "projection"
    env = family.make_batch([[0.0], [1.0]], num_envs=60)
    player = agent.play(2, 60, torch_generator(0, "noise"))
    episodes = collect(env, player.actor, torch_generator(0, "resets"))
    log_probs = action_log_probs(agent.policy, player.params, episodes)
    spread = {
        name: policy_batch(episodes, log_probs, normalize=False, **options).advantages.var()
        for name, options in {
            "none": {"baseline": "none"},
            "projection": {"features": agent._baseline_features},
        }.items()
    }
    assert spread["projection"] < 0.5 * spread["none"]


def test_long_observations_use_the_projection_and_others_the_linear_baseline():
    baselines = {
        name: MAMLTRPO(OddObservations(name), MAML).config.baseline for name in OBSERVATIONS
    }
    linear = {name for name, baseline in baselines.items() if baseline == "linear"}
    assert linear == {
        "grid of symbols", "discrete", "multi-discrete", "multi-binary", "tuple", "unbounded",
        "half-bounded", "off-center", "integers", "all integers", "bytes", "0-D",
    }  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        "train maml-trpo --meta-batch-size 2 --num-episodes 2 --hidden-sizes 4 --cg-iterations 2",
        "train rl2 --meta-batch-size 4 --memory-size 4 --num-epochs 1",
    ],
)
def test_a_run_on_pixels_is_trained_resumed_evaluated_reported_and_shown(line, tmp_path):
    register_family("MarkedSides", MarkedSides, description="x", variants=MarkedSides.variants)
    command, agent, out = *line.split()[:2], tmp_path / "run"
    options = "--device cpu --threads 1 --tracker none --env MarkedSides:two"
    try:
        metarl(f"{line} {options} --iterations 1", out)
        metarl(f"{command} {agent} --resume --iterations 2", out)
        episodes = "--num-tasks 2 --exploration-episodes 1 --evaluation-episodes 1"
        dispatch(["evaluate", str(out), "--adaptation-steps", "1", *episodes.split()])
        metarl(f"report {out}", tmp_path / "report.html")
        metarl(f"play {out} --frames 3 --episodes 1", tmp_path / "shown.gif")
    finally:
        del FAMILIES._entries["MarkedSides"]
    stored = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert stored["agent_config"]["policy_net"] == "cnn"
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert (tmp_path / "shown.gif").stat().st_size > 100
