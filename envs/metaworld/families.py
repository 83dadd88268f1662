"""Meta-World as task families: ML1, ML10, ML25 and ML45, goals hidden.

What is random in tasks is in `metaworld_tasks`, the environments are in `metaworld_sawyer`. The
package metaworld is imported when a family is made.
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
from .sawyer import goal_bounds, make_sawyer, pose, scripted_actions
from .tasks import BENCHMARKS, NUM_GOALS, VARIANTS, draw_goals, parse_variant

__all__ = ["MetaWorld"]

_SEED = 0  # of all goals, as in `metaworld.ML10(seed=0)`
_Split: TypeAlias = Literal["train", "test"]


class _Section(NamedTuple):
    """The goals of one task in one split."""

    task_name: str
    split: _Split
    goals: NDArray[np.float64]  # [NUM_GOALS, G]


class MetaWorld(GymnasiumFamily):
    """A robot arm manipulates objects; the goal is not observed.

    A variant is a benchmark: "ml1-TASK" has 50 goals to train and 50 others to test on, "ml10",
    "ml25" and "ml45" have 10, 25 and 45 tasks to train and 5 others to test on, of 50 goals each.
    Rewards are version 2, in [0, 10] per step; where a variant ends in "-reward-v1", version 1,
    unbounded. A task is solved in an episode if `success` is true at any step.

    Task: [section, goal]. Sections are a benchmark's tasks in Meta-World's order, first those to
    train on, then those to test on; a goal is one of 50, drawn as Meta-World draws them from seed 0
    (for the test goals of ML1 from seed 1). Tasks are drawn so that every section comes equally
    often, and every goal of a section before one comes again. The goal includes where the object
    starts, so all episodes of a task start in one state.

    Action: where the hand moves [3], cm, and how hard the gripper closes [1], in [−1, 1]. The
    oracle is Meta-World's scripted policy. Pictures are of its camera "corner2", upright.

    Source: Yu et al. 2019 (arXiv:1910.10897); package metaworld 3.1.1, whose goals, observations
    and rewards these are, to the bit before observations become float32.
    """

    name: ClassVar[str] = "MetaWorld"
    action_scale = 1.0
    variants: ClassVar[tuple[str, ...]] = VARIANTS
    observation_description = "hand, gripper and two objects, of this step and the last; no goal"
    source = "Yu et al. 2019 (arXiv:1910.10897), metaworld 3.1.1"
    horizon = 500
    has_success = True

    def __init__(self, variant: str) -> None:
        """Draw the goals and make one environment.

        Raises:
            ValueError: if the variant is unknown.
            ImportError: without the package metaworld.
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
        pose(env, self._section(task).task_name, self.goal(task))

    def goal(self, task: NDArray[np.float64]) -> NDArray[np.float64]:
        """What is random in a task, shape [3] or [6]: where object and goal are, in metres."""
        goal: NDArray[np.float64] = self._section(task).goals[int(task[1])].copy()
        return goal

    def best_actions(self, observations: Tensor, tasks: Tensor) -> Tensor:
        """Meta-World's scripted policy of each task, which is told the goal."""
        rows, seen = tasks[:, 0].cpu().numpy(), observations.cpu().double().numpy()
        actions = [
            scripted_actions(self._section(row).task_name, self.goal(row), observed)
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
        drawn = np.stack([order.ravel(), goals.ravel()], axis=1)[:num_tasks]
        return drawn.astype(np.float64)


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
    test_seed = _SEED if benchmark in BENCHMARKS else _SEED + 1  # as Meta-World has it
    splits: tuple[tuple[_Split, Sequence[str], int], ...] = (
        ("train", train, _SEED),
        ("test", test, test_seed),
    )
    return tuple(
        _Section(name, split, goals)
        for split, names, seed in splits
        for name, goals in zip(names, draw_goals(names, bounds, seed), strict=True)
    )


def _task_names(benchmark: str) -> tuple[list[str], list[str]]:
    """Tasks to train on and to test on, in Meta-World's order."""
    if benchmark not in BENCHMARKS:
        name = benchmark.removeprefix("ml1-")
        return [name], [name]
    from metaworld import env_dict

    classes = getattr(env_dict, f"{benchmark.upper()}_V3")
    train, test = ([name.removesuffix("-v3") for name in classes[s]] for s in ("train", "test"))
    return train, test


def _describe(benchmark: str) -> tuple[str, str]:
    """What the tasks are, and what to know before comparing numbers."""
    train, test = _task_names(benchmark)
    if benchmark not in BENCHMARKS:
        return (
            f"{train[0]} with {NUM_GOALS} goals, tested on {NUM_GOALS} others",
            "Meta-World's own id Meta-World/ML1-train serves the goals of testing",
        )
    both = sorted({*train} & {*test})
    tasks = f"{len(train)} tasks with {NUM_GOALS} goals each, tested on {len(test)} others"
    return tasks, f"{', '.join(both)} is in both splits, with other goals" if both else ""
