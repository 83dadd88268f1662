"""Tensor families: what the batch does around a family's functions."""
# ruff: noqa: ARG002 - the family does not use all arguments

from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from torch import Tensor

from metarl.envs.simulators.tensor import TensorBatch, TensorFamily, Transition
from metarl.rollouts.episodes import collect
from metarl.tasks.family import RendersBatch, Step, uniform_tasks
from metarl.tasks.spaces import Tasks

TASKS = np.array([[1.0, 10.0], [2.0, 20.0]])


class Prepared(NamedTuple):
    """Of each task, the number it adds and the factor of its reward."""

    added: Tensor  # [N, 1, 1]
    factor: Tensor  # [N, 1]


class Sums(TensorFamily):
    """Adds action, task and noise to a number that starts at random; rewards the number.

    An episode terminates if the number is above 100, and is truncated after 4 steps.
    """

    name: ClassVar[str] = "Sums"
    variants: ClassVar[tuple[str, ...]] = ("plain",)
    variant, horizon = "plain", 4
    task_description, observation_description, source = "what is added", "the sum", "this test"
    task_space = spaces.Box(0.0, 100.0, (2,), np.float64)
    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, *, noise: float = 0.0, ends: bool = True) -> None:
        self.noise, self.ends, self.prepared = noise, ends, 0

    def prepare(self, tasks: Tensor) -> Prepared:
        assert tasks.dtype == torch.float32
        self.prepared += 1
        return Prepared(tasks[:, None, :1], tasks[:, 1:])

    def initial_states(
        self, parameters: Any, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        return torch.rand(*shape, 1, generator=generator)

    def transition(
        self, states: Tensor, actions: Tensor, parameters: Prepared, generator: torch.Generator
    ) -> Transition:
        noise = self.noise * torch.rand(states.shape, generator=generator)
        moved = states + actions + parameters.added + noise
        over = (moved > 100).squeeze(-1) if self.ends else None
        return Transition(moved, parameters.factor * moved.squeeze(-1), over)

    def best_actions(self, states: Tensor, parameters: Prepared, time: Tensor) -> Tensor:
        return states + parameters.added + 1000 * time.unsqueeze(-1)

    def render_state(self, state: Any, task: Any) -> Any:
        return np.array([[[state[0], task[0], task[1]]]])

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        return uniform_tasks(self.task_space, num_tasks, rng)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def begun(family: TensorFamily | None = None, num_envs: int = 3) -> TensorBatch:
    """A batch after its first reset."""
    batch = (family or Sums()).make_batch(TASKS, num_envs=num_envs)
    batch.reset(generator())
    return batch


def constant(value: float) -> Tensor:
    return torch.full((2, 3, 1), value)


def test_a_batch_has_the_family_s_spaces_and_horizon():
    batch = begun()
    assert (batch.num_tasks, batch.num_envs, batch.horizon) == (2, 3, 4)
    assert batch.observation_space == Sums.observation_space
    assert batch.action_space == Sums.action_space
    assert batch.autoreset_mode is AutoresetMode.DISABLED
    assert isinstance(batch, RendersBatch)


def test_a_step_returns_the_result_of_the_transition():
    batch = Sums().make_batch(TASKS, num_envs=3)
    start = batch.reset(generator())
    step = batch.step(constant(0.5))
    torch.testing.assert_close(step.observations[0], start[0] + 1.5)
    torch.testing.assert_close(step.observations[1], start[1] + 2.5)
    torch.testing.assert_close(step.rewards[0], 10 * (start[0, :, 0] + 1.5))
    torch.testing.assert_close(step.rewards[1], 20 * (start[1, :, 0] + 2.5))
    assert not step.terminated.any()
    assert step.success is None


def test_actions_reach_the_transition_unchanged():
    batch = Sums().make_batch(TASKS, num_envs=3)
    start = batch.reset(generator())
    step = batch.step(constant(7.0))  # beyond the action space: clipping is left to the family
    torch.testing.assert_close(step.observations[0], start[0] + 8)


def test_episodes_terminate_by_the_transition_and_are_truncated_at_the_horizon():
    batch = begun()
    actions = constant(0.0)
    actions[1, 2] = 60.0
    ends = [batch.step(actions) for _ in range(5)]
    terminated = torch.stack([step.terminated[1, 2] for step in ends])
    assert terminated.tolist() == [False, True, True, True, True]
    assert sum(int(step.terminated.sum()) for step in ends) == 4  # it alone
    assert [bool(step.truncated.all()) for step in ends] == [False, False, False, True, True]
    assert [bool(step.truncated.any()) for step in ends] == [False, False, False, True, True]


def test_without_terminations_no_episode_terminates():
    batch = begun(Sums(ends=False))
    step = batch.step(constant(1000.0))
    assert step.terminated.shape == (2, 3)
    assert step.terminated.dtype == torch.bool
    assert not step.terminated.any()


def test_a_partial_reset_starts_episodes_and_keeps_the_clocks_of_the_others():
    batch = begun()
    before = batch.step(constant(0.0)).observations
    where = torch.tensor([[True, False, False], [False, True, False]])
    after = batch.reset(generator(1), where)
    fresh = Sums().make_batch(TASKS, num_envs=3).reset(generator(1))
    assert torch.equal(after, torch.where(where.unsqueeze(-1), fresh, before))
    cut = [batch.step(constant(0.0)).truncated for _ in range(4)]
    assert torch.equal(cut[2], ~where)
    assert cut[3].all()


def test_all_randomness_comes_from_the_generator_of_the_last_reset():
    family = Sums(noise=1.0)
    first, second = (family.make_batch(TASKS, num_envs=3) for _ in range(2))
    runs = []
    for batch, seed in ((first, 3), (second, 3), (second, 4)):
        episodes = collect(batch, torch.zeros_like, generator(seed))
        runs.append(episodes.observations)
    assert torch.equal(runs[0], runs[1])
    assert not torch.isin(runs[0], runs[2]).any()
    source = generator(3)
    batch = family.make_batch(TASKS, num_envs=3)
    batch.reset(source)
    before = source.get_state()
    batch.step(constant(0.0))
    assert not torch.equal(source.get_state(), before)


def test_tasks_are_prepared_once_and_again_when_they_change():
    family = Sums()
    batch = begun(family)
    for _ in range(3):
        batch.step(constant(0.0))
    batch.reset(generator())
    assert family.prepared == 1
    batch.set_tasks(TASKS[::-1])
    assert family.prepared == 2
    start = batch.reset(generator())
    torch.testing.assert_close(batch.step(constant(0.0)).observations[0], start[0] + 2)


def test_by_default_parameters_are_the_tasks_broadcast_over_environments():
    parameters = TensorFamily.prepare(Sums(), torch.from_numpy(TASKS))
    assert parameters.tolist() == [[[1, 10]], [[2, 20]]]


def test_the_batch_copies_its_tasks():
    tasks = TASKS.copy()
    batch = Sums().make_batch(tasks, num_envs=1)
    tasks[:] = 50
    start = batch.reset(generator())
    torch.testing.assert_close(batch.step(torch.zeros(2, 1, 1)).observations[1], start[1] + 2)
    assert batch.render(1, 0)[0, 0, 1:].tolist() == [2, 20]


def test_the_oracle_gets_states_parameters_and_times():
    batch = begun()
    state = batch.step(constant(0.0)).observations
    batch.reset(generator(), torch.tensor([[True, False, False], [False, False, False]]))
    actions = batch.oracle_actions()
    torch.testing.assert_close(actions[1], state[1] + 2 + 1000)
    assert 1 <= float(actions[0, 0]) <= 2  # its time is 0 again


class Silent(Sums):
    best_actions, render_state = TensorFamily.best_actions, TensorFamily.render_state


def test_a_family_may_have_neither_oracle_nor_image():
    batch = begun(Silent())
    assert batch.oracle_actions() is None
    assert not Silent().can_render
    assert Sums().can_render
    with pytest.raises(NotImplementedError, match="Sums:plain cannot render images"):
        batch.render(0, 0)


def test_an_image_is_of_one_environment_and_its_task():
    batch = begun()
    state = batch.step(constant(0.0)).observations
    for task, env in ((0, 2), (1, 1)):
        image = batch.render(task, env)
        expected = [state[task, env, 0].double().item(), *TASKS[task]]
        assert image[0, 0].tolist() == expected


@pytest.mark.parametrize(
    "use",
    [
        lambda batch: batch.step(constant(0.0)),
        lambda batch: batch.oracle_actions(),
        lambda batch: batch.render(0, 0),
        lambda batch: batch.reset(generator(), torch.ones(2, 3, dtype=torch.bool)),
    ],
)
def test_a_step_before_the_first_reset_of_all_is_rejected(use):
    with pytest.raises(RuntimeError, match="the batch must be reset before its first step"):
        use(Sums().make_batch(TASKS, num_envs=3))


def test_sizes_and_tasks_that_do_not_fit_are_rejected():
    family = Sums()
    with pytest.raises(ValueError, match="num_envs must be 1 or more, got 0"):
        family.make_batch(TASKS, num_envs=0)
    with pytest.raises(ValueError, match=r"tasks must lie in Box.*got \[101\.0, 0\.0\]"):
        family.make_batch([[101.0, 0.0]], num_envs=1)
    batch = begun(family)
    with pytest.raises(ValueError, match="tasks must have 2 rows as before, got 1"):
        batch.set_tasks(TASKS[:1])
    with pytest.raises(ValueError, match=r"tasks must lie in Box.*got \[-1\.0, 0\.0\]"):
        batch.set_tasks([[0.0, 0.0], [-1.0, 0.0]])
    start = batch.reset(generator())  # rejected tasks changed nothing
    torch.testing.assert_close(batch.step(constant(0.0)).observations[1], start[1] + 2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_another_device_randomness_also_comes_from_the_generator():
    from metarl.envs import make_family

    runs = []
    for seed in (0, 0, 1):
        batch = make_family("PointRobot:pearl").make_batch([[0.5, 0.5]], num_envs=4, device="cuda")
        runs.append(batch.reset(generator(seed)))
        assert runs[-1].device.type == "cuda"
        assert batch.step(torch.zeros(1, 4, 2, device="cuda")).rewards.device.type == "cuda"
    assert torch.equal(runs[0], runs[1])
    assert not torch.isin(runs[0], runs[2]).any()


# Returned tensors belong to the caller.


class Bare(Sums):
    """Observes its state as it is."""

    def observe(self, states: Tensor) -> Tensor:
        return states[..., :]


@pytest.mark.parametrize("spoils", [False, True])
def test_returned_tensors_may_be_modified(spoils):
    batch = Bare(ends=False).make_batch(TASKS, num_envs=3)
    observations, seen = batch.reset(torch.Generator().manual_seed(0)), []
    for _ in range(3):
        if spoils:
            observations += 7.0
        observations, _, terminated, *_ = batch.step(torch.ones(2, 3, 1))
        assert not terminated.any()
        seen.append(observations.clone())
        if spoils:
            terminated.fill_(True)
    expected = [step.observations for step in undisturbed()]
    torch.testing.assert_close(seen, expected, rtol=0, atol=0)


def undisturbed() -> list[Step]:
    batch = Bare(ends=False).make_batch(TASKS, num_envs=3)
    batch.reset(torch.Generator().manual_seed(0))
    return [batch.step(torch.ones(2, 3, 1)) for _ in range(3)]
