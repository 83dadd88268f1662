"""Collecting episodes from a batch whose episodes end at known, different steps."""

from dataclasses import fields
from typing import ClassVar

import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from torch import Tensor

from metarl.rollouts.episodes import Episodes, collect
from metarl.tasks.family import Step
from metarl.tasks.spaces import Tasks

LENGTHS = torch.tensor([[1, 3], [5, 2]])  # steps of each episode, [tasks, envs]
TERMINATED = torch.tensor([[True, True], [False, True]])  # the last one is cut at the horizon


class Countdown:
    """Observes (task, env, time); reward 100 task + 10 env + time, arbitrary after the end."""

    autoreset_mode: ClassVar[AutoresetMode] = AutoresetMode.DISABLED
    num_tasks, num_envs, horizon = 2, 2, 5
    observation_space = spaces.Box(0, 10, (3,))
    action_space = spaces.Box(-1000, 1000, (1,))

    def __init__(self, nonsense: float = float("nan"), *, succeeds_at: int = 0) -> None:
        self.nonsense, self.succeeds_at = nonsense, succeeds_at
        self.reset_with: list[torch.Generator] = []
        self.actions: list[Tensor] = []
        self.rewards_at: dict[tuple[int, int, int], float] = {}

    def reset(self, generator: torch.Generator, env_mask: Tensor | None = None) -> Tensor:
        assert env_mask is None
        self.reset_with.append(generator)
        self.time = 0
        return self._observations()

    def step(self, actions: Tensor) -> Step:
        self.actions.append(actions)
        self.time += 1
        tasks, envs, _ = self._observations().unbind(-1)
        rewards = 100 * tasks + 10 * envs + self.time
        for (task, env, step), reward in self.rewards_at.items():
            if step == self.time - 1:
                rewards[task, env] = reward
        rewards[self.time > LENGTHS] = self.nonsense
        over = self.time >= LENGTHS  # stays true after the end
        cut = torch.full_like(over, self.time >= self.horizon)
        success = torch.full_like(over, self.time == self.succeeds_at) if self.succeeds_at else None
        return Step(self._observations(), rewards, over & TERMINATED, cut, success)

    def set_tasks(self, tasks: Tasks) -> None:  # noqa: ARG002
        raise AssertionError("episodes are of the tasks there are")

    def oracle_actions(self) -> Tensor | None:
        return None

    def close(self) -> None:
        """Nothing to free."""

    def _observations(self) -> Tensor:
        tasks, envs = torch.meshgrid(torch.arange(2), torch.arange(2), indexing="ij")
        time = torch.full_like(tasks, self.time)
        return torch.stack([tasks, envs, time], -1).double()


def actor(observations: Tensor) -> Tensor:
    """An action that encodes its observation: 100 task + 10 env + time."""
    return (observations * torch.tensor([100.0, 10.0, 1.0])).sum(-1, keepdim=True)


def episodes(env: Countdown | None = None) -> Episodes:
    return collect(env or Countdown(), actor, torch.Generator())


def test_the_mask_is_true_until_and_including_the_last_step_of_each_episode():
    assert episodes().mask.tolist() == [
        [[True, False, False, False, False], [True, True, True, False, False]],
        [[True, True, True, True, True], [True, True, False, False, False]],
    ]


def test_rewards_follow_their_actions_and_are_zero_after_the_end():
    assert episodes().rewards.tolist() == [
        [[1, 0, 0, 0, 0], [11, 12, 13, 0, 0]],
        [[101, 102, 103, 104, 105], [111, 112, 0, 0, 0]],
    ]


def test_each_episode_ends_once_by_termination_or_truncation():
    got = episodes()
    assert got.terminated.nonzero().tolist() == [[0, 0, 0], [0, 1, 2], [1, 1, 1]]
    assert got.truncated.nonzero().tolist() == [[1, 0, 4]]


def test_returns_and_counts_exclude_steps_after_the_end():
    got = episodes()
    assert got.returns.tolist() == [[1, 36], [515, 223]]
    assert got.num_steps == 11


def test_the_action_at_t_follows_the_observation_at_t():
    got = episodes()
    assert got.observations.shape == (2, 2, 6, 3)
    assert got.observations[..., 2].tolist() == [[[0, 1, 2, 3, 4, 5]] * 2] * 2
    assert got.observations[1, 0, 0].tolist() == [1, 0, 0]
    assert got.actions.shape == (2, 2, 5, 1)
    expected = actor(got.observations[:, :, :-1].flatten(0, 1)).view(2, 2, 5, 1)
    assert torch.equal(got.actions, expected)


def test_the_environment_gets_the_generator_and_the_actions_of_the_actor():
    env, generator = Countdown(), torch.Generator()
    got = collect(env, actor, generator)
    assert env.reset_with == [generator]
    assert torch.equal(torch.stack(env.actions, 2), got.actions)


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), 1e6])
def test_steps_after_the_end_have_no_effect(nonsense):
    clean, got = episodes(Countdown(nonsense=0.0)), episodes(Countdown(nonsense))
    assert torch.equal(got.rewards, clean.rewards)
    assert torch.equal(got.returns, clean.returns)
    assert got.num_steps == clean.num_steps


@pytest.mark.parametrize(
    ("reward", "shown"), [(float("nan"), "nan"), (float("inf"), "inf"), (-float("inf"), "-inf")]
)
def test_a_reward_that_is_not_finite_names_its_task_environment_and_step(reward, shown):
    env = Countdown()
    env.rewards_at = {(1, 0, 3): reward, (1, 1, 1): 0.5}
    message = f"rewards must be finite, got {shown} from task 1, environment 0, step 3"
    with pytest.raises(ValueError, match=message):
        episodes(env)


def test_a_bad_reward_of_the_last_step_of_an_episode_counts():
    env = Countdown()
    env.rewards_at = {(0, 1, 2): float("nan")}
    with pytest.raises(ValueError, match="task 0, environment 1, step 2"):
        episodes(env)


class Misshapen(Countdown):
    """One of its tensors has an axis too many."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def step(self, actions: Tensor) -> Step:
        step = super().step(actions)
        return step._replace(**{self.name: getattr(step, self.name).unsqueeze(0)})


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("observations", r"\[2, 2, 3\], got \[1, 2, 2, 3\]"),
        ("rewards", r"\[2, 2\], got \[1, 2, 2\]"),
    ],
)
def test_observations_and_rewards_of_another_shape_are_rejected(name, shapes):
    with pytest.raises(ValueError, match=f"^{name} of the environment must have shape {shapes}$"):
        episodes(Misshapen(name))


def test_an_observation_that_is_not_finite_names_its_environment(monkeypatch):
    observe = Countdown._observations

    def spoiled(env: Countdown) -> Tensor:
        observations = observe(env)
        if env.time == 4:
            observations[1, 0, 2] = float("-inf")
        return observations

    monkeypatch.setattr(Countdown, "_observations", spoiled)
    message = "observations must be finite, got -inf from task 1, environment 0, step 4"
    with pytest.raises(ValueError, match=f"^{message}$"):
        episodes()


def test_an_observation_that_is_not_finite_names_its_task_environment_and_step(monkeypatch):
    def observations(env: Countdown) -> Tensor:
        seen = torch.zeros(2, 2, 3)
        if env.time == 2:
            seen[1, 0, 1] = float("inf")
        return seen

    monkeypatch.setattr(Countdown, "_observations", observations)
    message = "observations must be finite, got inf from task 1, environment 0, step 2"
    with pytest.raises(FloatingPointError, match=message):
        episodes(Countdown(nonsense=0.0))


@pytest.mark.parametrize(
    ("shape", "at", "name", "needed"),
    [
        ((2, 2, 4), 0, "observations", r"\[2, 2, 3\]"),
        ((2, 1, 3), 1, "observations", r"\[2, 2, 3\]"),
    ],
)
def test_observations_of_another_shape_are_rejected(monkeypatch, shape, at, name, needed):
    def observations(env: Countdown) -> Tensor:
        return torch.zeros(shape if env.time == at else (2, 2, 3))

    monkeypatch.setattr(Countdown, "_observations", observations)
    monkeypatch.setattr(Countdown, "step", lambda env, _: advanced(env))
    message = rf"{name} of the environment must have shape {needed}, got"
    with pytest.raises(ValueError, match=message):
        episodes(Countdown())


def advanced(env: Countdown) -> Step:
    env.time += 1
    never = torch.zeros(2, 2, dtype=torch.bool)
    return Step(env._observations(), torch.zeros(2, 2), never, never)


def test_rewards_that_would_be_broadcast_over_environments_are_rejected(monkeypatch):
    step = Countdown.step

    def one_reward_per_task(env: Countdown, actions: Tensor) -> Step:
        whole = step(env, actions)
        return whole._replace(rewards=whole.rewards[:, :1])

    monkeypatch.setattr(Countdown, "step", one_reward_per_task)
    message = r"rewards of the environment must have shape \[2, 2\], got \[2, 1\]"
    with pytest.raises(ValueError, match=message):
        episodes(Countdown())


def test_a_batch_may_be_used_again():
    env = Countdown()
    first, second = episodes(env), episodes(env)
    assert torch.equal(first.rewards, second.rewards)
    assert torch.equal(first.observations, second.observations)


class Choosing(Countdown):
    """One of three actions."""

    action_space = spaces.Discrete(3)


def test_discrete_actions_keep_their_type_and_have_no_action_axis():
    got = collect(Choosing(), lambda o: o[..., 2].long() % 3, torch.Generator())
    assert got.actions.dtype == torch.int64
    assert got.actions.tolist() == [[[0, 1, 2, 0, 1]] * 2] * 2


@pytest.mark.parametrize("shape", [(2, 2, 2), (2, 2), (1,), (2, 1, 1)])
def test_actions_of_another_shape_are_rejected(shape):
    """Environments take some of them by broadcasting."""
    with pytest.raises(ValueError, match=r"actions must have shape \[2, 2, 1\], got \["):
        collect(Countdown(), lambda _: torch.zeros(shape), torch.Generator())


def test_success_is_kept_where_the_family_defines_it_and_ends_with_the_episode():
    got = episodes(Countdown(succeeds_at=2))
    assert got.success.nonzero().tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 1]]  # not [0, 0]
    assert got.success.dtype == torch.bool


def test_without_success_there_is_none():
    assert episodes().success is None
    assert episodes().first_envs(1).success is None


def test_the_dtype_of_the_environment_is_kept():
    assert episodes().rewards.dtype == torch.float64
    assert episodes().observations.dtype == torch.float64


def test_the_first_environments_of_each_task_are_views_of_all_fields():
    got = episodes(Countdown(succeeds_at=2))
    part = got.first_envs(1)
    assert part.returns.tolist() == [[1], [515]]
    assert part.num_steps == 6
    for field in fields(got):
        whole, view = getattr(got, field.name), getattr(part, field.name)
        assert torch.equal(view, whole[:, :1])
        assert view.data_ptr() == whole.data_ptr()


class Lengthy(Countdown):
    """The same episodes under another horizon, which only the environments with long episodes
    reach."""

    def __init__(self, horizon: int, longest: int = 5) -> None:
        super().__init__()
        self.horizon, self.longest = horizon, longest

    def step(self, actions: Tensor) -> Step:
        step = super().step(actions)
        return step._replace(terminated=step.terminated | (self.time >= self.longest))


@pytest.mark.parametrize("longest", [5, 63, 64, 65, 200])
def test_collection_stops_with_the_longest_episode(longest, monkeypatch):
    monkeypatch.setitem(globals(), "LENGTHS", torch.tensor([[1, 3], [longest, 2]]))
    env = Lengthy(10_000, longest)
    got = episodes(env)
    assert env.time == longest
    assert got.rewards.shape == (2, 2, longest)
    assert got.observations.shape == (2, 2, longest + 1, 3)
    assert all(part.is_contiguous() for part in (got.observations, got.actions, got.rewards))
    assert got.mask[1, 0].all()
    assert got.observations[1, 0, :, 2].tolist() == list(range(longest + 1))
    assert got.rewards[1, 0].tolist() == [100 + t for t in range(1, longest + 1)]


def test_episodes_and_random_numbers_do_not_depend_on_the_horizon():
    def collected(horizon: int) -> tuple[Episodes, Tensor]:
        noise = torch.Generator().manual_seed(0)

        def noisy(observations: Tensor) -> Tensor:
            return actor(observations) + torch.randn(2, 2, 1, generator=noise)

        found = collect(Lengthy(horizon), noisy, torch.Generator())
        return found, torch.rand(3, generator=noise)

    (short, after_short), (long, after_long) = collected(6), collected(1000)
    assert torch.equal(after_short, after_long)
    for field in fields(short):
        one, other = getattr(short, field.name), getattr(long, field.name)
        assert one is other is None or torch.equal(one, other)
