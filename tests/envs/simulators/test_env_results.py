"""Results of environments by others: converted if the meaning is clear, else one sentence."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from metarl.envs.simulators.env_results import (
    EnvResultError,
    ObservationReader,
    read_image,
    read_step,
    read_success,
    reset,
)
from metarl.envs.simulators.gymnasium_family import GymnasiumFamily
from metarl.envs.simulators.worker_pool import WorkerError

SPACES = {
    "box": spaces.Box(-1, 1, (3,), np.float32),
    "scalar box": spaces.Box(0, 1, ()),
    "image": spaces.Box(0, 255, (4, 2, 3), np.uint8),
    "discrete from −1": spaces.Discrete(3, start=-1),
    "multi-binary": spaces.MultiBinary([2, 2]),
    "multi-discrete": spaces.MultiDiscrete([2, 4], start=[1, -2]),
    "nested": spaces.Dict(
        b=spaces.Tuple((spaces.Discrete(3), spaces.Box(0, 1, (2, 2)))), a=spaces.MultiBinary(2)
    ),
    "text": spaces.Text(4, charset="ab"),
    "one of": spaces.OneOf((spaces.Discrete(2), spaces.Box(0, 1, (2,)))),
}


@pytest.mark.parametrize("name", SPACES)
def test_observations_are_flattened_as_gymnasium_does(name):
    space = SPACES[name]
    space.seed(0)
    reader = ObservationReader(space)
    for _ in range(5):
        point = space.sample()
        row = np.full(reader.size, np.nan, np.float32)
        reader.write(point, row)
        assert np.array_equal(row, np.asarray(spaces.flatten(space, point), np.float32))


@pytest.mark.parametrize(
    "observation",
    [[0.5, 0, 1], (0.5, 0.0, 1.0), np.array([0.5, 0, 1]), torch.tensor([0.5, 0, 1])],
    ids=["list", "tuple", "float64", "torch"],
)
def test_arrays_of_other_kinds_are_converted(observation):
    row = np.empty(3, np.float32)
    ObservationReader(SPACES["box"]).write(observation, row)
    assert row.tolist() == [0.5, 0, 1]


@pytest.mark.parametrize(
    ("name", "observation", "message"),
    [
        ("box", np.zeros(1), r"observations must have shape \(3,\) as in their space, got \(1,\)"),
        ("box", "text", "observations must have shape .* got 'text'"),
        ("box", None, "observations must have shape .* got None"),
        ("box", {"x": 1}, "observations must have shape .* got {'x': 1}"),
        ("box", np.array([1, None, 2]), "observations must be numbers, got array"),
        ("box", torch.zeros(3, requires_grad=True), "observations must be an array, got tensor"),
        ("box", [[1], [1, 2], [3]], "observations must be an array, got "),
        ("image", np.zeros((3, 4, 2), np.uint8), r"must have shape \(4, 2, 3\) .* got \(3, 4, 2\)"),
        ("discrete from −1", 2, r"observations must lie in Discrete\(3, start=-1\), got 2"),
        ("discrete from −1", 0.0, "observations must be integers, got array"),
        ("multi-discrete", [1, 7], r"observations must lie in MultiDiscrete.*, got \[1, 7\]"),
        ("nested", {"a": [0, 1]}, r"observations must contain 'b' as in their space, got {'a'"),
        (
            "nested",
            {"a": [0, 1], "b": [2]},
            r"observations\['b'\] must contain 1 as in their space, got \[2\]",
        ),
        (
            "nested",
            {"a": [0, 1], "b": [9, np.zeros((2, 2))]},
            r"observations\['b'\]\[0\] must lie in Discrete\(3\), got 9",
        ),
        ("text", 3, r"observations must lie in Text.*, got 3"),
    ],
)
def test_an_observation_that_does_not_fit_is_named(name, observation, message):
    reader = ObservationReader(SPACES[name])
    with pytest.raises(EnvResultError, match=message):
        reader.write(observation, np.empty(reader.size, np.float32))


@pytest.mark.parametrize(
    "reward",
    [1, 1.0, np.float32(1), np.int64(1), np.array([1.0]), np.array([[1]]), torch.tensor(1.0), True],
    ids=repr,
)
def test_rewards_of_one_number_are_converted(reward):
    step = read_step((0, reward, False, np.bool_(True), {}))
    assert step == (0, 1.0, False, True, {})
    assert [type(part) for part in step[1:4]] == [float, bool, bool]


def test_steps_of_the_old_interface_are_converted_as_gymnasium_does():
    assert read_step((0, 1.0, True, {})) == (0, 1.0, True, False, {})
    assert read_step([0, 1.0, np.array([False]), {}])[2:4] == (False, False)
    info = {"TimeLimit.truncated": True}
    assert read_step((0, 1.0, True, info))[2:4] == (False, True)
    assert info == {"TimeLimit.truncated": True}  # left as it was


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, r"step must return \(observation, reward, .*, info\), got None"),
        ((0, 1.0, True, None), "step must return .*, got "),
        ((0, 1.0, False, False, {}, 1), "step must return .*, got "),
        ((0, None, False, False, {}), "reward must be a number, got None"),
        ((0, "1", False, False, {}), "reward must be a number, got '1'"),
        ((0, 1j, False, False, {}), "reward must be a number, got 1j"),
        ((0, np.zeros(3), False, False, {}), "reward must be a number, got array"),
        ((0, 1.0, None, False, {}), "terminated must be True or False, got None"),
        ((0, 1.0, False, "False", {}), "truncated must be True or False, got 'False'"),
        ((0, 1.0, np.zeros(3, bool), False, {}), "terminated must be True or False, got array"),
        ((0, 1.0, 2, False, {}), "terminated must be True or False, got 2"),
    ],
)
def test_a_step_that_does_not_fit_is_named(result, message):
    with pytest.raises(EnvResultError, match=message):
        read_step(result)


def test_success_is_read_from_the_info():
    assert read_success({"success": 1.0}) is True
    assert read_success({"success": np.array([False])}) is False
    for info in (None, {}, {"success": None}):
        with pytest.raises(EnvResultError, match=r"'success'"):
            read_success(info)


def test_an_image_is_checked():
    assert read_image(np.ones((2, 3, 3), np.uint8)).shape == (2, 3, 3)
    for image in (None, np.ones((2, 3)), np.ones((2, 3, 4), np.uint8), np.ones((2, 3, 3))):
        with pytest.raises(EnvResultError, match="render must return a uint8 image"):
            read_image(image)


class Walk(gymnasium.Env):
    """An environment whose methods return what the test chooses."""

    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    start: Any = (np.zeros(2), {})
    result: Any = (np.zeros(2), 0.0, False, False, {})

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):  # noqa: ARG002
        return self.start

    def step(self, action):  # noqa: ARG002
        return self.result

    def render(self):
        raise OSError("no display")


class Unseeded(Walk):
    def reset(self):
        return self.start


def test_a_reset_of_the_old_interface_is_one_sentence_with_the_remedy():
    env = Walk()
    assert reset(env, 1) is Walk.start[0]
    for start in (None, np.zeros(2), (1.0, 2.0), (0, 1, 2)):
        env.start = start
        with pytest.raises(EnvResultError, match=r"reset must return .* got .* GymV21Comp"):
            reset(env, 1)
    with pytest.raises(EnvResultError, match=r"reset must accept seed and options.*GymV21Comp"):
        reset(Unseeded(), 1)


def test_an_unrelated_type_error_of_a_reset_is_left_as_it_is():
    class Faulty(Walk):
        def reset(self, *, seed=None, options=None):  # noqa: ARG002
            return len(5)

    with pytest.raises(TypeError, match="has no len"):
        reset(Faulty(), 1)


class Walks(GymnasiumFamily):
    name, variants = "Walks", ("a",)
    task_space = spaces.Box(0, 1, (1,), np.float64)
    task_description = observation_description = source = "a test"
    horizon, num_workers = 4, 0

    def make_env(self, task):  # noqa: ARG002
        return Walk("rgb_array")

    def apply_task(self, env, task):
        env.result = (np.array([0, task[0]]), *Walk.result[1:])


def test_numbers_beyond_float32_become_infinite_without_a_warning():
    class Huge(Walks):
        def apply_task(self, env, task):  # noqa: ARG002
            env.result = (np.array([1e300, np.nan]), -1e300, False, False, {})

    batch = Huge("a").make_batch([[0.2]], num_envs=1)
    batch.reset(torch.Generator())
    step = batch.step(torch.zeros(1, 1, dtype=torch.int64))
    assert step.observations[0, 0, 0] == np.inf
    assert step.observations.isnan()[0, 0, 1]
    assert step.rewards.tolist() == [[-np.inf]]


def test_a_result_of_a_wrong_form_is_one_line_with_its_environment():
    class Old(Walks):
        def apply_task(self, env, task):
            env.result = (np.zeros(2), None if task[0] > 0.5 else 0.0, False, False, {})

    batch = Old("a").make_batch([[0.2], [0.8]], num_envs=2)
    batch.reset(torch.Generator())
    message = (
        r"^this process failed while stepping, in environment 0 of task 1 \(values \[0.8\]\): "
        r"reward must be a number, got None$"
    )
    with pytest.raises(WorkerError, match=message):
        batch.step(torch.zeros(2, 2, dtype=torch.int64))


def test_an_environment_that_fails_to_render_says_why_and_lives_on():
    batch = Walks("a").make_batch([[0.2]], num_envs=1)
    batch.reset(torch.Generator())
    message = "Walks:a cannot render images: render failed with OSError: no display"
    with pytest.raises(NotImplementedError, match=message):
        batch.render(0, 0)
    assert batch.step(torch.zeros(1, 1, dtype=torch.int64)).observations[0, 0, 1] == np.float32(0.2)


class NoMode(Walk):
    """Its metadata offer images, but its constructor takes no render_mode."""

    def __init__(self) -> None:
        super().__init__()


def test_a_constructor_without_render_mode_works_without_images():
    gymnasium.register("NoMode-v0", NoMode)
    try:

        class Modeless(Walks):
            env_id = "NoMode-v0"

            def make_env(self, task):
                return GymnasiumFamily.make_env(self, task)

        batch = Modeless("a").make_batch([[0.2]], num_envs=1)
        batch.reset(torch.Generator())
        with pytest.raises(NotImplementedError, match="not created with render_mode='rgb_array'"):
            batch.render(0, 0)
    finally:
        del gymnasium.registry["NoMode-v0"]


def test_only_whole_numbers_from_0_to_255_become_bytes():
    reader, row = ObservationReader(spaces.Box(0, 255, (2,), np.uint8)), np.zeros(2, np.uint8)
    reader.write(np.array([3.0, 255.0]), row)
    assert row.tolist() == [3, 255]
    for value in (-1, 256, 0.5):
        with pytest.raises(EnvResultError, match=f"numbers from 0 to 255, got {value}"):
            reader.write(np.array([1, value]), row)
