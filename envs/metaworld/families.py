"""Meta-World as task families: ML1, ML10, ML25 and ML45 with hidden goals.

Tasks and goals are defined in `tasks`, environments in `sawyer`. The package metaworld is imported
when a family is created.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from metarl.tasks.spaces import Tasks
from metarl.validation import unknown_name

from ..simulators.gymnasium_family import GymnasiumFamily
from .sawyer import goal_bounds, make_sawyer, scripted_actions, set_goal
from .tasks import BENCHMARKS, NUM_GOALS, VARIANTS, parse_variant, sample_goals

__all__ = ["MetaWorld"]

_SEED = 0  # for all goals, as in `metaworld.ML10(seed=0)`
_Split: TypeAlias = Literal["train", "test"]


class _Section(NamedTuple):
    """The goals of one task in one split."""

    task_name: str
    split: _Split
    goals: NDArray[np.float64]  # [NUM_GOALS, G]


class MetaWorld(GymnasiumFamily):
    """A robot arm manipulates objects to reach a hidden goal.

    A variant is a benchmark: "ml1-TASK" has 50 goals for training and 50 others for testing;
    "ml10", "ml25" and "ml45" have 10, 25 and 45 tasks for training and 5 others for testing, with
    50 goals each. Rewards are version 2, in [0, 10] per step; in variants that end in "-reward-v1"
    they are version 1, unbounded. An episode solves the task if `success` is true at any step.

    Task: [section, goal], shape [2]. Sections are a benchmark's training tasks, then its test
    tasks, in Meta-World's order; a goal is one of 50, sampled as in Meta-World with seed 0 (seed 1
    for the test goals of ML1). Sampled tasks contain all sections equally often, and all goals of a
    section before one is repeated. The goal includes the initial position of the object, so all
    episodes of a task start in the same state.

    Action: displacement of the hand [3], cm, and closing force of the gripper [1], in [−1, 1]. The
    oracle is Meta-World's scripted policy. Images are from its camera "corner2", upright.

    Source: Yu et al. 2019 (arXiv:1910.10897); package metaworld 3.1.1. Goals, observations and
    rewards are bitwise identical to the package's, before observations are rounded to float32.
    """

    name: ClassVar[str] = "MetaWorld"
    action_divisor = 1.0
    variants: ClassVar[tuple[str, ...]] = VARIANTS
    observation_description = (
        "hand, gripper and two objects at this step and the previous one; no goal"
    )
    source = "Yu et al. 2019 (arXiv:1910.10897), metaworld 3.1.1"
    horizon = 500
    has_success = True

    def __init__(self, variant: str) -> None:
        """Sample the goals and create one environment.

        Raises:
            ValueError: if the variant is unknown.
            ImportError: if the package metaworld is not installed.
        """
        if variant not in VARIANTS:
            raise ValueError(unknown_name("variant of MetaWorld", variant, VARIANTS))
        _require_package()
        benchmark, self._reward_version = parse_variant(variant)
        self._sections = _sections(benchmark)
        self.task_space = spaces.MultiDiscrete([len(self._sections), NUM_GOALS])
        tasks, self.warning = _describe(benchmark)
        self.task_description = f"{tasks}; reward {self._reward_version}"
        super().__init__(variant)

    def env_key(self, task: NDArray[np.float64]) -> Hashable:
        """The name of a task without its goal, e.g. "door-open"."""
        return self._section(task).task_name

    def make_env(self, task: NDArray[np.float64]) -> gymnasium.Env[Any, Any]:
        env: gymnasium.Env[Any, Any] = make_sawyer(
            self._section(task).task_name, self._reward_version
        )
        return env

    def apply_task(self, env: gymnasium.Env[Any, Any], task: NDArray[np.float64]) -> None:
        set_goal(env, self._section(task).task_name, self.random_vector(task))

    def random_vector(self, task: NDArray[np.float64]) -> NDArray[np.float64]:
        """Meta-World's `rand_vec`: positions of object and goal, meters. Shape [3] or [6]."""
        vector: NDArray[np.float64] = self._section(task).goals[int(task[1])].copy()
        return vector

    def best_actions(self, observations: Tensor, tasks: Tensor) -> Tensor:
        """Actions of Meta-World's scripted policy for each task, which observes the goal."""
        rows, seen = tasks[:, 0].cpu().numpy(), observations.cpu().double().numpy()
        actions = [
            scripted_actions(self._section(row).task_name, self.random_vector(row), observed)
            for row, observed in zip(rows, seen, strict=True)
        ]
        return torch.from_numpy(np.array(actions)).to(observations.device)

    def _section(self, task: NDArray[np.float64]) -> _Section:
        return self._sections[int(task[0])]

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        chosen = np.array([k for k, section in enumerate(self._sections) if section.split == split])
        rounds = -(-num_tasks // len(chosen))
        order = rng.permuted(np.tile(chosen, (rounds, 1)), axis=1)
        cycles = -(-rounds // NUM_GOALS)
        shape = (len(self._sections), cycles, NUM_GOALS)
        goals = rng.permuted(np.broadcast_to(np.arange(NUM_GOALS), shape), axis=2)
        goals = goals.reshape(len(self._sections), -1)[order, np.arange(rounds)[:, None]]
        rows = np.stack([order.ravel(), goals.ravel()], axis=1)[:num_tasks]
        return rows.astype(np.float64)


def _require_package() -> None:
    if importlib.util.find_spec("metaworld") is None:
        raise ImportError(
            'MetaWorld needs the package metaworld: pip install "metarl-toolkit[metaworld]" '
            "(it pins mujoco 3.3.0)"
        )


def _sections(benchmark: str) -> tuple[_Section, ...]:
    """The tasks and goals of a benchmark, its training tasks first."""
    train, test = _task_names(benchmark)
    bounds = {name: goal_bounds(name) for name in {*train, *test}}
    test_seed = _SEED if benchmark in BENCHMARKS else _SEED + 1  # as in Meta-World
    splits: tuple[tuple[_Split, Sequence[str], int], ...] = (
        ("train", train, _SEED),
        ("test", test, test_seed),
    )
    return tuple(
        _Section(name, split, goals)
        for split, names, seed in splits
        for name, goals in zip(names, sample_goals(names, bounds, seed), strict=True)
    )


def _task_names(benchmark: str) -> tuple[list[str], list[str]]:
    """Names of training and test tasks, in Meta-World's order."""
    if benchmark not in BENCHMARKS:
        name = benchmark.removeprefix("ml1-")
        return [name], [name]
    from metaworld import env_dict

    classes = getattr(env_dict, f"{benchmark.upper()}_V3")
    train, test = ([name.removesuffix("-v3") for name in classes[s]] for s in ("train", "test"))
    return train, test


def _describe(benchmark: str) -> tuple[str, str]:
    """Descriptions of the tasks, and a warning about comparisons with published numbers."""
    train, test = _task_names(benchmark)
    if benchmark not in BENCHMARKS:
        return (
            f"{train[0]} with {NUM_GOALS} goals; tested on {NUM_GOALS} others",
            "Meta-World's id Meta-World/ML1-train uses the test goals",
        )
    both = sorted({*train} & {*test})
    tasks = f"{len(train)} tasks with {NUM_GOALS} goals each; tested on {len(test)} others"
    return tasks, f"{', '.join(both)} is in both splits, with different goals" if both else ""
