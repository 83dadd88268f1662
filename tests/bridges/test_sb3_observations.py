"""Models trained behind wrappers of observations: the same returns as with SB3's own evaluation."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

pytest.importorskip("stable_baselines3")

from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecNormalize

import metarl
from metarl.bridges.sb3_agent import SB3Agent
from metarl.envs import GymnasiumFamily, as_sb3_vec_env, make_family, register_family
from metarl.evaluation.evaluator import evaluate, evaluation_tasks
from metarl.evaluation.protocol import EvaluationProtocol
from metarl.rollouts.trials import ActorInput
from metarl.tasks.registry import FAMILIES

ENV = "Pendula:fixed"
PROTOCOL = EvaluationProtocol(
    num_tasks=3, adaptation_steps=0, evaluation_episodes=2, deterministic="evaluation"
)


def small() -> dict[str, Any]:
    """Settings of a model; a new dictionary, since Stable-Baselines3 adds to it."""
    return {"policy_kwargs": {"net_arch": [8]}, "device": "cpu", "seed": 0}


class Pendula(GymnasiumFamily):
    """A pendulum that always starts in the same state, so that two evaluations agree."""

    name, variants, env_id = "Pendula", ("fixed",), "Pendulum-v1"
    task_description, observation_description, source = "mass", "the state", "this test"
    task_space = spaces.Box(0.5, 2.0, (1,), np.float64)
    num_workers = 0

    def make_env(self, task: Any) -> gymnasium.Env[Any, Any]:
        return FixedStart(super().make_env(task))

    def apply_task(self, env: gymnasium.Env[Any, Any], task: Any) -> None:
        env.unwrapped.m = float(task[0])  # type: ignore[attr-defined]


class FixedStart(gymnasium.Wrapper[Any, Any, Any, Any]):
    def reset(self, **given: Any) -> tuple[Any, dict[str, Any]]:
        return super().reset(**{**given, "seed": 3})


@pytest.fixture(scope="module", autouse=True)
def family() -> Iterator[GymnasiumFamily]:
    """The family, registered for this module only."""
    entries, before = dict(FAMILIES._entries), set(gymnasium.registry)
    register_family("Pendula", Pendula, description="for this test", variants=Pendula.variants)
    found = make_family(ENV)
    assert isinstance(found, GymnasiumFamily)
    yield found
    FAMILIES._entries = entries
    for env_id in set(gymnasium.registry) - before:
        del gymnasium.registry[env_id]


def vec_env(tasks: object = None) -> VecEnv:
    return as_sb3_vec_env(ENV, 3, tasks=tasks)


def own_returns(model: Any, family: Any, wrap: Any) -> list[float]:
    """Returns of the tasks of PROTOCOL by Stable-Baselines3's own evaluation."""
    returns = []
    for task in evaluation_tasks(family, PROTOCOL):
        envs = wrap(as_sb3_vec_env(ENV, 1, tasks=task[None]))
        returns.append(evaluate_policy(model, envs, n_eval_episodes=1, warn=False)[0])
        envs.close()
    return returns


def measured(agent: SB3Agent, family: Any) -> list[float]:
    found = evaluate(agent, family, PROTOCOL).measured.returns
    np.testing.assert_allclose(found[..., 0], found[..., 1], rtol=1e-6)  # both episodes
    return list(found[0, 0, :, 0])


@pytest.fixture(scope="module")
def normalized(tmp_path_factory) -> tuple[PPO, Path, Path]:
    """A model trained under VecNormalize, its file, and the file of the statistics."""
    folder = tmp_path_factory.mktemp("models")
    envs = VecNormalize(vec_env(), clip_obs=1.5)
    model = PPO("MlpPolicy", envs, n_steps=64, batch_size=32, **small()).learn(400)
    model.save(folder / "model.zip")
    envs.save(str(folder / "statistics.pkl"))
    return model, folder / "model.zip", folder / "statistics.pkl"


def frozen(path: Path) -> Any:
    def wrap(envs: VecEnv) -> VecEnv:
        loaded = VecNormalize.load(str(path), envs)
        loaded.training = loaded.norm_reward = False
        return loaded

    return wrap


def test_returns_equal_those_of_sb3_under_vec_normalize(normalized, family):
    model, path, statistics = normalized
    expected = own_returns(PPO.load(path, device="cpu"), family, frozen(statistics))
    plain = own_returns(PPO.load(path, device="cpu"), family, lambda envs: envs)
    assert not np.allclose(expected, plain)
    loaded = PPO.load(path, device="cpu")
    for agent in (
        SB3Agent(loaded, family, normalization=statistics),
        SB3Agent(loaded, family, normalization=pickle.loads(statistics.read_bytes())),
        SB3Agent(model, family),  # with the statistics of its own environments
    ):
        np.testing.assert_allclose(measured(agent, family), expected, rtol=1e-5)
    unnormalized = SB3Agent(loaded, family, normalization="none")
    np.testing.assert_allclose(measured(unnormalized, family), plain, rtol=1e-5)


def test_python_evaluation_takes_the_statistics_and_needs_them(normalized, family):
    _, path, statistics = normalized
    options: dict[str, Any] = {
        "env": ENV, "sb3": "PPO", "num_tasks": 3, "adaptation_steps": 0, "evaluation_episodes": 2,
        "deterministic": "evaluation",
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"trained under VecNormalize, .*--sb3-normalization FIL"):
        metarl.evaluate(path, **options)
    [found] = metarl.evaluate(path, sb3_normalization=str(statistics), **options)
    expected = own_returns(PPO.load(path, device="cpu"), family, frozen(statistics))
    np.testing.assert_allclose(found.measured.returns[0, 0, :, 0], expected, rtol=1e-5)


def test_files_of_off_policy_models_do_not_record_it_which_is_said(family, tmp_path):
    SAC("MlpPolicy", vec_env(), buffer_size=100, **small()).learn(30).save(tmp_path / "model.zip")
    loaded = SAC.load(tmp_path / "model.zip", device="cpu")
    with pytest.warns(UserWarning, match="files of SAC do not record whether VecNormalize was use"):
        SB3Agent(loaded, family)
    SB3Agent(loaded, family, normalization="none")


def test_wrong_statistics_are_rejected(normalized, family, tmp_path):
    model, _, _ = normalized
    other = VecNormalize(as_sb3_vec_env("Bandit:n10-k5", 2))
    with pytest.raises(ValueError, match=r"normalization must have statistics of shape \(3,\), .*"):
        SB3Agent(model, family, normalization=other)
    spoiled = pickle.loads(normalized[2].read_bytes())
    spoiled.obs_rms.var[0] = np.nan
    with pytest.raises(ValueError, match="normalization must hold finite statistics only"):
        SB3Agent(model, family, normalization=spoiled)
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1]))
    (tmp_path / "noise.pkl").write_bytes(b"noise")
    for name, message in (
        ("none.pkl", "normalization must be a file or none, there is no file"),
        ("list.pkl", "must hold statistics that VecNormalize.save wrote, it holds a list"),
        ("noise.pkl", "cannot be read as statistics of VecNormalize: UnpicklingError"),
    ):
        with pytest.raises(ValueError, match=message):
            SB3Agent(model, family, normalization=tmp_path / name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sb3_normalization": "no.pkl", "sb3": "PPO"}, "sb3_normalization must be a file or none"),
        ({"sb3_normalization": "none"}, "sb3_normalization needs sb3, the class of a target MODEL"),
        ({"sb3_frame_stack": 4}, "sb3_frame_stack needs sb3, the class of a target MODEL.zip"),
    ],
)
def test_options_without_a_model_are_rejected(options, message):
    with pytest.raises(ValueError, match=message):
        metarl.evaluate("model.zip", env=ENV, **options)


@pytest.mark.parametrize("order", ["stack", "normalize, stack", "stack, normalize"])
def test_returns_equal_those_of_sb3_with_stacked_frames(family, order):
    def wrap(envs: VecEnv, trained: VecNormalize | None = None) -> VecEnv:
        for word in order.split(", "):
            if word == "stack":
                envs = VecFrameStack(envs, 3)
                continue
            envs = VecNormalize(envs, norm_reward=False, training=trained is None)
            if trained is not None:
                envs.obs_rms = trained.obs_rms
        return envs

    envs = wrap(vec_env())
    model = PPO("MlpPolicy", envs, n_steps=64, batch_size=32, **small()).learn(200)
    agent = SB3Agent(model, family, frame_stack=3)
    assert agent.remembers
    trained = model.get_vec_normalize_env()
    expected = own_returns(model, family, lambda envs: wrap(envs, trained))
    np.testing.assert_allclose(measured(agent, family), expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"got \(9,\); frame_stack \(--sb3-frame-stack\) must"):
        SB3Agent(model, family)


class Pictures(GymnasiumFamily):
    """Images of 36 × 40 pixels; the action is a choice."""

    name, variants = "Pictures", ("one",)
    task_description, observation_description, source = "none", "an image", "this test"
    task_space = spaces.Box(0.0, 1.0, (1,), np.float64)
    horizon, num_workers = 4, 0

    def make_env(self, task: Any) -> gymnasium.Env[Any, Any]:
        del task
        return Camera()

    def apply_task(self, env: gymnasium.Env[Any, Any], task: Any) -> None:
        """Do nothing: all tasks are the same."""


class Camera(gymnasium.Env[Any, Any]):
    observation_space = spaces.Box(0, 255, (36, 40, 3), np.uint8)
    action_space = spaces.Discrete(5)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return self.np_random.integers(0, 256, (36, 40, 3), np.uint8), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        del action
        return self.np_random.integers(0, 256, (36, 40, 3), np.uint8), 1.0, False, False, {}


@pytest.mark.parametrize("frame_stack", [1, 2])
def test_models_of_images_get_the_image_of_a_row(frame_stack):
    """SB3 wraps the environments in VecTransposeImage, so that the model's images are [C, H, W]."""
    family, envs = Pictures("one"), DummyVecEnv([Camera])
    stacked = VecFrameStack(envs, frame_stack) if frame_stack > 1 else envs
    model = DQN("CnnPolicy", stacked, device="cpu", seed=0, buffer_size=10)
    assert model.observation_space.shape == (3 * frame_stack, 36, 40)
    player = SB3Agent(model, family, frame_stack=frame_stack).play(1, 2, torch.Generator())
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 36, 40, 3), np.uint8)
    never = torch.zeros(1, 2, dtype=torch.bool)
    for t, image in enumerate(images):
        rows = torch.from_numpy(image).reshape(1, 2, -1)
        got = player.act(ActorInput(rows, None, torch.zeros(1, 2), never, ~never))
        before = images[t - 1] if t else np.zeros_like(image)
        whole = image if frame_stack == 1 else np.concatenate([before, image], -1)
        expected, _ = model.predict(whole.transpose(0, 3, 1, 2), deterministic=True)
        assert got.flatten().tolist() == expected.tolist()
