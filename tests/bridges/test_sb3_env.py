"""The environments of Stable-Baselines3: its own loop over environments, and PPO that learns."""

import importlib
import sys

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor
from tiny_environments import Drawn, Near

from metarl.bridges.gymnasium_env import TaskEnv
from metarl.bridges.sb3_env import TaskVecEnv
from metarl.bridges.sb3_env import as_sb3_vec_env as of_family
from metarl.bridges.vector_env import TaskVectorEnv
from metarl.envs import as_sb3_vec_env, make_family
from metarl.envs.navigation.goals import Navigation2D

GOALS = np.array([[0.1, 0.1], [0.25, -0.1], [0.5, 0.5]])
GAINS = np.array([[1.0], [0.5], [0.0]])  # the last one never moves: truncated at 100


def navigation(num_envs: int = 3, **settings) -> TaskVecEnv:
    return as_sb3_vec_env("Navigation2D:maml17", num_envs, **settings)


def mean_return(envs: TaskVecEnv, model: PPO) -> float:
    """Of the first episode of each environment, acting without noise."""
    observations, total, running = envs.reset(), np.zeros(envs.num_envs), np.ones(envs.num_envs)
    for _ in range(100):
        actions, _ = model.predict(observations, deterministic=True)
        observations, rewards, dones, _ = envs.step(actions)
        total += running * rewards
        running *= ~dones
    return float(total.mean())


def test_ppo_learns_to_walk_to_a_goal():
    goals = [[0.3, -0.4]] * 8
    envs, judge = navigation(8, tasks=goals), navigation(8, tasks=goals, seed=1)
    settings = {"n_steps": 100, "batch_size": 400, "n_epochs": 5, "learning_rate": 2e-3}
    model = PPO("MlpPolicy", envs, seed=0, gamma=0.95, device="cpu", **settings)
    before = mean_return(judge, model)
    model.learn(4800)
    assert before < -40  # standing still gives −50
    assert mean_return(judge, model) > -25


def test_steps_are_those_of_stable_baselines_own_loop_over_environments():
    family = Navigation2D("maml17")
    ours = of_family(family, 3, tasks=GOALS)
    theirs = DummyVecEnv([lambda goal=goal: TaskEnv(family, task=goal) for goal in GOALS])
    observations = ours.reset()
    np.testing.assert_array_equal(observations, theirs.reset())
    ends = np.zeros(3, int)
    for _ in range(205):
        actions = np.clip(GAINS * (GOALS - observations), -0.1, 0.1).astype(np.float32)
        observations, rewards, dones, infos = ours.step(actions)
        their_observations, their_rewards, their_dones, their_infos = theirs.step(actions)
        for mine, their in (
            (observations, their_observations),
            (rewards, their_rewards),
            (dones, their_dones),
        ):
            assert mine.dtype == their.dtype
            np.testing.assert_array_equal(mine, their)
        for index in np.flatnonzero(dones):
            assert infos[index].keys() == their_infos[index].keys()
            for key, value in infos[index].items():
                np.testing.assert_array_equal(value, their_infos[index][key])
        ends += dones
    assert ends[0] > ends[1] > ends[2] == 2


def test_only_an_end_at_the_horizon_is_a_time_limit():
    envs = navigation(2, tasks=GOALS[[0, 2]])
    envs.reset()
    _, _, dones, infos = envs.step(np.full((2, 2), 0.1, np.float32))
    assert dones.tolist() == [True, False]
    assert infos[0]["TimeLimit.truncated"] is False
    assert infos[0]["terminal_observation"].tolist() == [np.float32(0.1)] * 2
    assert infos[1] == {}
    for _ in range(99):
        _, _, dones, infos = envs.step(np.zeros((2, 2), np.float32))
    assert dones.tolist() == [False, True]
    assert infos[1]["TimeLimit.truncated"] is True


def test_success_of_the_last_step_has_the_key_of_stable_baselines():
    envs = of_family(Near("maml17"), 2, tasks=GOALS[[0, 2]])
    envs.reset()
    assert envs.step(np.full((2, 2), 0.1, np.float32))[3][0]["is_success"] is True
    for _ in range(99):
        infos = envs.step(np.zeros((2, 2), np.float32))[3]
    assert infos[1]["is_success"] is False


def test_tasks_are_sampled_for_each_episode_and_reported_in_two_places():
    envs = navigation()
    envs.reset()
    first = [info["task"] for info in envs.reset_infos]
    for _ in range(100):
        _, _, _, infos = envs.step(np.zeros((3, 2), np.float32))
    second = [info["task"] for info in envs.reset_infos]
    for index in range(3):
        np.testing.assert_array_equal(infos[index]["task"], first[index])
        np.testing.assert_array_equal(envs.get_attr("task", index)[0], second[index])
        assert (first[index] != second[index]).all()


def test_infos_are_new_objects_in_every_step():
    envs = navigation(2, tasks=GOALS[[0, 0]])
    envs.reset()
    infos = envs.step(np.zeros((2, 2), np.float32))[3]
    infos[0]["episode"] = "a wrapper's note"
    assert infos[1] == {}
    assert envs.step(np.zeros((2, 2), np.float32))[3] == [{}, {}]
    infos = envs.step(np.full((2, 2), 0.1, np.float32))[3]
    infos[0]["task"][:] = 7
    infos[0]["terminal_observation"][:] = 7
    assert infos[1]["task"].tolist() == envs.get_attr("task")[0].tolist() == [0.1, 0.1]


def test_the_seed_determines_everything_and_is_used_once():
    def tasks(envs: TaskVecEnv) -> np.ndarray:
        envs.reset()
        return np.array(envs.get_attr("task"))

    envs, twin, other = navigation(seed=3), navigation(seed=3), navigation(seed=4)
    first = tasks(envs)
    np.testing.assert_array_equal(first, tasks(twin))
    assert (first != tasks(other)).all()
    assert (tasks(envs) != first).all()
    assert envs.seed(3) == [3, 4, 5]
    np.testing.assert_array_equal(tasks(envs), first)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    assert envs.seed() == twin.seed() or len(set(envs.seed())) == 3
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_attributes_are_the_task_of_each_environment_and_shared_attributes():
    envs = navigation(tasks=GOALS)
    envs.reset()
    np.testing.assert_array_equal(envs.get_attr("task", [2, 0]), GOALS[[2, 0]])
    assert [family.id for family in envs.get_attr("family", 1)] == ["Navigation2D:maml17"]
    assert envs.get_attr("render_mode") == [None] * 3
    assert not envs.has_attr("no_such_thing")
    assert envs.env_is_wrapped(Monitor) == [False] * 3
    assert envs.env_is_wrapped(Monitor, [1]) == [False]
    with pytest.raises(AttributeError, match="no_such_thing"):
        envs.get_attr("no_such_thing")


def test_a_task_can_be_set_from_the_next_episode_on():
    envs = navigation()
    envs.reset()
    assert envs.env_method("set_task", [0.5, 0.0], indices=[0, 2]) == [None, None]
    envs.set_attr("task", [0.0, 0.5], indices=1)
    assert all(task.tolist() not in ([0.5, 0], [0, 0.5]) for task in envs.get_attr("task"))
    envs.reset()
    np.testing.assert_array_equal(envs.get_attr("task"), [[0.5, 0], [0, 0.5], [0.5, 0]])
    envs.set_attr("task", None, indices=-1)
    envs.reset()
    np.testing.assert_array_equal(envs.get_attr("task", [0, 1]), [[0.5, 0], [0, 0.5]])
    assert envs.get_attr("task", 2)[0].tolist() != [0.5, 0]


def test_options_give_the_tasks_of_the_next_episode():
    envs = navigation()
    envs.set_options({"task": [0.5, 0.25]})
    envs.reset()
    assert np.array(envs.get_attr("task")).tolist() == [[0.5, 0.25]] * 3
    envs.set_options([{"task": goal} for goal in GOALS])
    envs.reset()
    np.testing.assert_array_equal(envs.get_attr("task"), GOALS)
    envs.reset()
    assert (np.array(envs.get_attr("task")) != GOALS).all()


def test_invalid_arguments_are_rejected():
    envs = navigation()
    with pytest.raises(AttributeError, match=r"only 'task' can be set in an .*, got 'horizon'"):
        envs.set_attr("horizon", 3)
    with pytest.raises(AttributeError, match="environments have the method 'set_task', got 'fly'"):
        envs.env_method("fly")
    with pytest.raises(ValueError, match="tasks must lie in Box"):
        envs.set_attr("task", [9, 9])
    envs.set_options([{"task": GOALS[0]}, {}, {}])
    with pytest.raises(ValueError, match="options must give a task to every environment, or to no"):
        envs.reset()
    envs.set_options({"tsak": GOALS[0]})
    with pytest.raises(ValueError, match="a reset option must be one of task, got 'tsak'"):
        envs.reset()
    with pytest.raises(ValueError, match="envs must reset in the same step, got NextStep"):
        TaskVecEnv(TaskVectorEnv(make_family("Navigation2D:maml17"), 2), seed=0)


def test_a_monitor_around_it_counts_correctly():
    envs = VecMonitor(navigation(2, tasks=GOALS[[0, 2]]))
    envs.reset()
    for _ in range(100):
        _, _, _, infos = envs.step(np.zeros((2, 2), np.float32))
    assert [info["episode"]["l"] for info in infos] == [100, 100]
    expected = [-100 * np.hypot(*goal) for goal in GOALS[[0, 2]]]
    np.testing.assert_allclose([info["episode"]["r"] for info in infos], expected, rtol=1e-5)


def test_images_are_tiled():
    envs = of_family(Drawn("maml17"), 2, tasks=GOALS[:2], render_mode="rgb_array")
    envs.reset()
    image = envs.render()
    assert image.shape == (8, 5, 3)
    assert (image[0, 0, 1], image[4, 0, 1]) == (110, 125)
    assert navigation().get_images() == [None] * 3


def test_mujoco_steps_in_one_call_and_closes():
    envs = as_sb3_vec_env("HalfCheetahVel:promp", 3)
    assert envs.reset().shape == (3, envs.observation_space.shape[0])
    observations, rewards, dones, infos = envs.step(np.zeros((3, 6), np.float32))
    assert observations.dtype == rewards.dtype == np.float32
    assert np.isfinite(observations).all()
    assert dones.tolist() == [False] * 3
    assert infos == [{}, {}, {}]
    envs.close()
    envs.close()


def test_without_stable_baselines_the_error_names_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "metarl.bridges.sb3_env")
    monkeypatch.delattr("metarl.bridges.sb3_env")
    monkeypatch.setitem(sys.modules, "stable_baselines3.common.vec_env", None)
    with pytest.raises(ImportError, match="needs Stable-Baselines3: pip install stable-baselines3"):
        importlib.import_module("metarl.bridges.sb3_env")
    with pytest.raises(ImportError, match="needs Stable-Baselines3"):
        navigation()
