"""The batched environment against Gymnasium's SyncVectorEnv, and its tasks, seeds and errors."""

import math
from itertools import pairwise

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import batch_space
from tiny_environments import Drawn, Near

from metarl.bridges.gymnasium_env import TaskEnv
from metarl.bridges.vector_env import TaskVectorEnv
from metarl.envs import make_family, make_vector_env
from metarl.envs.navigation.goals import Navigation2D

GOALS = np.array([[0.1, 0.1], [0.25, -0.1], [-0.45, 0.3], [0.5, 0.5]])
GAINS = np.array([[1.0], [0.3], [1.0], [0.0]])  # the last one never moves: truncated at 100
MODES = list(AutoresetMode)


def navigation(num_envs: int = 4, **settings) -> TaskVectorEnv:
    return make_vector_env("Navigation2D", num_envs, variant="maml17", **settings)


def towards_goals(observations):
    """Actions that reach the first three goals at different steps."""
    return np.clip(GAINS * (GOALS - observations), -0.1, 0.1).astype(np.float32)


def assert_equal(ours, theirs):
    """Bitwise equal, of one type and dtype, in dictionaries too."""
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert_equal(value, theirs[key])
    elif isinstance(ours, tuple) or (isinstance(ours, np.ndarray) and ours.dtype == object):
        for one, other in zip(ours, theirs, strict=True):
            assert_equal(one, other)
    elif isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    else:
        assert ours == theirs


@pytest.mark.parametrize("mode", MODES)
def test_each_autoreset_mode_equals_gymnasiums_sync_vector_env(mode):
    family = Near("maml17")
    ours = TaskVectorEnv(family, 4, tasks=GOALS, autoreset_mode=mode)
    theirs = SyncVectorEnv(
        [lambda goal=goal: TaskEnv(family, task=goal) for goal in GOALS], autoreset_mode=mode
    )
    assert ours.metadata["autoreset_mode"] is theirs.metadata["autoreset_mode"] is mode
    start = ours.reset(seed=0)
    assert_equal(start, theirs.reset(seed=0))
    observations, ends = start[0], np.zeros(4, int)
    for _ in range(205):
        actions = towards_goals(observations)
        result = ours.step(actions)
        assert_equal(result, theirs.step(actions))
        observations, _, terminated, truncated, _ = result
        ended = terminated | truncated
        ends += ended
        if mode is AutoresetMode.DISABLED and ended.any():
            observations, infos = ours.reset(options={"reset_mask": ended})
            assert_equal((observations, infos), theirs.reset(options={"reset_mask": ended.copy()}))
    assert ends[0] > ends[2] > ends[1] > ends[3] >= 2  # they end at different steps


def test_resampled_tasks_give_the_same_results_as_a_loop_with_these_tasks():
    ours = navigation(autoreset_mode="SameStep")
    theirs = SyncVectorEnv(
        [lambda: TaskEnv(Navigation2D("maml17")) for _ in range(4)], autoreset_mode="SameStep"
    )
    _, infos = ours.reset(seed=0)
    for env, task in zip(theirs.envs, infos["task"], strict=True):
        env.set_task(task)
    theirs.reset(seed=0)
    for _ in range(100):
        actions = ours.action_space.sample()
        result = ours.step(actions)
        if result[2].any():
            break
        for env, task in zip(theirs.envs, result[4]["task"], strict=True):
            env.set_task(task)
        assert_equal(result, theirs.step(actions))
    assert result[3].all() or result[2].any()


def test_final_observations_are_reported_in_same_step_mode():
    envs = TaskVectorEnv(Near("maml17"), 2, tasks=GOALS[:2], autoreset_mode="SameStep")
    envs.reset(seed=0)
    envs.set_tasks(GOALS[2:])  # from the next episodes on
    observations, rewards, terminated, truncated, infos = envs.step(np.full((2, 2), 0.1))
    assert terminated.tolist() == [True, False]
    assert not truncated.any()
    assert observations.tolist() == [[0, 0], [np.float32(0.1), np.float32(0.1)]]
    assert rewards[1] == pytest.approx(-math.hypot(0.15, 0.2), abs=1e-6)
    assert infos["final_obs"][0].tolist() == [np.float32(0.1)] * 2
    assert infos["final_obs"][1] is None
    assert infos["_final_obs"].tolist() == infos["_final_info"].tolist() == [True, False]
    assert infos["final_info"]["task"].tolist() == [[0.1, 0.1], [0, 0]]
    assert infos["final_info"]["success"].tolist() == [True, False]
    assert infos["task"].tolist() == [[-0.45, 0.3], [0.25, -0.1]]
    assert infos["_success"].tolist() == [False, True]


def test_the_next_step_begins_episodes_and_ignores_their_actions():
    envs = navigation(2, tasks=GOALS[:2])
    envs.reset(seed=0)
    observations, _, terminated, _, _ = envs.step(np.full((2, 2), 0.1))
    assert terminated.tolist() == [True, False]
    assert observations[0].tolist() == [np.float32(0.1)] * 2
    observations, rewards, terminated, truncated, _ = envs.step(np.full((2, 2), 0.05))
    assert observations[0].tolist() == [0, 0]
    assert observations[1] == pytest.approx([0.15, 0.15])
    assert rewards[0] == 0
    assert rewards[1] == pytest.approx(-math.hypot(0.1, 0.25), abs=1e-6)
    assert not (terminated | truncated).any()


def test_make_vec_uses_the_batched_environment_by_default():
    for settings in ({}, {"vectorization_mode": "vector_entry_point"}):
        envs = gymnasium.make_vec("metarl/HalfCheetahVel-v0", 8, variant="promp", **settings)
        assert isinstance(envs, TaskVectorEnv)
        assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
        observations, infos = envs.reset(seed=0)
        assert observations in envs.observation_space
        assert infos["task"].shape == (8, 1)
        assert len(np.unique(infos["task"])) == 8
        observations, rewards, *_ = envs.step(envs.action_space.sample())
        assert observations in envs.observation_space
        assert (rewards.shape, rewards.dtype) == ((8,), np.float64)
        envs.close()


def test_spaces_equal_the_spaces_of_one_environment_and_their_batch():
    envs, family = navigation(3), make_family("Navigation2D:maml17")
    assert envs.single_observation_space == family.observation_space
    assert envs.single_action_space == family.action_space
    assert envs.observation_space == batch_space(family.observation_space, 3)
    assert envs.action_space == batch_space(family.action_space, 3)


def test_episode_statistics_of_gymnasium_are_correct():
    envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(navigation(2, tasks=GOALS[2:]))
    envs.reset(seed=0)
    for _ in range(100):
        *_, infos = envs.step(np.zeros((2, 2), np.float32))
    assert infos["episode"]["l"].tolist() == [100, 100]
    returns = -100 * np.hypot(*GOALS[2:].T)
    np.testing.assert_allclose(infos["episode"]["r"], returns, rtol=1e-5)


def test_a_seed_determines_tasks_and_episodes_and_the_stream_continues():
    def results_of(seed: int) -> list:
        envs = make_vector_env("HalfCheetahVel", 3, variant="promp")
        results = [envs.reset(seed=seed), envs.step(np.full((3, 6), 0.5)), envs.reset()]
        envs.close()
        return results

    first, again, other = results_of(4), results_of(4), results_of(5)
    assert repr(first) == repr(again)
    assert repr(first[0]) != repr(other[0])
    assert repr(first[0]) != repr(first[2])


def test_only_environments_that_start_an_episode_get_another_task():
    envs = navigation(num_envs=6)
    _, infos = envs.reset(seed=0)
    tasks, changed = [infos["task"]], np.zeros(6, int)
    ended = np.zeros(6, bool)
    for _ in range(60):
        observations = envs._batch.oracle_actions().squeeze(1).numpy()
        _, _, terminated, truncated, infos = envs.step(observations)
        tasks.append(infos["task"])
        differs = (tasks[-1] != tasks[-2]).any(axis=1)
        assert differs.tolist() == ended.tolist()
        changed += differs
        ended = terminated | truncated
    assert changed.min() > 3
    assert len(set(changed.tolist())) > 1  # not in step with each other


def test_a_task_may_be_kept_in_some_environments_only():
    envs = navigation(3)
    envs.set_tasks([[0.5, 0.5]] * 3, env_mask=np.array([False, True, False]))
    tasks = [envs.reset(seed=0)[1]["task"], envs.reset()[1]["task"]]
    assert tasks[0][1].tolist() == tasks[1][1].tolist() == [0.5, 0.5]
    assert (tasks[0][[0, 2]] != tasks[1][[0, 2]]).all()
    envs.set_tasks(None)
    assert envs.reset()[1]["task"][1].tolist() != [0.5, 0.5]


@pytest.mark.parametrize(
    "options", [{"task": [0.5, 0.0]}, {"tasks": [[0.5, 0.0]] * 3}], ids=["task", "tasks"]
)
def test_tasks_in_the_options_hold_for_one_episode(options):
    envs, before = navigation(3), repr(options)
    assert envs.reset(seed=0, options=options)[1]["task"].tolist() == [[0.5, 0.0]] * 3
    assert envs.step(np.zeros((3, 2)))[1] == pytest.approx([-0.5] * 3)
    assert repr(options) == before
    assert (envs.reset()[1]["task"] != [0.5, 0.0]).all()


def test_discrete_tasks_are_integers():
    envs = make_vector_env("HalfCheetahDir", 3, variant="promp", tasks=[0, 1, 1])
    _, infos = envs.reset(seed=0)
    assert infos["task"].tolist() == [0, 1, 1]
    assert infos["task"].dtype == np.int64
    rewards = envs.step(np.zeros((3, 6)))[1]
    assert rewards[0] != rewards[1]
    envs.close()


def test_a_reset_of_some_environments_leaves_the_others_where_they_are():
    envs = make_vector_env("HalfCheetahVel", 3, variant="promp", autoreset_mode="Disabled")
    twin = make_vector_env("HalfCheetahVel", 3, variant="promp", autoreset_mode="Disabled")
    for one in (envs, twin):
        one.reset(seed=0)
        before = one.step(np.full((3, 6), 0.3))[0]
    mask = np.array([False, True, False])
    options = {"reset_mask": mask}
    after, infos = envs.reset(options=options)
    assert options["reset_mask"] is mask
    assert infos["_task"].tolist() == [False, True, False]
    assert infos["task"][[0, 2]].tolist() == [[0], [0]]
    assert (after[1] != before[1]).any()
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    ours, theirs = (one.step(np.full((3, 6), -0.2)) for one in (envs, twin))
    for mine, plain in zip(ours[:2], theirs[:2], strict=True):
        np.testing.assert_array_equal(mine[[0, 2]], plain[[0, 2]])
    envs.close()
    twin.close()


def test_returned_arrays_may_be_modified():
    envs, twin = (navigation(tasks=GOALS) for _ in range(2))
    results = [envs.reset(seed=0)]
    twin.reset(seed=0)
    for _ in range(12):
        for array in results[-1][:-1]:
            array[:] = 1
        results[-1][-1]["task"][:] = 7
        results[-1][-1]["_task"][:] = False
        results.append(envs.step(np.full((4, 2), 0.1)))
        assert_equal(results[-1], twin.step(np.full((4, 2), 0.1)))
    kept = [infos["task"] for *_, infos in results]
    assert not any(np.shares_memory(one, other) for one, other in pairwise(kept))


def test_images_come_one_for_each_environment():
    envs = TaskVectorEnv(Drawn("maml17"), 2, tasks=GOALS[:2], render_mode="rgb_array")
    assert envs.metadata["render_modes"] == ["rgb_array"]
    envs.reset(seed=0)
    assert [image[0, 0, 1] for image in envs.render()] == [110, 125]
    assert TaskVectorEnv(Drawn("maml17"), 2).render() is None


def test_there_is_no_default_variant():
    with pytest.raises(ValueError, match="variant of Navigation2D must be given, one of maml17"):
        gymnasium.make_vec("metarl/Navigation2D-v0", 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_envs": 0}, "num_envs must be 1 or more, got 0"),
        ({"tasks": GOALS[:3]}, "tasks must be 4, one for each environment, got 3"),
        ({"tasks": GOALS + 1}, "tasks must lie in Box"),
        ({"split": "tets"}, "split must be one of train, test, got 'tets'"),
        (
            {"autoreset_mode": "NextSetp"},
            "autoreset_mode must be one of NextStep, SameStep, Disabled, got 'NextSetp'; did",
        ),
        ({"render_mode": "human"}, "render_mode must be"),
    ],
)
def test_a_setting_that_does_not_fit_is_rejected(settings, message):
    with pytest.raises(ValueError, match=message):
        navigation(**settings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reset_msak": np.ones(4, bool)}, "a reset option must be .*; did you mean 'reset_mask'"),
        ({"reset_mask": [True] * 4}, r"reset_mask must be a bool array of shape \(4,\), got list"),
        ({"reset_mask": np.ones(3, bool)}, r"reset_mask must .* got bool of shape \(3,\)"),
        ({"reset_mask": np.ones(4)}, r"reset_mask must .* got float64 of shape \(4,\)"),
        ({"reset_mask": np.zeros(4, bool)}, "reset_mask must be true for at least one environment"),
        ({"task": [9, 9]}, "tasks must lie in Box"),
        ({"tasks": GOALS[:2]}, "tasks must be 4, one for each environment, got 2"),
        ({"task": [0, 0], "tasks": GOALS}, "reset options must hold 'task' or 'tasks', got both"),
    ],
)
def test_an_invalid_option_is_rejected_and_changes_nothing(options, message):
    envs, twin = navigation(), navigation()
    for one in (envs, twin):
        one.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        envs.reset(seed=1, options=options)
    assert_equal(envs.step(np.zeros((4, 2))), twin.step(np.zeros((4, 2))))
    assert_equal(envs.reset(), twin.reset())


def test_a_seed_for_each_environment_is_rejected():
    with pytest.raises(ValueError, match="seed must be one Python integer, for all environments"):
        navigation().reset(seed=[1, 2, 3, 4])


def test_the_first_reset_includes_all_and_precedes_the_first_step():
    envs = navigation()
    with pytest.raises(ResetNeeded, match="reset must be called before step"):
        envs.step(np.zeros((4, 2)))
    with pytest.raises(ResetNeeded, match="the first reset must include all environments"):
        envs.reset(options={"reset_mask": np.array([True, False, True, True])})


def test_without_autoreset_an_ended_episode_cannot_be_stepped():
    envs = navigation(tasks=GOALS[[0, 3, 0, 3]], autoreset_mode=AutoresetMode.DISABLED)
    envs.reset(seed=0)
    envs.step(np.full((4, 2), 0.1))
    message = r"episodes of environments 0, 2 have ended: reset them, options=\{'reset_mask'"
    with pytest.raises(ResetNeeded, match=message):
        envs.step(np.zeros((4, 2)))
    envs.reset(options={"reset_mask": np.array([True, False, False, False])})
    with pytest.raises(ResetNeeded, match="episodes of environments 2 have ended"):
        envs.step(np.zeros((4, 2)))
    everywhere = np.ones(4, bool)
    everywhere.flags.writeable = False
    envs.reset(options={"reset_mask": everywhere})
    envs.step(np.zeros((4, 2)))


def test_actions_of_another_shape_are_rejected():
    envs = navigation()
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"actions must have shape \(4, 2\), got \(2,\)"):
        envs.step(np.zeros(2))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_simulator_on_the_gpu_gives_arrays_as_one_on_the_cpu():
    ours, theirs = navigation(device="cuda", tasks=GOALS), navigation(tasks=GOALS)
    observations, _ = ours.reset(seed=0)
    theirs.reset(seed=0)
    for _ in range(20):
        actions = towards_goals(observations)
        observations, rewards, terminated, *_ = ours.step(actions)
        expected = theirs.step(actions)
        np.testing.assert_allclose(observations, expected[0], atol=1e-6)
        np.testing.assert_allclose(rewards, expected[1], atol=1e-6)
        assert terminated.tolist() == expected[2].tolist()
