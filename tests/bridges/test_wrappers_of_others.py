"""Wrappers and vector environments of Gymnasium and Stable-Baselines3 around our ids."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.wrappers import vector as vector_wrappers

from metarl.envs import gymnasium_id, make_family

FAMILIES = {
    "Navigation2D": "maml17",
    "Bandit": "n10-k5",  # without images
    "HalfCheetahVel": "promp",
    "CartPoleMass": "rllib",
}
WRAPPERS = {
    "time": wrappers.TimeAwareObservation,
    "flat": wrappers.FlattenObservation,
    "statistics": wrappers.RecordEpisodeStatistics,
    "limit": lambda env: wrappers.TimeLimit(env, 2),
    "normalized": lambda env: wrappers.NormalizeReward(wrappers.NormalizeObservation(env)),
    "stacked": lambda env: wrappers.FrameStackObservation(env, 3),
    "autoreset": wrappers.Autoreset,
}


def make(name: str, **settings) -> gymnasium.Env:
    return gymnasium.make(gymnasium_id(name), variant=FAMILIES[name], **settings)


def walk(env, num_steps: int = 3) -> list:
    env.reset(seed=0)
    steps = [env.step(env.action_space.sample()) for _ in range(num_steps)]
    env.close()
    return steps


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", FAMILIES)
def test_wrappers_of_gymnasium_fit(name, wrapper):
    steps = walk(WRAPPERS[wrapper](make(name)), 2)
    assert np.isfinite(np.asarray(steps[-1][0], np.float64)).all()
    assert steps[-1][3] == (wrapper == "limit")


@pytest.mark.parametrize("family_id", ["Bandit:n10-k5", "Bandit:n100-k5", "Navigation2D:maml17"])
def test_a_specification_has_the_horizon_of_its_variant(family_id):
    name, variant = family_id.split(":")
    horizon = make_family(family_id).horizon
    env = gymnasium.make(gymnasium_id(name), variant=variant)
    assert env.spec.max_episode_steps == horizon
    env.reset(seed=0)
    ends = [env.step(env.action_space.sample())[3] for _ in range(horizon)]
    assert ends == [False] * (horizon - 1) + [True]
    copy = gymnasium.make(env.spec)
    assert copy.spec.max_episode_steps == horizon
    assert gymnasium.make(env.spec, max_episode_steps=3).spec.max_episode_steps == 3


@pytest.mark.parametrize("mode", [None, "sync"])
@pytest.mark.parametrize("name", FAMILIES)
def test_vector_environments_of_gymnasium_fit(name, mode):
    settings = {"num_envs": 2, "variant": FAMILIES[name]}
    envs = gymnasium.make_vec(gymnasium_id(name), vectorization_mode=mode, **settings)
    walk(vector_wrappers.RecordEpisodeStatistics(envs))
    copy = gymnasium.make_vec(envs.spec)
    assert copy.num_envs == 2
    copy.close()


def test_a_vector_environment_has_the_horizon_as_its_only_limit():
    env_id = gymnasium_id("Navigation2D")
    settings = {"num_envs": 2, "variant": "maml17"}
    envs = gymnasium.make_vec(env_id, max_episode_steps=100, **settings)
    assert envs.spec.max_episode_steps == 100
    message = "max_episode_steps must be 100, the horizon of Navigation2D:maml17, got 5; vectori"
    with pytest.raises(ValueError, match=message):
        gymnasium.make_vec(env_id, max_episode_steps=5, **settings)
    short = gymnasium.make_vec(env_id, max_episode_steps=5, vectorization_mode="sync", **settings)
    assert walk(short, 5)[-1][3].all()


@pytest.mark.parametrize("name", FAMILIES)
def test_stable_baselines_makes_every_id(name):
    env_util = pytest.importorskip("stable_baselines3.common.env_util")
    settings = {"variant": FAMILIES[name]}
    envs = env_util.make_vec_env(gymnasium_id(name), n_envs=2, env_kwargs=settings)
    envs.seed(0)
    assert envs.reset().shape == (2, *envs.observation_space.shape)
    actions = np.array([envs.action_space.sample() for _ in range(2)])
    assert np.isfinite(envs.step(actions)[1]).all()
    envs.close()
