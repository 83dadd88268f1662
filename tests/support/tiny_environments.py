"""Families that work or fail as configured; workers import them by name."""

import os
import signal
import time
from multiprocessing import parent_process

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from metarl.envs.navigation.goals import Navigation2D
from metarl.envs.simulators.gymnasium_family import GymnasiumFamily
from metarl.envs.simulators.tensor import TensorFamily, Transition
from metarl.tasks.family import uniform_tasks
from metarl.tasks.spaces import Tasks

RAISE, EXIT, DIE, HANG = 2, 3, 4, 5  # actions


class Counter(gymnasium.Env):
    """Observes its task, the step, and the random numbers of the reset and of this step.

    Terminates after 6 steps and raises if it is stepped after that.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float64)
    action_space = spaces.Discrete(6)
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, kind: int, render_mode: str | None = None) -> None:
        self.kind, self.render_mode, self.offset = kind, render_mode, 0.0
        self.steps, self.num_tasks_applied = 6, 0

    def reset(self, *, seed=None, options=None):  # noqa: ARG002
        super().reset(seed=seed)
        self.start, self.steps = self.np_random.uniform(), 0
        return self.observe(), {}

    def step(self, action):
        if self.steps == 6:
            raise RuntimeError("stepped after the end")
        misbehave(action)
        self.steps += 1
        info = {"success": float(self.steps == 3)}
        return self.observe(), self.offset + action, False, self.steps == 6, info

    def observe(self):
        return np.array([self.offset, self.steps, self.start, self.np_random.uniform()])

    def render(self):
        ignores = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        numbers = [[torch.get_num_threads(), ignores, self.kind], [self.num_tasks_applied, 0, 0]]
        return np.array([numbers], np.uint8)


def misbehave(action: int) -> None:
    if action == RAISE:
        raise KeyError("the cup is empty")
    if action == EXIT:
        raise SystemExit(3)
    if action == DIE:
        os._exit(7)
    if action == HANG:
        time.sleep(100)


class Counters(GymnasiumFamily):
    """Tasks: an offset, and one of two kinds of environment."""

    name = "Counters"
    variants = ("tiny",)
    task_space = spaces.Box(np.array([-5.0, 0.0]), np.array([5.0, 1.0]), dtype=np.float64)
    task_description = "an offset, a kind"
    observation_description = "all there is"
    source = "this test"
    has_success = True
    horizon = 5

    def __init__(self, num_workers: int | None = 0, horizon: int = 5) -> None:
        self.num_workers, self.horizon = num_workers, horizon
        self.timeout_seconds = 0.5
        super().__init__("tiny")

    def make_env(self, task):
        return Counter(self.env_key(task), render_mode="rgb_array")

    def env_key(self, task):
        return int(task[1])

    def apply_task(self, env, task):
        assert env.kind == self.env_key(task)
        env.offset = float(task[0])
        env.num_tasks_applied += 1


def count_workers(tasks: Tasks) -> int:
    """The default number of processes for 16 environments of these tasks."""
    batch = Counters(num_workers=None).make_batch(tasks, num_envs=16 // len(tasks))
    try:
        batch.reset(torch.Generator().manual_seed(0))
        return batch.num_workers
    finally:
        batch.close()


class Unmakable(Counters):
    """Its environments can be created here, but not in a worker."""

    def make_env(self, task):
        if parent_process() is not None:
            raise OSError("no license for this simulator")
        return super().make_env(task)


class Dies(Counters):
    """Whose environments end their process at the first reset."""

    def apply_task(self, env, task):  # noqa: ARG002
        misbehave(DIE)


class Near(Navigation2D):
    """Navigation; a distance below 0.2 to the goal is a success."""

    def make_batch(self, tasks, *, num_envs, device="cpu"):
        batch = super().make_batch(tasks, num_envs=num_envs, device=device)
        step = batch.step
        batch.step = lambda actions: (s := step(actions))._replace(success=s.rewards > -0.2)
        return batch


class Drawn(Navigation2D):
    """Navigation with images: red encodes the position, green the goal, as 100 (1 + x)."""

    def render_state(self, state, task):
        red, green = (round(100 * (1 + float(point[0]))) for point in (state, task))
        return np.full((4, 5, 3), (red, green, 0), np.uint8)


class Lock(TensorFamily):
    """A lock of two dials that opens, and ends the episode, if both are right.

    Reward 1 when it opens, −¼ for other tries. Observes the number of tries; not random.
    """

    name = "Lock"
    variants = ("tiny",)
    task_space = action_space = spaces.MultiDiscrete([2, 3])
    task_description, observation_description, source = "the code", "tries so far", "this test"
    observation_space = spaces.Box(0.0, 4.0, (1,), np.float32)
    horizon = 4
    behavior = "choices"

    def __init__(self, variant="tiny"):
        self.variant = variant

    def initial_states(self, parameters, shape, generator):  # noqa: ARG002
        return parameters.new_zeros(*shape, 1)

    def transition(self, states, actions, parameters, generator):  # noqa: ARG002
        opened = (actions == parameters).all(-1)
        return Transition(states + 1, torch.where(opened, 1.0, -0.25), opened)

    def _sample_tasks(self, num_tasks, split, rng):  # noqa: ARG002
        return uniform_tasks(self.task_space, num_tasks, rng)
