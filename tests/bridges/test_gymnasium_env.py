"""One environment with Gymnasium's interface: ids, checkers, tasks, seeds, and their errors."""

import math
import pickle
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from tiny_environments import Drawn, Near

from metarl.bridges.gymnasium_env import TaskEnv
from metarl.envs import FAMILIES, TensorFamily, gymnasium_id, make_env, make_family, register_family
from metarl.envs.navigation.goals import Navigation2D

IDS = [
    "Navigation2D:maml17",
    "HalfCheetahVel:promp",
    "HalfCheetahDir:promp",
    "HalfCheetahDirSparse:hyperx",
]
GOAL = np.array([0.3, 0.4])


class WithoutImages(Navigation2D):
    """Navigation without an image."""

    render_state = TensorFamily.render_state


def make(family_id: str, **settings) -> TaskEnv:
    name, variant = family_id.split(":")
    return gymnasium.make(gymnasium_id(name), variant=variant, **settings).unwrapped


def navigation(**settings) -> TaskEnv:
    return make("Navigation2D:maml17", **settings)


# Positions and velocities have no bounds; and a step of Navigation2D is 0.1 long by definition.
@pytest.mark.filterwarnings("ignore:.*A Box observation space m.* value is -?infinity")
@pytest.mark.filterwarnings("ignore:.*recommend using a symmetric and normalized space")
@pytest.mark.parametrize("family_id", IDS)
def test_the_checker_of_gymnasium_passes(family_id):
    # MuJoCo renders only with a display or a driver for it
    check_env(make(family_id), skip_render_check=family_id.startswith("HalfCheetah"))


@pytest.mark.filterwarnings("ignore:We recommend you to use a symmetric and normalized Box action")
@pytest.mark.parametrize("family_id", IDS)
def test_the_checker_of_stable_baselines_passes(family_id):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    checker.check_env(make(family_id))


@pytest.mark.parametrize("name", [entry.name for entry in FAMILIES])
def test_every_family_has_an_id_that_imports_nothing_before_it_is_made(name):
    spec = gymnasium.spec(gymnasium_id(name))
    assert spec.entry_point == "metarl.bridges.makers:make_env"
    assert spec.vector_entry_point == "metarl.bridges.makers:make_vector_env"
    assert spec.max_episode_steps is None


def test_importing_the_families_imports_no_simulator():
    code = (
        "import sys, metarl.envs\n"
        "heavy = {'mujoco', 'stable_baselines3', 'metarl.envs.navigation.goals'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_id_may_name_the_module_to_import():
    env = gymnasium.make("metarl.envs:metarl/HalfCheetahVel-v0", variant="promp")
    assert env.unwrapped.family.id == "HalfCheetahVel:promp"
    env.close()


def test_a_step_equals_the_familys_step_in_gymnasiums_types():
    env = navigation(task=GOAL)
    observation, info = env.reset(seed=0)
    assert observation.dtype == np.float32
    assert observation.tolist() == [0, 0]
    np.testing.assert_array_equal(info["task"], GOAL)
    observation, reward, terminated, truncated, info = env.step(np.array([0.1, 0.1]))
    np.testing.assert_array_equal(observation, np.array([0.1, 0.1], np.float32))
    assert type(reward) is float
    assert reward == pytest.approx(-math.sqrt(0.13), abs=1e-6)
    assert (terminated, truncated) == (False, False)
    assert type(terminated) is type(truncated) is bool
    assert list(info) == ["task"]  # the family defines no success


def test_an_episode_terminates_at_the_goal():
    env = navigation(task=[0.1, 0.1])
    env.reset(seed=0)
    assert env.step(np.array([0.1, 0.1]))[2:4] == (True, False)


def test_an_episode_is_truncated_at_the_familys_horizon():
    env = gymnasium.make("metarl/Navigation2D-v0", variant="maml17", task=GOAL)
    env.reset(seed=0)
    ends = [env.step(np.zeros(2, np.float32))[2:4] for _ in range(100)]
    assert ends == [(False, False)] * 99 + [(False, True)]


def test_success_is_reported_if_the_family_defines_it():
    env = TaskEnv(Near("maml17"), task=[0.25, 0.0])
    assert list(env.reset(seed=0)[1]) == ["task"]
    first, second = (env.step(np.array([x, 0.0]))[4]["success"] for x in (0.04, 0.02))
    assert first is False
    assert second is True


@pytest.mark.parametrize("family_id", IDS)
def test_a_seed_determines_task_and_episode_and_the_stream_continues(family_id):
    def episodes(seed: int) -> list:
        env = make(family_id)
        env.action_space.seed(0)
        results = []
        for index in range(3):
            observation, info = env.reset(seed=seed if index == 0 else None)
            results.append((observation, info["task"], env.step(env.action_space.sample())[:2]))
        env.close()
        return results

    first = episodes(5)
    for one, again in zip(first, episodes(5), strict=True):
        assert repr(one) == repr(again)
    assert repr(first[0]) != repr(first[1])
    assert repr(first) != repr(episodes(6))


def test_a_seed_restarts_the_stream_in_mid_episode():
    env = navigation()
    task = env.reset(seed=3)[1]["task"]
    env.step(np.array([0.1, 0.1]))
    observation, info = env.reset(seed=3)
    np.testing.assert_array_equal(info["task"], task)
    assert observation.tolist() == [0, 0]


def test_the_tasks_to_come_do_not_depend_on_given_ones_or_on_steps():
    plain, other = navigation(), navigation()
    plain.reset(seed=1)
    other.reset(seed=1, options={"task": GOAL})
    other.step(np.array([0.1, 0.1]))
    np.testing.assert_array_equal(plain.reset()[1]["task"], other.reset()[1]["task"])


def test_global_generators_are_neither_used_nor_changed():
    state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    env = make("HalfCheetahVel:promp")
    env.reset(seed=0)
    env.step(np.zeros(6, np.float32))
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)
    env.close()


def test_without_a_fixed_task_each_reset_samples_one():
    env = navigation()
    tasks = np.array([env.reset(seed=0)[1]["task"]] + [env.reset()[1]["task"] for _ in range(200)])
    assert len(np.unique(tasks[:, 0])) == 201
    assert np.abs(tasks.mean(axis=0)).max() < 0.1  # uniform in [-.5, .5]: a mean is off by .02
    assert tasks.std(axis=0) == pytest.approx(1 / math.sqrt(12), abs=0.04)


def test_tasks_come_from_the_split():
    env = make("HalfCheetahVel:ldm", split="test")
    tasks = {round(float(env.reset(seed=seed)[1]["task"][0]), 6) for seed in range(12)}
    assert tasks <= {0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25}
    assert len(tasks) > 3
    env.close()


def test_a_task_given_at_construction_is_kept_and_reaches_the_reward():
    env = navigation(task=GOAL)
    for seed in (0, None, 7):
        np.testing.assert_array_equal(env.reset(seed=seed)[1]["task"], GOAL)
        reward = env.step(np.zeros(2))[1]
        assert reward == pytest.approx(-0.5, abs=1e-6)


def test_a_task_in_the_options_holds_for_one_episode():
    env = navigation(task=GOAL)
    env.reset(seed=0)
    options = {"task": np.array([0.0, -0.25])}
    _, info = env.reset(options=options)
    assert info["task"].tolist() == [0, -0.25]
    assert env.step(np.zeros(2))[1] == pytest.approx(-0.25, abs=1e-6)
    assert env.step(np.zeros(2))[4]["task"].tolist() == [0, -0.25]
    assert list(options) == ["task"]
    np.testing.assert_array_equal(env.reset()[1]["task"], GOAL)
    env.set_task(None)
    assert env.reset()[1]["task"].tolist() != GOAL.tolist()


def test_a_discrete_task_is_one_integer():
    env = make("HalfCheetahDir:promp", task=1)
    _, info = env.reset(seed=0)
    assert isinstance(info["task"], np.int64)
    assert info["task"] == 1
    assert env.reset(options={"task": np.int64(0)})[1]["task"] == 0
    env.close()


def test_returned_arrays_may_be_modified():
    env = navigation(task=GOAL)
    observation, info = env.reset(seed=0)
    observation += 7
    info["task"] += 7
    observation, reward, _, _, info = env.step(np.zeros(2))
    assert observation.tolist() == [0, 0]
    assert reward == pytest.approx(-0.5, abs=1e-6)
    np.testing.assert_array_equal(info["task"], GOAL)


def test_a_variant_may_observe_the_task():
    env = make("HalfCheetahVel:promp+task", task=[1.5])
    hidden = make("HalfCheetahVel:promp")
    assert env.observation_space.shape[0] == hidden.observation_space.shape[0] + 1
    env.close()
    hidden.close()


def test_a_pickled_spec_keeps_the_task():
    spec = pickle.loads(pickle.dumps(navigation(task=GOAL).spec))
    np.testing.assert_array_equal(gymnasium.make(spec).reset()[1]["task"], GOAL)


def test_an_image_shows_the_present_state():
    env = TaskEnv(Drawn("maml17"), render_mode="rgb_array")
    assert env.metadata["render_modes"] == ["rgb_array"]
    env.reset(seed=0)
    env.step(np.array([0.05, 0.0]))
    image = env.render()
    assert image.shape == (4, 5, 3)
    assert image[0, 0, 0] == 105
    assert TaskEnv(Drawn("maml17")).render() is None


def test_a_family_without_an_image_has_no_render_mode():
    assert TaskEnv(WithoutImages("maml17")).metadata["render_modes"] == []
    with pytest.raises(TypeError, match="render_mode must be None, Navigation2D:maml17 cannot r"):
        TaskEnv(WithoutImages("maml17"), render_mode="rgb_array")
    with pytest.raises(ValueError, match="render_mode must be one of rgb_array, got 'human'"):
        TaskEnv(Drawn("maml17"), render_mode="human")


def test_there_is_no_default_variant():
    choices = ", ".join(FAMILIES.get("HalfCheetahDir").variants)
    message = f"variant of HalfCheetahDir must be given, one of {choices}"
    with pytest.raises(ValueError, match=message):
        gymnasium.make("metarl/HalfCheetahDir-v0")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variant": "mamll17"}, "variant of Navigation2D must be .* did you mean 'maml17'"),
        ({"variant": "maml17", "split": "tets"}, "split must be .*; did you mean 'test'"),
        ({"variant": "maml17", "task": [9, 0]}, r"tasks must lie in Box.*, got \[9.0, 0.0\]"),
    ],
)
def test_a_setting_that_does_not_fit_is_rejected(settings, message):
    with pytest.raises(ValueError, match=message):
        make_env("Navigation2D", **settings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tsak": GOAL}, "a reset option must be one of task, got 'tsak'; did you mean 'task'"),
        ({"task": [9, 0]}, "tasks must lie in Box"),
        ({"task": [0.1]}, r"tasks must have shape \[tasks, 2\], got \(1, 1\)"),
    ],
)
def test_an_invalid_option_is_rejected_and_changes_nothing(options, message):
    env, other = navigation(), navigation()
    for one in (env, other):
        one.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.reset(seed=5, options=options)
    np.testing.assert_array_equal(env.step(np.zeros(2))[4]["task"], other.task)
    np.testing.assert_array_equal(env.reset()[1]["task"], other.reset()[1]["task"])


def test_an_invalid_task_is_rejected_and_the_current_one_stays():
    """Transitions that do not sum to 1 lie in the task space, but are invalid."""
    env = TaskEnv(make_family("TabularMDP:rl2"))
    task = env.reset(seed=0)[1]["task"]
    bad = task.copy()
    bad[50:60] = 0.5
    for rejected_call in (
        lambda: env.reset(options={"task": bad}),
        lambda: env.reset(options={"task": bad}),  # and again
        lambda: env.set_task(bad),
        lambda: TaskEnv(make_family("TabularMDP:rl2"), task=bad),
    ):
        with pytest.raises(ValueError, match="sum to 1"):
            rejected_call()
    np.testing.assert_array_equal(env.task, task)


def test_each_environment_samples_actions_with_a_separate_seed():
    family = make_family("Navigation2D:maml17")
    one, other = TaskEnv(family), TaskEnv(family)
    one.action_space.seed(0)
    expected = [one.action_space.sample() for _ in range(2)]
    one.action_space.seed(0)
    found = [one.action_space.sample()]
    other.action_space.seed(5)
    found.append(one.action_space.sample())
    np.testing.assert_array_equal(found, expected)


def test_an_action_that_does_not_fit_is_rejected():
    env = navigation()
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"actions must have shape \(2,\), got \(1, 2\)"):
        env.step(np.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"actions must be finite, got \[nan, 0.0\]"):
        env.step(np.array([np.nan, 0.0]))


def test_a_step_needs_a_reset_first():
    with pytest.raises(ResetNeeded, match="reset must be called before step"):
        navigation().step(np.zeros(2))


def test_closing_twice_does_nothing():
    env = make("HalfCheetahVel:promp")
    env.close()
    env.close()


class Mine(Navigation2D):
    """A family of a user."""

    name = "Mine"


def test_a_family_of_a_user_gets_an_id():
    register_family("Mine", Mine, description="my own", variants=["maml17"])
    try:
        env = gymnasium.make("metarl/Mine-v0", variant="maml17", task=GOAL)
        np.testing.assert_array_equal(env.reset()[1]["task"], GOAL)
    finally:
        del FAMILIES._entries["Mine"], gymnasium.registry["metarl/Mine-v0"]


@pytest.mark.parametrize("name", ["My Family", "my/family"])
def test_a_name_that_gymnasium_cannot_read_is_rejected(name):
    message = f"name must hold letters, digits, '_', '-' and '.' only, got '{name}'"
    with pytest.raises(ValueError, match=message):
        register_family(name, Navigation2D, description="my own", variants=["maml17"])
    assert name not in FAMILIES


def test_the_family_is_an_attribute():
    assert navigation().family.id == make_family("Navigation2D:maml17").id
