"""Families on Gymnasium environments: what is taken from the environment, and errors."""

import pickle
import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from metarl.envs.simulators.gymnasium_family import GymnasiumFamily


class Masses(GymnasiumFamily):
    """The example of the documentation."""

    name = "Masses"
    variants = ("wide", "narrow")
    env_id = "Pendulum-v1"
    task_space = spaces.Box(0.2, 5.0, (1,), np.float64)
    task_description = "mass U(.2, 5) kg"
    observation_description = "cosine and sine of the angle, velocity"
    source = "this test"
    num_workers = 0

    def apply_task(self, env, task):
        env.unwrapped.m = float(task[0])


class Mission(gymnasium.Space):
    """A text space that Gymnasium cannot flatten, as in MiniGrid."""

    @property
    def is_np_flattenable(self) -> bool:
        return True


class AnySpaces(gymnasium.Env):
    """An environment with any spaces, whose observations are samples of its space."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, seen: gymnasium.Space, done: gymnasium.Space | None = None) -> None:
        self.observation_space = seen
        self.action_space = spaces.Discrete(3, start=1) if done is None else done

    def reset(self, *, seed=None, options=None):  # noqa: ARG002
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.shown = [self.observation_space.sample()]
        return self.shown[-1], {}

    def step(self, action):
        self.action = action
        self.shown.append(self.observation_space.sample())
        return self.shown[-1], float(np.sum(action)), False, False, {}


def any_spaces(seen: gymnasium.Space, done: gymnasium.Space | None = None) -> GymnasiumFamily:
    class Family(Masses):
        horizon = 3

        def make_env(self, task):
            del task
            self.made = [*getattr(self, "made", []), AnySpaces(seen, done)]
            return self.made[-1]

        def apply_task(self, env, task):
            """Tasks change nothing here."""

    return Family("wide")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_spaces_and_horizon_are_taken_from_the_environment():
    family, env = Masses("narrow"), gymnasium.make("Pendulum-v1")
    assert family.observation_space == env.observation_space
    assert family.action_space == env.action_space
    assert (family.horizon, family.id) == (200, "Masses:narrow")
    assert family.description.startswith("mass U(.2, 5) kg; 200 steps; observes cosine")


def test_tasks_are_uniform_over_the_task_space_and_reproducible():
    family = Masses("wide")
    tasks = family.sample_tasks(2000, seed=3)
    assert np.array_equal(tasks, family.sample_tasks(2000, seed=3))
    assert tasks.min() == pytest.approx(0.2, abs=0.02)
    assert tasks.max() == pytest.approx(5.0, abs=0.02)
    assert tasks.mean() == pytest.approx(2.6, abs=0.1)
    assert not np.array_equal(tasks, family.sample_tasks(2000, split="test", seed=3))


def test_episodes_equal_those_of_gymnasium_make_with_all_wrappers():
    family = Masses("wide")
    batch = family.make_batch([[0.7], [3.0]], num_envs=1)
    now = batch.reset(generator())
    seeds = torch.randint(2**31, (2,), generator=generator()).tolist()
    references = [gymnasium.make("Pendulum-v1") for _ in seeds]
    for env, mass, seed, seen in zip(references, (0.7, 3.0), seeds, now[:, 0], strict=True):
        env.unwrapped.m = mass
        assert np.array_equal(env.reset(seed=seed)[0], seen.numpy())
    source = generator(1)
    for _ in range(200):
        actions = 4 * torch.rand(2, 1, 1, generator=source) - 2
        step = batch.step(actions)
        for k, env in enumerate(references):
            seen, reward, terminated, truncated, _ = env.step(actions[k, 0].numpy())
            assert np.array_equal(seen, step.observations[k, 0].numpy())
            assert np.float32(reward) == step.rewards[k, 0].numpy()
            assert (terminated, truncated) == (bool(step.terminated[k]), bool(step.truncated[k]))
    assert step.success is None


def test_actions_are_clipped_to_the_action_space():
    batches = [Masses("wide").make_batch([[1.0]], num_envs=1) for _ in range(2)]
    for batch in batches:
        batch.reset(generator())
    far, edge = (b.step(torch.full((1, 1, 1), a)) for b, a in zip(batches, (9.0, 2.0), strict=True))
    assert torch.equal(far.rewards, edge.rewards)


def test_other_wrappers_than_gymnasiums_defaults_are_kept():
    spec = gymnasium.spec("Pendulum-v1")
    wrapper = gymnasium.wrappers.ClipReward(gymnasium.make("Pendulum-v1"), -1.0, 1.0).spec
    gymnasium.register(
        "Clipped-v0",
        spec.entry_point,
        max_episode_steps=17,
        additional_wrappers=wrapper.additional_wrappers,
    )

    class Clipped(Masses):
        env_id = "Clipped-v0"
        env_kwargs = {"g": 5.0}  # noqa: RUF012

    try:
        family = Clipped("wide")
    finally:
        del gymnasium.registry["Clipped-v0"]
    assert family.horizon == 17
    env = family.make_env(np.ones(1))  # as in a worker, where it is not registered
    assert type(env) is gymnasium.wrappers.ClipReward
    assert type(env.env) is type(env.unwrapped)
    assert env.unwrapped.g == 5.0


def test_a_horizon_set_by_the_family_replaces_the_environments_limit():
    class Longer(Masses):
        horizon = 202

    batch = Longer("wide").make_batch([[1.0]], num_envs=1)
    batch.reset(generator())
    ends = [bool(batch.step(torch.zeros(1, 1, 1)).truncated) for _ in range(203)]
    assert ends == [False] * 201 + [True] * 2


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(4, start=2),
        spaces.MultiBinary(3),
        spaces.Box(-1, 1, (2, 3), np.float64),
        spaces.Box(0, 255, (2, 2, 3), np.uint8),
        spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Box(-2, 2, (2,), np.float32)}),
    ],
    ids=lambda space: type(space).__name__,
)
def test_observations_of_any_fixed_size_are_flattened_with_one_hot_discrete_parts(space):
    family = any_spaces(space)
    assert family.observation_space.dtype == np.float32
    batch = family.make_batch([[1.0]], num_envs=1)
    seen = [batch.reset(generator()), batch.step(torch.ones(1, 1)).observations]
    shown = family.made[-1].shown
    for tensor, point in zip(seen, shown, strict=True):
        expected = np.asarray(spaces.flatten(space, point), np.float32)
        assert np.array_equal(tensor[0, 0].numpy(), expected)
        assert family.observation_space.contains(tensor[0, 0].numpy())


def test_discrete_actions_reach_the_environment_unchanged():
    family = any_spaces(spaces.Box(-1, 1, (2,), np.float32))
    batch = family.make_batch([[1.0]], num_envs=2)
    batch.reset(generator())
    assert batch.step(torch.tensor([[1, 3]])).rewards.tolist() == [[1, 3]]
    assert [int(env.action) for env in family.made[-2:]] == [1, 3]


def test_an_environment_that_keeps_its_action_keeps_it_unchanged():
    family = any_spaces(spaces.Box(-1, 1, (2,)), spaces.Box(-5, 5, (2,)))
    batch = family.make_batch([[1.0]], num_envs=1)
    batch.reset(generator())
    batch.step(torch.tensor([[[1.0, 2.0]]]))
    kept = family.made[-1].action
    batch.step(torch.tensor([[[3.0, 4.0]]]))
    assert kept.tolist() == [1.0, 2.0]


def test_the_family_survives_pickling():
    family = Masses("narrow")
    copied = pickle.loads(pickle.dumps(family))
    assert copied.description == family.description
    first, second = (f.make_batch([[0.7]], num_envs=3).reset(generator()) for f in (family, copied))
    assert torch.equal(first, second)


def test_the_error_states_why_there_is_no_image(monkeypatch):
    batch = any_spaces(spaces.Discrete(2)).make_batch([[1.0]], num_envs=1)
    batch.reset(generator())
    with pytest.raises(
        NotImplementedError, match="Masses:wide cannot render images: its environment"
    ):
        batch.render(0, 0)
    batch = Masses("wide").make_batch([[1.0]], num_envs=1)
    batch.reset(generator())
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(
        NotImplementedError, match=r"cannot render images: .*pygame is not installed"
    ):
        batch.render(0, 0)
    batch.step(torch.zeros(1, 1, 1))  # the batch still works


def test_it_has_no_oracle_unless_the_family_defines_one():
    batch = Masses("wide").make_batch([[1.0]], num_envs=1)
    with pytest.raises(RuntimeError, match="must be reset"):
        batch.oracle_actions()
    batch.reset(generator())
    assert batch.oracle_actions() is None


def bare_family(*, without: str, **parts: Any) -> type[GymnasiumFamily]:
    """A family that lacks one thing."""
    whole = {
        "name": "Bare", "variants": ("wide",), "env_id": "Pendulum-v1", "source": "this test",
        "task_space": spaces.Box(0, 1, (1,)), "task_description": "a mass",
        "observation_description": "an angle", "apply_task": lambda *_: None,
    }  # fmt: skip
    kept = {name: part for name, part in whole.items() if name != without}
    return type("Bare", (GymnasiumFamily,), kept | parts)


def test_missing_or_invalid_attributes_of_a_family_are_one_sentence():
    class Unfinished(GymnasiumFamily):
        name, variants, env_id = "Unfinished", ("a",), "Pendulum-v1"
        task_description = "a mass"

        def apply_task(self, env, task):
            """Not reached."""

    class Limitless(Masses):
        env_id = "Limitless-v0"

    for attribute, word in (("name", "must set name"), ("variants", "must set variants")):
        with pytest.raises(TypeError, match=f"Bare {word}"):
            bare_family(without=attribute)("wide")
    with pytest.raises(TypeError, match="Bare must set env_id or override make_env"):
        bare_family(without="env_id")("wide")
    with pytest.raises(TypeError, match="Bare must set horizon because it has no env_id"):
        bare_family(without="env_id", make_env=lambda *_: None)("wide")
    with pytest.raises(TypeError, match="Unfinished must set task_space, observation_description"):
        Unfinished("a")
    with pytest.raises(ValueError, match=r"variant of Masses must be one of .* did you mean 'wide"):
        Masses("wid")
    gymnasium.register("Limitless-v0", gymnasium.spec("Pendulum-v1").entry_point)
    try:
        with pytest.raises(ValueError, match="horizon must be set: Limitless-v0 is registered"):
            Limitless("wide")
    finally:
        del gymnasium.registry["Limitless-v0"]
    with pytest.raises(
        ValueError, match="observation_space must flatten to a fixed number of numbers, got"
    ):
        any_spaces(spaces.Sequence(spaces.Discrete(2)))
    text = spaces.Dict(image=spaces.Box(0, 1, (2,)), mission=Mission())
    with pytest.raises(
        ValueError, match=r"got Dict\(.* use its numeric part with observation_keys ="
    ):
        any_spaces(text)
    with pytest.raises(ValueError, match=r"^actions must be built from Box, Discrete, .* got Text"):
        any_spaces(spaces.Discrete(2), spaces.Text(3))


def test_environments_of_other_observations_than_the_familys_are_rejected():
    family = any_spaces(spaces.Discrete(2))
    family.observation_space = spaces.Box(0, 1, (3,), np.float32)
    with pytest.raises(RuntimeError, match="observations of all tasks must have 3 numbers, got 2"):
        family.make_batch([[1.0]], num_envs=1)
    family = any_spaces(spaces.Box(-1, 1, (2,)))
    batch = family.make_batch([[1.0]], num_envs=1)
    env = family.made[-1]
    env.observation_space.sample = lambda: np.zeros(1)  # would be spread over both numbers
    with pytest.raises(RuntimeError, match=r"must have shape \(2,\) as in their space, got \(1,\)"):
        batch.reset(generator())


INTERACTIVE = """
import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control import PendulumEnv
from metarl.envs import GymnasiumFamily
from metarl.envs.classic_control import PendulumMass
from metarl.envs.simulators import worker_batch

worker_batch.usable_cores = lambda: 2


class Masses(GymnasiumFamily):
    name = "Masses"
    variants = ("wide",)
    env_id = "Pendulum-v1"
    task_space = spaces.Box(0.2, 5.0, (1,), np.float64)
    task_description = observation_description = source = "a test"

    def apply_task(self, env, task):
        env.unwrapped.m = float(task[0])


class OwnPendulum(PendulumEnv):
    pass


family = Masses("wide")
batch = family.make_batch(family.sample_tasks(4, seed=0), num_envs=4)
print(batch.num_workers)
batch.close()
gymnasium.register("Own-v0", OwnPendulum, max_episode_steps=5)
other = PendulumMass.__new__(PendulumMass)
other.env_id = "Own-v0"
other.__init__("rllib")
batch = other.make_batch(other.sample_tasks(4, seed=0), num_envs=4)
print(batch.num_workers)
batch.close()
family.num_workers = 2
try:
    family.make_batch(family.sample_tasks(4, seed=0), num_envs=4)
except ValueError as error:
    print(error)
"""


def test_a_family_of_a_notebook_is_stepped_in_its_process_and_workers_are_rejected():
    done = subprocess.run(
        [sys.executable, "-c", INTERACTIVE], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "0",
        "0",
        "num_workers must be 0 for Masses, which is defined in a notebook or on the command line, "
        "got 2: worker processes can import classes only from modules, so move it to a module",
    ]


def test_a_family_of_a_script_has_workers(tmp_path):
    script = tmp_path / "script.py"
    body = INTERACTIVE.partition("family = ")
    guarded = "".join(f"    {line}\n" for line in (body[1] + body[2]).splitlines())
    script.write_text(f"{body[0]}if __name__ == '__main__':\n{guarded}")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["2", "2"]


UNGUARDED = """
import metarl
from metarl.envs import make_family
print("script")
family = make_family("CartPoleMass:rllib")
family.num_workers = 2
batch = family.make_batch(family.sample_tasks(4, seed=0), num_envs=1)
print(batch.num_workers)
batch.close()
"""


def test_workers_do_not_run_a_script_that_does_not_define_the_family(tmp_path):
    (tmp_path / "script.py").write_text(UNGUARDED)
    command = [sys.executable, tmp_path / "script.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["script", "2"]


def test_an_id_that_gymnasium_does_not_know_is_named():
    class Unknown(Masses):
        env_id = "Pendulun-v1"

    with pytest.raises(ValueError, match="env_id must be an id of Gymnasium, got 'Pendulun-v1'"):
        Unknown("wide")


class Shrinking(gymnasium.Env):
    """Observes three numbers at first, and one after each step."""

    observation_space = spaces.Box(-1, 1, (3,))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed, options=options)
        return np.zeros(3, np.float32), {}

    def step(self, action):
        del action
        return np.ones(1, np.float32), 0.0, False, False, {}


def test_an_observation_of_another_shape_is_rejected_after_a_step_as_after_a_reset():
    class Family(Masses):
        horizon = 3

        def make_env(self, task):
            del task
            return Shrinking()

        def apply_task(self, env, task):
            """All tasks are the same."""

    batch = Family("wide").make_batch([[1.0]], num_envs=1)
    batch.reset(torch.Generator().manual_seed(0))
    message = r"observations must have shape \(3,\) as in their space, got \(1,\)"
    with pytest.raises(RuntimeError, match=message):
        batch.step(torch.zeros(1, 1, dtype=torch.int64))
