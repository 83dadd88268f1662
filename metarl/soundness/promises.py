"""The promises of a task family, each tried by one function; `metarl.soundness.check` runs them.

A promise returns what it tried. It raises `BrokenPromiseError` with the first counterexample, or
`NotApplicableError` with the reason why the family does not make it. Those that compare two runs
are in `metarl.soundness.comparisons`.
"""

from __future__ import annotations

import itertools
import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from torch import Tensor

from metarl.soundness.action_ranges import actions_are_in_reach
from metarl.soundness.comparisons import (
    environments_are_independent,
    expected_rewards_are_means,
    middle,
    oracle_beats_random,
    other_tasks_can_be_set,
    pickling_keeps_tasks,
    resets_do_not_leak,
    runs_are_deterministic,
    single_environment_agrees,
    tasks_matter,
)
from metarl.soundness.probe import BrokenPromiseError, NotApplicableError, Trial, require
from metarl.soundness.structures import structure_is_true
from metarl.tasks.actions import ActionLayout
from metarl.tasks.family import RendersBatch, Step, TaskFamily
from metarl.tasks.spaces import Tasks, check_rows, space_bounds

__all__ = ["PROMISES"]

_TEXTS = ("name", "variant", "task_description", "observation_description", "source")


def _describes_itself(trial: Trial) -> str:
    """Texts, splits and numbers that lists and results show are there."""
    family = trial.family
    for attribute in _TEXTS:
        text = getattr(family, attribute, None)
        require(bool(text) and isinstance(text, str), f"{attribute} must be a text, is {text!r}")
    require(family.horizon >= 1, f"horizon must be 1 or more, is {family.horizon}")
    scale = family.action_scale
    require(scale is None or scale > 0, f"action_scale must be None or above 0, is {scale}")
    unknown = set(family.ood_splits) - set(family.splits)
    require(not unknown, f"ood_splits must be among splits, {sorted(unknown)} are not")
    return family.description


def _spaces_agree(trial: Trial) -> str:
    """Observations, rewards and ends have the shapes, types and bounds that the spaces say."""
    _check_spaces(trial.family)
    with trial.batch() as env:
        for name in ("observation_space", "action_space", "horizon"):
            ours, theirs = getattr(trial.family, name), getattr(env, name)
            require(ours == theirs, f"{name} is {ours} of the family, {theirs} of its batch")
        size = (env.num_tasks, env.num_envs)
        require(size == trial.shape, f"a batch of {trial.size} says that it is {size}")
        mode = env.autoreset_mode
        require(mode is AutoresetMode.DISABLED, f"autoreset_mode must be DISABLED, is {mode}")
        _check_observations(trial, env.reset(trial.chance()), "after reset")
        for t, action in enumerate(trial.actions(env, trial.num_steps)):
            step = env.step(action)
            _check_observations(trial, step.observations, f"after step {t}")
            _check_step(trial, step, t)
    return f"{trial.num_steps} random steps of {trial.size}"


def _check_spaces(family: TaskFamily) -> None:
    space_bounds(family.task_space)
    observations, actions = family.observation_space, family.action_space
    flat = isinstance(observations, spaces.Box) and len(observations.shape) == 1
    right = flat and observations.dtype == np.float32
    require(right, f"observation_space must be a flat float32 Box, is {observations}")
    try:
        ActionLayout(actions)
    except TypeError as error:
        raise BrokenPromiseError(str(error)) from error


def _check_observations(trial: Trial, observations: Tensor, when: str) -> None:
    space = trial.family.observation_space
    wanted = (*trial.shape, *space.shape)
    require(
        observations.shape == wanted and observations.dtype == torch.float32,
        f"observations {when} must be float32 of shape {wanted}, "
        f"got {observations.dtype} of shape {tuple(observations.shape)}",
    )
    rows = observations.cpu().numpy()
    inside = np.isfinite(rows) & (rows >= space.low) & (rows <= space.high)
    if not inside.all():
        task, env, _ = (int(i) for i in np.argwhere(~inside)[0])
        raise BrokenPromiseError(
            f"observation {when} of task {task}, environment {env} lies outside {space}: "
            f"{rows[task, env].tolist()}"
        )


def _check_step(trial: Trial, step: Step, t: int) -> None:
    kinds = {"rewards": torch.float32, "terminated": torch.bool, "truncated": torch.bool}
    if step.success is not None:
        kinds["success"] = torch.bool
    if step.expected_rewards is not None:
        kinds["expected_rewards"] = torch.float32
    for name, kind in kinds.items():
        value = getattr(step, name)
        require(
            value.shape == trial.shape and value.dtype == kind,
            f"{name} of step {t} must be {kind} of shape {trial.shape}, "
            f"got {value.dtype} of shape {tuple(value.shape)}",
        )
    require(bool(torch.isfinite(step.rewards).all()), f"a reward of step {t} is not finite")


def _tasks_follow_the_seed(trial: Trial) -> str:
    """A seed means the same tasks, another seed others, and all lie in the task space."""
    family, many = trial.family, 50
    for split in family.splits:
        first = family.sample_tasks(many, split=split, seed=trial.seed)
        again = family.sample_tasks(many, split=split, seed=trial.seed)
        require(np.array_equal(first, again), f"seed {trial.seed} of {split} gave two task sets")
        check_rows(family.task_space, first)
        family.check_tasks(first)
        other = family.sample_tasks(many, split=split, seed=trial.seed + 1)
        require(
            not np.array_equal(first, other),
            f"seeds {trial.seed} and {trial.seed + 1} of split {split} gave the same tasks",
        )
    return f"{many} tasks of each split, twice and with another seed"


def _nothing_touches_global_chance(trial: Trial) -> str:
    """Sampling, resets and steps leave the global generators as they were."""
    with _global_states_restored():
        _draw_global_numbers()  # else a family that seeds them leaves what it left before
        before = _global_states()
        trial.family.sample_tasks(5, seed=trial.seed)
        with trial.batch() as env:
            env.reset(trial.chance())
            for action in trial.actions(env, 3):
                env.step(action)
                env.oracle_actions()
        after = _global_states()
    for name, state in after.items():
        require(state == before[name], f"the global generator of {name} was used")
    return "Python's, NumPy's and torch's generators around tasks, reset and 3 steps"


@contextmanager
def _global_states_restored() -> Iterator[None]:
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002 - as the family under test may use it
        torch.set_rng_state(kept[2])


def _draw_global_numbers() -> None:
    random.random()
    np.random.random()  # noqa: NPY002
    torch.rand(())


def _global_states() -> dict[str, bytes]:
    return {
        "random": pickle.dumps(random.getstate()),
        "NumPy": pickle.dumps(np.random.get_state()),  # noqa: NPY002
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


def _splits_are_apart(trial: Trial) -> str:
    """No task is drawn in two splits."""
    family, many = trial.family, 200
    if family.same_tasks_in_splits:
        raise NotApplicableError("the source trains and tests on the same tasks")
    drawn = {s: family.sample_tasks(many, split=s, seed=trial.seed) for s in family.splits}
    for one, other in itertools.combinations(family.splits, 2):
        shared = set(map(tuple, drawn[one].tolist())) & set(map(tuple, drawn[other].tolist()))
        if shared:
            raise BrokenPromiseError(f"splits {one} and {other} share task {list(min(shared))}")
    return f"{many} tasks of each of {', '.join(family.splits)}"


def _wrong_tasks_are_refused(trial: Trial) -> str:
    """Tasks outside the task space are a `ValueError`, and so is another number of them."""
    _, high = space_bounds(trial.family.task_space)
    beyond, missing = trial.tasks.copy(), trial.tasks.copy()
    beyond[-1] = np.where(np.isfinite(high), high + 1, np.nan)
    missing[-1] = np.nan
    make_batch = partial(trial.family.make_batch, num_envs=1)
    with trial.batch() as env:
        for rows, what in ((beyond, f"task {beyond[-1].tolist()}"), (missing, "a task of nan")):
            _require_refusal(make_batch, rows, what)
            _require_refusal(env.set_tasks, rows, f"{what}, set later,")
        fewer = trial.tasks[:-1]
        _require_refusal(env.set_tasks, fewer, f"a set of {len(fewer)} tasks in a batch")
    return "a task beyond the space, one of nan, and one task fewer"


def _require_refusal(use: Callable[[Tasks], object], rows: Tasks, what: str) -> None:
    try:
        use(rows)
    except ValueError:
        return
    raise BrokenPromiseError(f"{what} was not refused by a ValueError")


def _episodes_end(trial: Trial) -> str:
    """Episodes are cut at the horizon and not before, each by its own clock, and stay finite."""
    horizon, when = trial.family.horizon, middle(trial)
    start = torch.zeros(trial.shape, dtype=torch.int64)
    ended = torch.zeros(trial.shape, dtype=torch.bool)
    late = torch.zeros_like(ended)
    late[:, 0] = True  # begin a second time
    with trial.batch() as env:
        env.reset(trial.chance())
        for t, action in enumerate(trial.actions(env, horizon + when + 2), start=1):
            step, age = env.step(action), t - start
            finite = torch.isfinite(step.observations).all() & torch.isfinite(step.rewards).all()
            require(bool(finite), f"an observation or a reward at time {t} is not finite")
            _require_none(step.truncated & ~ended & (age < horizon), age, f"cut before {horizon}")
            ended |= step.terminated | step.truncated
            _require_none(~ended & (age >= horizon), age, f"not cut at horizon {horizon}")
            if t == when:
                env.reset(trial.chance("late"), late)
                start, ended = start.masked_fill(late, t), ended & ~late
    return f"{trial.size} episodes, one of each task begun at time {when}, to horizon {horizon}"


def _require_none(where: Tensor, age: Tensor, what: str) -> None:
    if bool(where.any()):
        task, env = where.nonzero()[0].tolist()
        raise BrokenPromiseError(
            f"the episode of task {task}, environment {env} is {int(age[task, env])} steps old "
            f"and was {what}"
        )


def _pictures_can_be_drawn(trial: Trial) -> str:
    """`render` gives pictures that change when the environment moves."""
    with trial.batch() as env:
        if not (trial.family.can_render and isinstance(env, RendersBatch)):
            raise NotApplicableError("the family draws no pictures")
        env.reset(trial.chance())
        try:
            first = env.render(0, 0)
        except (NotImplementedError, RuntimeError) as reason:
            raise NotApplicableError(str(reason)) from reason
        right = first.ndim == 3 and first.shape[2] == 3 and first.dtype == np.uint8
        require(
            right,
            f"a picture must be uint8 [height, width, 3], is {first.dtype} of shape {first.shape}",
        )
        for t, action in enumerate(trial.actions(env, trial.num_steps), start=1):
            env.step(action)
            if not np.array_equal(first, env.render(0, 0)):
                return f"pictures of {first.shape[1]} × {first.shape[0]}, changed at time {t}"
    raise BrokenPromiseError(f"the picture stayed the same for {trial.num_steps} steps")


PROMISES: dict[str, Callable[[Trial], str]] = {
    "the family describes itself": _describes_itself,
    "spaces agree across tasks": _spaces_agree,
    "policies can reach the actions": actions_are_in_reach,
    "a seed means the same tasks": _tasks_follow_the_seed,
    "global generators are left alone": _nothing_touches_global_chance,
    "splits share no task": _splits_are_apart,
    "wrong tasks are refused": _wrong_tasks_are_refused,
    "runs are deterministic": runs_are_deterministic,
    "environments are independent": environments_are_independent,
    "resets do not leak": resets_do_not_leak,
    "a single environment agrees": single_environment_agrees,
    "different tasks differ": tasks_matter,
    "tasks survive pickling": pickling_keeps_tasks,
    "tasks can be set anew": other_tasks_can_be_set,
    "episodes end at the horizon": _episodes_end,
    "the oracle beats random actions": oracle_beats_random,
    "expected rewards are means": expected_rewards_are_means,
    "the declared structure is true": structure_is_true,
    "pictures can be drawn": _pictures_can_be_drawn,
}
