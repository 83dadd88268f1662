"""Loaders, copies and uses of parameters reject numbers that are not finite, in one sentence."""

from __future__ import annotations

import copy
import math
import pickle
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import maml_agents
import numpy as np
import pytest
import rl2_agents
import torch
from evaluate_command import metarl as command
from fewshot_runs import sampled, trained

import metarl
from metarl.envs.locomotion import cheetah_oracle, half_cheetah
from metarl.evaluation.evaluator import evaluate
from metarl.evaluation.protocol import EvaluationProtocol
from metarl.fewshot import evaluate_fewshot
from metarl.finite import NonFiniteError
from metarl.rl.deployment import DeployedAgent
from metarl.rl.players import begin_play, unadapted
from metarl.rollouts.episodes import collect
from metarl.storage.checkpoints import load_checkpoint, read_header, save_checkpoint

STORED = Path(__file__).parents[1] / "data" / "version_0_1"


def spoil_file(path: Path, name: str) -> None:
    """Replace one number of a checkpoint by NaN; the checksum fits the new content."""
    known = read_header(path)
    tensors, header = load_checkpoint(path, agent=known["agent"], environment=known["environment"])
    tensors[name].view(-1)[-1] = math.nan
    save_checkpoint(path, tensors, header)


@pytest.mark.parametrize(
    ("run", "name"),
    [
        ("rl2", "parameters/policy.head.bias_0"),
        ("rl2", "seen/mean"),
        ("rl2", "earned/variance"),
        ("rl2", "optimizer/step/policy.head.bias_0"),
        ("maml-trpo", "parameters/bias_0"),
        ("meta-sgd", "parameters/bias_0"),
        ("protonet", "running/running_mean_1"),
    ],
)
def test_no_stored_run_with_a_nan_is_loaded_or_measured(tmp_path: Path, run, name):
    folder = tmp_path / run
    shutil.copytree(STORED / run, folder)
    spoil_file(folder / "best.safetensors", name)
    message = f"checkpoint .* must hold finite numbers only, {name} does not"
    with pytest.raises(ValueError, match=message):
        metarl.load(folder / "best.safetensors")
    with pytest.raises(ValueError, match=message):
        command("evaluate OUT --num-tasks 2", folder / "best.safetensors")


@pytest.fixture(params=["maml-trpo", "rl2", "rl2 statistics"])
def spoiled(request: pytest.FixtureRequest) -> Any:
    """An agent in memory with a NaN, and the name of the tensor that holds it."""
    if request.param == "maml-trpo":
        agent: Any = maml_agents.agent()
        agent.params["bias_0"][0] = math.nan
        return agent, "parameter bias_0"
    agent = rl2_agents.agent(normalize_observations=True)
    if request.param == "rl2":
        with torch.no_grad():
            agent.params["policy.head.bias_0"][0] = math.nan
        return agent, "parameter policy.head.bias_0"
    agent._normalizer._input_moments.mean[0] = math.inf
    return agent, "seen mean"


USES: dict[str, Callable[[Any], object]] = {
    "evaluate": lambda agent: evaluate(
        agent, agent.family, EvaluationProtocol(num_tasks=2, exploration_episodes=1)
    ),
    "deploy": DeployedAgent,
    "predict": lambda agent: agent.predict(
        np.zeros((1, 1, *agent.family.observation_space.shape), np.float32)
    ),
    "copy": copy.deepcopy,
    "unpickle": lambda agent: pickle.loads(pickle.dumps(agent)),
}


@pytest.mark.parametrize("use", USES)
def test_an_agent_with_a_nan_is_not_used(spoiled, use):
    agent, name = spoiled
    with pytest.raises(ValueError, match=rf"^{name} must be finite"):
        USES[use](agent)


def test_an_agent_with_a_nan_is_not_saved(spoiled, tmp_path: Path):
    agent, name = spoiled
    with pytest.raises(NonFiniteError, match=rf"^{name} must be finite"):
        agent.save(tmp_path / "agent")
    assert not list(tmp_path.iterdir())


def test_an_agent_with_a_nan_does_not_adapt_to_recorded_episodes():
    agent, family = maml_agents.agent(), maml_agents.NAVIGATION
    env = family.make_batch(family.sample_tasks(2, seed=0), num_envs=2)
    generator = torch.Generator().manual_seed(0)
    episodes = collect(env, agent.play(2, 2, generator).actor, generator)
    agent.params["bias_0"][0] = math.nan
    with pytest.raises(ValueError, match=r"^parameter bias_0 must be finite"):
        agent.adapt(episodes)
    with pytest.raises(ValueError, match=r"^parameter bias_0 must be finite"):
        begin_play(unadapted(agent), 2, 2, generator)


def test_a_step_that_diverges_names_the_task():
    agent, generator = maml_agents.agent(), torch.Generator().manual_seed(0)
    family = maml_agents.NAVIGATION
    env = family.make_batch(family.sample_tasks(2, seed=0), num_envs=2)
    player = agent.play(2, 2, generator)
    episodes = collect(env, player.actor, generator)
    episodes.rewards[1] = 1e38
    with pytest.raises(NonFiniteError, match="adapted parameters of task 1 must be finite; take f"):
        player.adapt(episodes)
    assert all(p.isfinite().all() for p in player.params.values())


@pytest.mark.parametrize("use", ["adapt", "evaluate", "copy", "unpickle"])
def test_a_few_shot_learner_with_a_nan_is_not_used(use):
    training = trained(1)
    training.params["bias_0"] += math.nan
    uses: dict[str, Callable[[], object]] = {
        "adapt": lambda: training.adapt(sampled().support),
        "evaluate": lambda: evaluate_fewshot(training, num_tasks=2),
        "copy": lambda: copy.deepcopy(training),
        "unpickle": lambda: pickle.loads(pickle.dumps(training)),
    }
    with pytest.raises(ValueError, match=r"^parameter bias_0 must be finite"):
        uses[use]()


def test_an_oracle_with_a_nan_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "oracle.safetensors"
    shutil.copy(cheetah_oracle._CHECKPOINT, path)
    spoil_file(path, "parameters/bias_0")
    monkeypatch.setattr(cheetah_oracle, "_CHECKPOINT", path)
    cheetah_oracle._policy.cache_clear()
    family = half_cheetah.HalfCheetahVel("varibad")
    try:
        with closing(family.make_batch(family.sample_tasks(1, seed=0), num_envs=1)) as env:
            env.reset(torch.Generator())
            with pytest.raises(ValueError, match="must hold finite numbers only, parameters/"):
                env.oracle_actions()
    finally:
        cheetah_oracle._policy.cache_clear()
