"""Models of Stable-Baselines3 and sb3-contrib as agents: their actions, memory, sampling, files."""

from __future__ import annotations

import importlib
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("stable_baselines3")
pytest.importorskip("sb3_contrib")

from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN, PPO, SAC

from metarl.bridges.sb3_agent import SB3Agent, load_sb3_agent
from metarl.bridges.sb3_env import as_sb3_vec_env as of_family
from metarl.envs import as_sb3_vec_env, make_family
from metarl.evaluation.evaluator import evaluate
from metarl.evaluation.protocol import EvaluationProtocol
from metarl.rollouts.trial_env import TrialFamily
from metarl.rollouts.trial_inputs import TrialInputs
from metarl.rollouts.trials import ActorInput

NAVIGATION, BANDIT = make_family("Navigation2D:maml17"), make_family("Bandit:n10-k5")


def small(**policy: int) -> dict[str, Any]:
    """New settings of a model for every call: Stable-Baselines3 modifies them."""
    return {"policy_kwargs": {"net_arch": [8], **policy}, "device": "cpu", "seed": 0}


@pytest.fixture(scope="module")
def ppo() -> PPO:
    return PPO("MlpPolicy", as_sb3_vec_env("Navigation2D:maml17", 2), **small())


@pytest.fixture(scope="module")
def recurrent() -> RecurrentPPO:
    """An untrained model on trials, whose head depends on its memory."""
    envs = of_family(TrialFamily(NAVIGATION, 3), 2)
    model = RecurrentPPO("MlpLstmPolicy", envs, **small(lstm_hidden_size=6))
    with torch.no_grad():
        model.policy.action_net.weight.normal_(0, 0.1, generator=make_generator(1))
    return model


def make_generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def actor_input(
    observations: torch.Tensor, deterministic: Any = True, **current: Any
) -> ActorInput:
    batch_shape = observations.shape[:2]
    requested = torch.as_tensor(deterministic).expand(batch_shape)
    never = torch.zeros(batch_shape, dtype=torch.bool)
    first = ActorInput(observations, None, torch.zeros(batch_shape), never, requested)
    return first._replace(**current)


def seen(shape: tuple[int, ...] = (3, 2, 2), seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=make_generator(seed)) - 0.5


# Models without memory.


def test_the_most_likely_actions_equal_the_models(ppo):
    agent = SB3Agent(ppo, NAVIGATION)
    assert agent.remembers is False
    observations = seen()
    got = agent.play(3, 2, make_generator()).act(actor_input(observations))
    assert got.shape == (3, 2, 2)
    for n, e in np.ndindex(3, 2):
        expected, _ = ppo.predict(observations[n, e].numpy(), deterministic=True)
        np.testing.assert_allclose(got[n, e], expected, rtol=1e-5)
    assert len(got.flatten().unique()) == 12


def test_sampled_actions_follow_the_generator_and_leave_the_global_one_unchanged(ppo):
    agent, observations = SB3Agent(ppo, NAVIGATION), seen()
    state = torch.get_rng_state()
    first, again, other = (agent.play(3, 2, make_generator(seed)) for seed in (5, 5, 6))
    sampled = first.act(actor_input(observations, False))
    assert torch.equal(sampled, again.act(actor_input(observations, False)))
    assert not torch.equal(sampled, other.act(actor_input(observations, False)))
    assert not torch.equal(sampled, first.act(actor_input(observations, False)))
    assert not torch.equal(sampled, first.act(actor_input(observations, True)))
    assert torch.equal(torch.get_rng_state(), state)


def test_discrete_actions_keep_their_type():
    model = PPO("MlpPolicy", as_sb3_vec_env("Bandit:n10-k5", 2), **small())
    got = (
        SB3Agent(model, BANDIT)
        .play(4, 3, make_generator())
        .act(actor_input(torch.zeros(4, 3, 1), False))
    )
    assert got.shape == (4, 3)
    assert got.dtype == torch.int64
    assert len(got.unique()) > 1


def test_off_policy_models_act_without_exploration_noise():
    sac = SAC("MlpPolicy", as_sb3_vec_env("Navigation2D:maml17", 2), buffer_size=10, **small())
    observations = seen()
    got = SB3Agent(sac, NAVIGATION).play(3, 2, make_generator()).act(actor_input(observations))
    expected, _ = sac.predict(observations.flatten(0, 1).numpy(), deterministic=True)
    np.testing.assert_allclose(got.flatten(0, 1), expected, rtol=1e-5)
    dqn = DQN("MlpPolicy", as_sb3_vec_env("Bandit:n10-k5", 2), buffer_size=10, **small())
    dqn.exploration_rate = 1.0
    player = SB3Agent(dqn, BANDIT).play(1, 50, make_generator())
    assert len(player.act(actor_input(torch.zeros(1, 50, 1), False)).unique()) == 1


def test_a_model_is_measured_and_learns_nothing(ppo):
    protocol = EvaluationProtocol(
        num_tasks=3, exploration_episodes=2, evaluation_episodes=2, adaptation_steps=2
    )
    got = evaluate(SB3Agent(ppo, NAVIGATION), NAVIGATION, protocol)
    assert got.stages == ("no adaptation",)
    again = evaluate(SB3Agent(ppo, NAVIGATION), NAVIGATION, protocol)
    np.testing.assert_array_equal(got.measured.returns, again.measured.returns)


# Models with a memory.


def run_trials(player: Any, num_steps: int, deterministic: Any = True) -> list[torch.Tensor]:
    """Actions of two trials whose inner episodes end at different steps."""
    source, current = make_generator(3), actor_input(seen((2, 1, 2)), deterministic)
    actions = []
    for step in range(num_steps):
        actions.append(player.act(current))
        current = actor_input(
            torch.rand(2, 1, 2, generator=source) - 0.5,
            deterministic,
            previous_actions=torch.full((2, 1, 2), 0.1 * step),
            previous_rewards=torch.rand(2, 1, generator=source),
            episode_ended=torch.tensor([[step % 3 == 2], [step % 4 == 3]]),
        )
    return actions


class OwnLoop:
    """The model's own `predict`, for which the whole trial is one episode."""

    def __init__(self, model: RecurrentPPO, *, forgets: bool = False) -> None:
        self.model, self.forgets, self.state = model, forgets, None
        self.inputs = TrialInputs(
            NAVIGATION.observation_space, NAVIGATION.action_space, NAVIGATION.action_divisor
        )

    def act(self, current: ActorInput) -> torch.Tensor:
        starts = np.full(2, self.state is None or self.forgets)
        fed = self.inputs.encode(current).flatten(0, 1).numpy()
        actions, self.state = self.model.predict(fed, self.state, starts, deterministic=True)
        return torch.as_tensor(actions).unsqueeze(1)


def test_the_state_persists_across_episodes_and_is_new_in_each_trial(recurrent):
    agent = SB3Agent(recurrent, NAVIGATION)
    assert agent.remembers is True
    expected = run_trials(OwnLoop(recurrent), 9)
    for _ in range(2):  # two plays, each from the start
        got = run_trials(agent.play(2, 1, make_generator()), 9)
        torch.testing.assert_close(got, expected)
    forgetful = run_trials(OwnLoop(recurrent, forgets=True), 9)
    assert torch.equal(forgetful[0], expected[0])
    assert all(bool((a != b).any()) for a, b in zip(forgetful[1:], expected[1:], strict=True))


def test_deterministic_actions_do_not_change_the_memory(recurrent):
    agent = SB3Agent(recurrent, NAVIGATION)
    mixed = run_trials(agent.play(2, 1, make_generator()), 6, torch.tensor([[True], [False]]))
    plain = run_trials(agent.play(2, 1, make_generator()), 6)
    for one, other in zip(mixed, plain, strict=True):
        torch.testing.assert_close(one[0], other[0])
        assert bool((one[1] != other[1]).any())


def test_a_recurrent_model_is_measured_episode_by_episode(recurrent):
    protocol = EvaluationProtocol(
        num_tasks=5, exploration_episodes=1, evaluation_episodes=1, adaptation_steps=2
    )
    got = evaluate(SB3Agent(recurrent, NAVIGATION), NAVIGATION, protocol)
    assert got.stages == ("episode 1", "episode 2", "episode 3")
    assert got.measured.returns.shape == (1, 3, 5, 1)


def test_a_recurrent_model_of_single_episodes_gets_plain_observations():
    model = RecurrentPPO(
        "MlpLstmPolicy", as_sb3_vec_env("Navigation2D:maml17", 2), **small(lstm_hidden_size=6)
    )
    agent, observations = SB3Agent(model, NAVIGATION), seen()
    assert agent.remembers is True
    expected, _ = model.predict(observations.flatten(0, 1).numpy(), deterministic=True)
    got = agent.play(3, 2, make_generator()).act(actor_input(observations))
    np.testing.assert_allclose(got.flatten(0, 1), expected, rtol=1e-5)


def test_a_feed_forward_model_of_trials_acts_in_episodes_in_sequence():
    """It observes the previous step, so its episodes cannot run in parallel."""
    model = PPO("MlpPolicy", of_family(TrialFamily(BANDIT, 2), 2), **small())
    assert SB3Agent(model, BANDIT).remembers is True


# Invalid arguments.


def test_a_model_of_other_spaces_is_rejected(ppo):
    with pytest.raises(ValueError, match=r"the model's actions must match Bandit:n10-k5, Di"):
        SB3Agent(ppo, BANDIT)
    other = PPO("MlpPolicy", as_sb3_vec_env("Navigation2D:maml17+task", 2), **small())
    message = (
        r"observations must match Navigation2D:maml17, of shape \(2,\), or of its trials, "
        r"of shape \(6,\), got \(4,\)"
    )
    with pytest.raises(ValueError, match=message):
        SB3Agent(other, NAVIGATION)


# Files.


def test_a_saved_model_acts_as_before(ppo, tmp_path):
    ppo.save(tmp_path / "model.zip")
    loaded = load_sb3_agent(tmp_path / "model.zip", "PPO", NAVIGATION)
    players = [agent.play(3, 2, make_generator()) for agent in (loaded, SB3Agent(ppo, NAVIGATION))]
    for deterministic in (True, False):
        one, other = (player.act(actor_input(seen(), deterministic)) for player in players)
        assert torch.equal(one, other)


def test_a_saved_model_of_contrib_is_found_there(recurrent, tmp_path):
    recurrent.save(tmp_path / "model.zip")
    assert load_sb3_agent(tmp_path / "model.zip", "RecurrentPPO", NAVIGATION).remembers


def test_a_model_with_a_number_that_is_not_finite_is_rejected(ppo, tmp_path):
    ppo.save(tmp_path / "model.zip")
    model = PPO.load(tmp_path / "model.zip", device="cpu")
    with torch.no_grad():
        model.policy.action_net.bias[0] = np.nan
    message = r"the model must hold finite parameters only, action_net.bias does not"
    with pytest.raises(ValueError, match=message):
        SB3Agent(model, NAVIGATION)
    model.save(tmp_path / "spoiled.zip")
    with pytest.raises(ValueError, match=message):
        load_sb3_agent(tmp_path / "spoiled.zip", "PPO", NAVIGATION)


def test_files_without_such_a_model_are_rejected(ppo, tmp_path):
    ppo.save(tmp_path / "model.zip")
    with pytest.raises(ValueError, match=r"sb3 must name a class of stable_baselines3 .*got 'PP0'"):
        load_sb3_agent(tmp_path / "model.zip", "PP0", NAVIGATION)
    with pytest.raises(ValueError, match=r"sb3 must name a class .* got 'HerReplayBuffer'"):
        load_sb3_agent(tmp_path / "model.zip", "HerReplayBuffer", NAVIGATION)
    (tmp_path / "text.zip").write_text("text")
    with pytest.raises(ValueError, match=r"text\.zip must be a model .*, but it is not a zip file"):
        load_sb3_agent(tmp_path / "text.zip", "PPO", NAVIGATION)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("data", "{}")
    with pytest.raises(ValueError, match=r"other\.zip cannot be read as a model of class PPO: "):
        load_sb3_agent(tmp_path / "other.zip", "PPO", NAVIGATION)


class Bomb:
    """A pickle that would run code."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("exploded"),)


def test_a_pickle_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("model.zip").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="but it is not a zip file"):
        load_sb3_agent(Path("model.zip"), "PPO", NAVIGATION)
    assert not Path("exploded").exists()


def test_without_stable_baselines_the_error_names_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "metarl.bridges.sb3_agent")
    monkeypatch.setitem(sys.modules, "stable_baselines3.common.base_class", None)
    with pytest.raises(ImportError, match="needs Stable-Baselines3: pip install stable-baselines3"):
        importlib.import_module("metarl.bridges.sb3_agent")
