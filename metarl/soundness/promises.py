"""The promises of a task family, each tested by one function; `metarl.soundness.check` runs them.

The function of a promise returns a description of the tested cases. It raises
`BrokenPromiseError` with the first counterexample, or `NotApplicableError` with the reason why the
promise does not apply. Promises about two runs are in `metarl.soundness.comparisons`.
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
from numpy.typing import NDArray
from torch import Tensor

from metarl.soundness.action_ranges import actions_are_in_reach
from metarl.soundness.comparisons import (
    environments_are_independent,
    expected_rewards_are_means,
    middle_step,
    oracle_beats_random,
    other_tasks_can_be_set,
    pickling_keeps_tasks,
    resets_do_not_leak,
    runs_are_deterministic,
    single_environment_agrees,
    tasks_matter,
    workers_agree,
)
from metarl.soundness.probe import BrokenPromiseError, NotApplicableError, Probe, require
from metarl.soundness.structures import structure_is_true
from metarl.tasks.actions import ActionLayout
from metarl.tasks.family import RendersBatch, Step, TaskFamily
from metarl.tasks.spaces import Tasks, check_rows, space_bounds

__all__ = ["PROMISES"]

_TRAINING_TASKS = (2000, 100_000)
"""Numbers of training tasks among which the tasks of another split are looked for."""
_TEXTS = ("name", "variant", "task_description", "observation_description", "source")


def _describes_itself(probe: Probe) -> str:
    """The attributes that are shown in lists and results are set."""
    family = probe.family
    for attribute in _TEXTS:
        text = getattr(family, attribute, None)
        require(
            bool(text) and isinstance(text, str),
            f"{attribute} must be a non-empty string, is {text!r}",
        )
    require(family.horizon >= 1, f"horizon must be 1 or more, is {family.horizon}")
    divisor = family.action_divisor
    message = f"action_divisor must be None or above 0, is {divisor}"
    require(divisor is None or divisor > 0, message)
    unknown = set(family.ood_splits) - set(family.splits)
    require(not unknown, f"ood_splits must be in splits, got {sorted(unknown)} in addition")
    return family.description


def _spaces_agree(probe: Probe) -> str:
    """Observations, rewards and ends have the shapes, types and bounds of the spaces."""
    _check_spaces(probe.family)
    with probe.batch() as env:
        for name in ("observation_space", "action_space", "horizon"):
            ours, theirs = getattr(probe.family, name), getattr(env, name)
            require(
                ours == theirs,
                f"{name} must be the same in family and batch, is {ours} and {theirs}",
            )
        size = (env.num_tasks, env.num_envs)
        require(size == probe.shape, f"a batch of {probe.size} has num_tasks and num_envs {size}")
        mode = env.autoreset_mode
        require(mode is AutoresetMode.DISABLED, f"autoreset_mode must be DISABLED, is {mode}")
        _check_observations(probe, env.reset(probe.generator()), "after reset")
        for t, action in enumerate(probe.actions(env, probe.num_steps)):
            step = env.step(action)
            _check_observations(probe, step.observations, f"after step {t}")
            _check_step(probe, step, t)
    return f"{probe.num_steps} random steps of {probe.size}"


def _check_spaces(family: TaskFamily) -> None:
    space_bounds(family.task_space)
    observations, actions = family.observation_space, family.action_space
    is_flat = isinstance(observations, spaces.Box) and len(observations.shape) == 1
    has_dtype = is_flat and observations.dtype in (np.float32, np.uint8)
    needed = "a flat Box of float32 or uint8"
    require(has_dtype, f"observation_space must be {needed}, is {observations}")
    try:
        ActionLayout(actions)
    except TypeError as error:
        raise BrokenPromiseError(str(error)) from error


def _check_observations(probe: Probe, observations: Tensor, when: str) -> None:
    space = probe.family.observation_space
    wanted, dtype = (*probe.shape, *space.shape), getattr(torch, space.dtype.name)
    require(
        observations.shape == wanted and observations.dtype == dtype,
        f"observations {when} must be {space.dtype} of shape {wanted}, "
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


def _check_step(probe: Probe, step: Step, t: int) -> None:
    kinds = {"rewards": torch.float32, "terminated": torch.bool, "truncated": torch.bool}
    if step.success is not None:
        kinds["success"] = torch.bool
    if step.expected_rewards is not None:
        kinds["expected_rewards"] = torch.float32
    for name, kind in kinds.items():
        value = getattr(step, name)
        require(
            value.shape == probe.shape and value.dtype == kind,
            f"{name} of step {t} must be {kind} of shape {probe.shape}, "
            f"got {value.dtype} of shape {tuple(value.shape)}",
        )
    require(bool(torch.isfinite(step.rewards).all()), f"a reward of step {t} is not finite")


def _tasks_follow_the_seed(probe: Probe) -> str:
    """A seed determines the tasks, other seeds give others, and all are in the task space."""
    family, many = probe.family, 50
    for split in family.splits:
        first = family.sample_tasks(many, split=split, seed=probe.seed)
        again = family.sample_tasks(many, split=split, seed=probe.seed)
        require(
            np.array_equal(first, again),
            f"seed {probe.seed} of {split} gave different tasks in two calls",
        )
        check_rows(family.task_space, first)
        family.check_tasks(first)
        other = family.sample_tasks(many, split=split, seed=probe.seed + 1)
        require(
            not np.array_equal(first, other),
            f"seeds {probe.seed} and {probe.seed + 1} of split {split} gave the same tasks",
        )
    return f"{many} tasks of each split, twice and with another seed"


def _global_generators_are_not_used(probe: Probe) -> str:
    """Sampling, resets and steps do not use the global generators."""
    with _global_states_restored():
        _advance_global_generators()  # else a family that always seeds them would not be detected
        before = _global_states()
        probe.family.sample_tasks(5, seed=probe.seed)
        with probe.batch() as env:
            env.reset(probe.generator())
            for action in probe.actions(env, 3):
                env.step(action)
                env.oracle_actions()
        after = _global_states()
    for name, state in after.items():
        require(state == before[name], f"the global generator of {name} was used")
    return "generators of Python, NumPy and torch before and after sampling, reset and 3 steps"


@contextmanager
def _global_states_restored() -> Iterator[None]:
    saved = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(saved[0])
        np.random.set_state(saved[1])  # noqa: NPY002 - as the family under test may use it
        torch.set_rng_state(saved[2])


def _advance_global_generators() -> None:
    random.random()
    np.random.random()  # noqa: NPY002
    torch.rand(())


def _global_states() -> dict[str, bytes]:
    return {
        "random": pickle.dumps(random.getstate()),
        "NumPy": pickle.dumps(np.random.get_state()),  # noqa: NPY002
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


def _splits_share_what_is_declared(probe: Probe) -> str:
    """Splits share no tasks, some or all, as `shared_tasks` declares."""
    family = probe.family
    if family.shared_tasks != "none":
        return _training_tasks_in_test(probe)
    many = 200
    sampled = {s: family.sample_tasks(many, split=s, seed=probe.seed) for s in family.splits}
    for one, other in itertools.combinations(family.splits, 2):
        shared = set(map(tuple, sampled[one].tolist())) & set(map(tuple, sampled[other].tolist()))
        if shared:
            raise BrokenPromiseError(
                f"splits {one} and {other} share task {list(min(shared))}, but shared_tasks is none"
            )
    return f"{many} tasks of each of {', '.join(family.splits)}, none shared"


def _training_tasks_in_test(probe: Probe) -> str:
    """Verify that some or all tasks of the other splits are training tasks.

    Some: or that they lie in the range of the training tasks, if they are out of distribution.
    """
    family, declared = probe.family, probe.family.shared_tasks
    others = [split for split in family.splits if split != "train"]
    found = []
    for split in others:
        tasks = family.sample_tasks(200, split=split, seed=probe.seed)
        distinct = np.unique(tasks, axis=0)
        for count in _TRAINING_TASKS:  # few suffice, unless there are many different ones
            training = family.sample_tasks(count, seed=probe.seed)
            shared = np.isin(_rows_as_items(distinct), _rows_as_items(training))
            if declared == "some" and split in family.ood_splits:
                shared |= _in_range(distinct, training)
            holds = bool(shared.all()) if declared == "all" else 0 < shared.sum() < len(shared)
            if holds:
                break
        found.append(f"{shared.sum()} of {len(shared)} tasks of {split} are training tasks")
        require(holds, f"{found[-1]}, but shared_tasks is {declared}")
    return ", ".join(found)


def _rows_as_items(tasks: Tasks) -> NDArray[np.void]:
    """Each row [D] as one item, for comparisons of whole rows."""
    rows = np.ascontiguousarray(tasks + 0.0)  # −0 becomes 0
    return rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()


def _in_range(tasks: Tasks, training: Tasks) -> NDArray[np.bool_]:
    """Whether a training task lies within 2 % of the range of all training tasks."""
    span = np.ptp(training, axis=0) + 1e-12
    nearest = [np.abs((training - task) / span).max(1).min() for task in tasks]
    return np.array(nearest) < 0.02


def _invalid_tasks_are_rejected(probe: Probe) -> str:
    """Tasks outside the task space, or another number of tasks, raise a `ValueError`."""
    _, high = space_bounds(probe.family.task_space)
    beyond, missing = probe.tasks.copy(), probe.tasks.copy()
    beyond[-1] = np.where(np.isfinite(high), high + 1, np.nan)
    missing[-1] = np.nan
    make_batch = partial(probe.family.make_batch, num_envs=1)
    with probe.batch() as env:
        for rows, what in ((beyond, f"task {beyond[-1].tolist()}"), (missing, "a task with NaN")):
            _require_rejection(make_batch, rows, what)
            _require_rejection(env.set_tasks, rows, f"{what}, set in a used batch,")
        fewer = probe.tasks[:-1]
        _require_rejection(env.set_tasks, fewer, f"a set of {len(fewer)} tasks in a batch")
    return "a task outside the space, one with NaN, and one task fewer"


def _require_rejection(use: Callable[[Tasks], object], rows: Tasks, what: str) -> None:
    try:
        use(rows)
    except ValueError:
        return
    raise BrokenPromiseError(f"{what} did not raise a ValueError")


def _episodes_end(probe: Probe) -> str:
    """Each episode is truncated at the horizon and not before, and values stay finite."""
    horizon, when = probe.family.horizon, middle_step(probe)
    start = torch.zeros(probe.shape, dtype=torch.int64)
    ended = torch.zeros(probe.shape, dtype=torch.bool)
    late = torch.zeros_like(ended)
    late[:, 0] = True  # these environments start a second episode
    with probe.batch() as env:
        env.reset(probe.generator())
        for t, action in enumerate(probe.actions(env, horizon + when + 2), start=1):
            step, age = env.step(action), t - start
            finite = torch.isfinite(step.observations).all() & torch.isfinite(step.rewards).all()
            require(bool(finite), f"an observation or a reward at time {t} is not finite")
            _require_none(
                step.truncated & ~ended & (age < horizon), age, f"truncated before {horizon}"
            )
            ended |= step.terminated | step.truncated
            _require_none(~ended & (age >= horizon), age, f"not truncated at horizon {horizon}")
            if t == when:
                env.reset(probe.generator("late"), late)
                start, ended = start.masked_fill(late, t), ended & ~late
    return f"{probe.size} episodes, one of each task begun at time {when}, to horizon {horizon}"


def _require_none(mask: Tensor, age: Tensor, what: str) -> None:
    if bool(mask.any()):
        task, env = mask.nonzero()[0].tolist()
        raise BrokenPromiseError(
            f"the episode of task {task}, environment {env} is {int(age[task, env])} steps old "
            f"and was {what}"
        )


def _images_can_be_rendered(probe: Probe) -> str:
    """`render` returns images that change when the environment moves."""
    with probe.batch() as env:
        if not (probe.family.can_render and isinstance(env, RendersBatch)):
            raise NotApplicableError("the family renders no images")
        env.reset(probe.generator())
        try:
            first = env.render(0, 0)
        except (NotImplementedError, RuntimeError) as reason:
            raise NotApplicableError(str(reason)) from reason
        is_image = first.ndim == 3 and first.shape[2] == 3 and first.dtype == np.uint8
        require(
            is_image,
            f"an image must be uint8 [height, width, 3], is {first.dtype} of shape {first.shape}",
        )
        for t, action in enumerate(probe.actions(env, probe.num_steps), start=1):
            env.step(action)
            if not np.array_equal(first, env.render(0, 0)):
                return f"images of {first.shape[1]} × {first.shape[0]}, changed at time {t}"
    raise BrokenPromiseError(f"the image stayed the same for {probe.num_steps} steps")


PROMISES: dict[str, Callable[[Probe], str]] = {
    "the family describes itself": _describes_itself,
    "worker processes agree": workers_agree,
    "spaces agree across tasks": _spaces_agree,
    "policies can reach the actions": actions_are_in_reach,
    "a seed determines the tasks": _tasks_follow_the_seed,
    "global generators are not used": _global_generators_are_not_used,
    "splits share the declared tasks": _splits_share_what_is_declared,
    "invalid tasks are rejected": _invalid_tasks_are_rejected,
    "runs are deterministic": runs_are_deterministic,
    "environments are independent": environments_are_independent,
    "resets do not leak": resets_do_not_leak,
    "a single environment agrees": single_environment_agrees,
    "different tasks differ": tasks_matter,
    "pickling keeps the tasks": pickling_keeps_tasks,
    "other tasks can be set": other_tasks_can_be_set,
    "episodes end at the horizon": _episodes_end,
    "the oracle beats random actions": oracle_beats_random,
    "expected rewards are means": expected_rewards_are_means,
    "the declared structure is true": structure_is_true,
    "images can be rendered": _images_can_be_rendered,
}
