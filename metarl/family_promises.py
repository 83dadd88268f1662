"""The promises of a task family, each tried by one function; `metarl.family_check` runs them.

A promise returns what it tried. It raises `BrokenPromiseError` with the first counterexample, or
`NotApplicableError` with the reason why the family does not make it.
"""

from __future__ import annotations

import itertools
import pickle
import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from metarl.evaluation import random_actor
from metarl.family_trial import Trial, kept_step
from metarl.task_spaces import check_rows, space_bounds
from metarl.tasks import BatchEnv, RendersBatch, Step, Tasks

__all__ = ["PROMISES", "BrokenPromiseError", "NotApplicableError"]


class BrokenPromiseError(Exception):
    """A counterexample."""


class NotApplicableError(Exception):
    """Why a promise does not apply."""


def _require(condition: bool, counterexample: str) -> None:
    if not condition:
        raise BrokenPromiseError(counterexample)


def _spaces_agree(trial: Trial) -> str:
    """Observations, rewards and ends have the shapes, types and bounds that the spaces say."""
    family = trial.family
    space_bounds(family.task_space)
    with trial.batch() as env:
        for name in ("observation_space", "action_space", "horizon"):
            ours, theirs = getattr(family, name), getattr(env, name)
            _require(ours == theirs, f"{name} is {ours} of the family, {theirs} of its batch")
        _check_observations(trial, env.reset(trial.chance()), "after reset")
        for t, action in enumerate(trial.actions(env, trial.num_steps)):
            step = env.step(action)
            _check_observations(trial, step.observations, f"after step {t}")
            _check_step(trial, step, t)
    return f"{trial.num_steps} random steps of {trial.shape[0]} tasks × {trial.num_envs}"


def _check_observations(trial: Trial, observations: Tensor, when: str) -> None:
    space = trial.family.observation_space
    wanted = (*trial.shape, *space.shape)
    _require(
        observations.shape == wanted and observations.dtype == torch.float32,
        f"observations {when} must be float32 of shape {wanted}, "
        f"got {observations.dtype} of shape {tuple(observations.shape)}",
    )
    for index in np.ndindex(*trial.shape):
        row = observations[index].cpu().numpy()
        _require(
            bool(np.isfinite(row).all()) and space.contains(row),
            f"observation {when} of task {index[0]}, environment {index[1]} lies outside "
            f"{space}: {row.tolist()}",
        )


def _check_step(trial: Trial, step: Step, t: int) -> None:
    kinds = {"rewards": torch.float32, "terminated": torch.bool, "truncated": torch.bool}
    if step.success is not None:
        kinds["success"] = torch.bool
    for name, kind in kinds.items():
        value = getattr(step, name)
        _require(
            value.shape == trial.shape and value.dtype == kind,
            f"{name} of step {t} must be {kind} of shape {trial.shape}, "
            f"got {value.dtype} of shape {tuple(value.shape)}",
        )
    _require(bool(torch.isfinite(step.rewards).all()), f"a reward of step {t} is not finite")


def _tasks_follow_the_seed(trial: Trial) -> str:
    """A seed means the same tasks, another seed others, and all lie in the task space."""
    family, many = trial.family, 50
    for split in family.splits:
        first = family.sample_tasks(many, split=split, seed=trial.seed)
        again = family.sample_tasks(many, split=split, seed=trial.seed)
        _require(np.array_equal(first, again), f"seed {trial.seed} of {split} gave two task sets")
        check_rows(family.task_space, first)
        family.check_tasks(first)
        other = family.sample_tasks(many, split=split, seed=trial.seed + 1)
        _require(
            not np.array_equal(first, other),
            f"seeds {trial.seed} and {trial.seed + 1} of split {split} gave the same tasks",
        )
    return f"{many} tasks of each split, twice and with another seed"


def _nothing_touches_global_chance(trial: Trial) -> str:
    """Sampling, resets and steps leave the global generators as they were."""
    before = _global_states()
    trial.family.sample_tasks(5, seed=trial.seed)
    with trial.batch() as env:
        env.reset(trial.chance())
        for action in trial.actions(env, 3):
            env.step(action)
    for name, state in _global_states().items():
        _require(state == before[name], f"the global generator of {name} was used")
    return "Python's, NumPy's and torch's generators around tasks, reset and 3 steps"


def _global_states() -> dict[str, bytes]:
    return {
        "random": pickle.dumps(random.getstate()),
        "NumPy": pickle.dumps(np.random.get_state()),  # noqa: NPY002 - it must not be used
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


def _splits_are_apart(trial: Trial) -> str:
    """No task is drawn in two splits."""
    family, many = trial.family, 200
    if family.same_tasks_in_splits:
        raise NotApplicableError("the source trains and tests on the same tasks")
    drawn = {s: family.sample_tasks(many, split=s, seed=trial.seed) for s in family.splits}
    for one, other in itertools.combinations(family.splits, 2):
        shared = set(map(tuple, drawn[one])) & set(map(tuple, drawn[other]))
        if shared:
            raise BrokenPromiseError(f"splits {one} and {other} share task {list(min(shared))}")
    return f"{many} tasks of each of {', '.join(family.splits)}"


def _runs_are_deterministic(trial: Trial) -> str:
    """The same seed and actions give the same run, bit for bit."""
    first, again = (trial.run(trial.tasks) for _ in range(2))
    _require_equal_runs(first, again, "the second run of the same seed")
    return f"two runs of {trial.num_steps} steps"


def _require_equal_runs(
    first: list[Step], other: list[Step], what: str, where: Tensor | None = None
) -> None:
    """Bit-equal, in all environments or where the mask [N, E] says."""
    for t, pair in enumerate(zip(first, other, strict=True)):
        for name in ("observations", "rewards", "terminated", "truncated"):
            a, b = (getattr(step, name) for step in pair)
            differs = (a != b).reshape(*a.shape[:2], -1).any(-1)
            if where is not None:
                differs &= where
            if bool(differs.any()):
                task, env = differs.nonzero()[0].tolist()
                raise BrokenPromiseError(
                    f"{name} at time {t} of task {task}, environment {env} differ in {what}: "
                    f"{a[task, env].tolist()} and {b[task, env].tolist()}"
                )


def _environments_are_independent(trial: Trial) -> str:
    """Other actions in one environment change no other."""
    with trial.batch() as env:
        actions = trial.actions(env, trial.num_steps)
        changed = [action.clone() for action in actions]
        others = torch.ones(trial.shape, dtype=torch.bool)
        others[0, 0] = False
        for action, other in zip(changed, reversed(actions), strict=True):
            action[0, 0] = other[1, -1]
        first, second = (trial.steps(env, chosen) for chosen in (actions, changed))
    _require_equal_runs(
        first, second, "a run in which task 0, environment 0 acted otherwise", others
    )
    return f"{trial.num_steps} steps with other actions in one environment"


def _resets_do_not_leak(trial: Trial) -> str:
    """A reset of some environments leaves the others as they were, their clocks included."""
    chosen = torch.zeros(trial.shape, dtype=torch.bool)
    chosen[:, 0] = True
    horizon, when = trial.family.horizon, max(1, min(trial.family.horizon // 2, 10))
    runs = []
    with trial.batch() as env:
        actions = trial.actions(env, horizon + when)
        for where in (torch.zeros_like(chosen), chosen):
            runs.append(_interrupted(env, trial, actions, when, where))
    _require_equal_runs(*runs, "a run in which environment 0 of each task was reset", ~chosen)
    end = _first_end(runs[1][when:])
    cut_early = end is not None and end[1] and end[0] != horizon
    _require(
        not cut_early,
        f"environment 0 of task 0 was reset at time {when} and truncated {end and end[0]} steps "
        f"later, its horizon is {horizon}",
    )
    return f"environment 0 of each task reset at time {when}, compared to time {horizon + when}"


def _first_end(steps: list[Step]) -> tuple[int, bool] | None:
    """When the episode of environment 0 of task 0 ends, from 1, and whether it was cut."""
    for t, step in enumerate(steps, start=1):
        if bool(step.terminated[0, 0]) or bool(step.truncated[0, 0]):
            return t, not bool(step.terminated[0, 0])
    return None


def _interrupted(
    env: BatchEnv, trial: Trial, actions: list[Tensor], when: int, where: Tensor
) -> list[Step]:
    """A run from the first step on, with a reset of some environments after `when` steps."""
    chance = trial.chance("run")
    env.reset(chance)
    steps: list[Step] = []
    for t, action in enumerate(actions):
        if t == when:
            kept = (env.reset(chance, where) == steps[-1].observations).all(-1) | where
            _require(bool(kept.all()), f"a reset at time {when} changed environments it was not of")
        steps.append(kept_step(env.step(action)))
    return steps


def _tasks_matter(trial: Trial) -> str:
    """Two tasks differ in reward, end or dynamics under the same chance and actions."""
    rows = np.unique(trial.family.sample_tasks(12, seed=trial.seed), axis=0)
    _require(len(rows) > 1, "12 draws gave one task only")
    pairs = list(itertools.pairwise(rows))
    differing = sum(_differ(trial, *pair) for pair in pairs)
    _require(
        differing > 0,
        f"no two of {len(rows)} tasks differed in observation, reward or end, for instance "
        f"{rows[0].tolist()} and {rows[1].tolist()}",
    )
    return f"{differing} of {len(pairs)} pairs of tasks seen to differ, over whole episodes"


def _differ(trial: Trial, one: Tasks, other: Tasks) -> bool:
    """Whether two tasks give different episodes under random actions, or the first's oracle's."""
    num_envs = 4
    with trial.batch(one[None], num_envs) as first, trial.batch(other[None], num_envs) as second:
        for guided in (False, True):
            first.reset(trial.chance("differ"))
            second.reset(trial.chance("differ"))
            if guided and first.oracle_actions() is None:
                return False
            actor = random_actor(first, trial.chance("actions"))
            like = torch.zeros(1, num_envs, 1)
            for _ in range(trial.family.horizon):
                chosen = first.oracle_actions() if guided else actor(like)
                assert chosen is not None
                a, b = first.step(chosen), second.step(chosen)
                if any(not torch.equal(x, y) for x, y in zip(a[:3], b[:3], strict=True)):
                    return True
    return False


def _pickling_keeps_tasks(trial: Trial) -> str:
    """A family and its tasks survive the way to another process."""
    family, tasks = pickle.loads(pickle.dumps((trial.family, trial.tasks)))
    _require(family.id == trial.family.id, f"its id became {family.id!r}")
    _require(np.array_equal(tasks, trial.tasks), "its tasks changed")
    copy = Trial(family, trial.num_envs, trial.seed, tasks)
    _require_equal_runs(trial.run(trial.tasks), copy.run(tasks), "the unpickled family's run")
    return f"family and {len(tasks)} tasks pickled; {trial.num_steps} steps before and after agree"


def _other_tasks_can_be_set(trial: Trial) -> str:
    """Tasks set in a batch are posed as those of a new batch."""
    other = trial.family.sample_tasks(len(trial.tasks), seed=trial.seed + 1)
    with trial.batch() as env:
        actions = trial.actions(env, trial.num_steps)
        trial.steps(env, actions)
        env.set_tasks(other)
        kept = trial.steps(env, actions)
    _require_equal_runs(trial.run(other, actions), kept, "a batch with the tasks set later")
    return f"{len(other)} tasks set in a used batch against a new batch"


def _episodes_end(trial: Trial) -> str:
    """Episodes are truncated at the horizon at the latest, and may be stepped on."""
    horizon, ended = trial.family.horizon, torch.zeros(trial.shape, dtype=torch.bool)
    with trial.batch() as env:
        env.reset(trial.chance())
        for t, action in enumerate(trial.actions(env, horizon + 2), start=1):
            step = env.step(action)
            finite = torch.isfinite(step.observations).all() & torch.isfinite(step.rewards).all()
            _require(bool(finite), f"observation or reward at time {t} is not finite")
            if t < horizon:
                early = step.truncated & ~ended
                _require(
                    not bool(early.any()), f"an episode was truncated at {t} of {horizon} steps"
                )
            ended |= step.terminated | step.truncated
            if t == horizon:
                _require(bool(ended.all()), f"an episode goes on after its horizon {horizon}")
    return f"{trial.shape[0]} × {trial.num_envs} episodes and 2 steps beyond horizon {horizon}"


def _oracle_beats_random(trial: Trial) -> str:
    """The oracle earns more than uniform random actions."""
    tasks = trial.family.sample_tasks(20, seed=trial.seed)
    means = []
    with trial.batch(tasks) as env:
        env.reset(trial.chance())
        if env.oracle_actions() is None:
            raise NotApplicableError("the family has no oracle")
        actor = random_actor(env, trial.chance("actions"))
        for guided in (True, False):
            observations = env.reset(trial.chance())
            total = torch.zeros(observations.shape[:2])
            alive = torch.ones_like(total, dtype=torch.bool)
            for _ in range(env.horizon):
                action = env.oracle_actions() if guided else actor(observations)
                assert action is not None
                step = env.step(action)
                total += torch.where(alive, step.rewards, 0)
                alive &= ~(step.terminated | step.truncated)
            means.append(float(total.mean()))
    _require(means[0] > means[1], f"the oracle earned {means[0]:.3g}, random {means[1]:.3g}")
    return f"mean return {means[0]:.3g} against {means[1]:.3g} on {len(tasks)} tasks"


def _pictures_can_be_drawn(trial: Trial) -> str:
    """`render` gives pictures that change when the environment moves."""
    with trial.batch() as env:
        if not isinstance(env, RendersBatch):
            raise NotApplicableError("the family draws no pictures")
        env.reset(trial.chance())
        try:
            first = env.render(0, 0)
        except (NotImplementedError, RuntimeError) as reason:
            raise NotApplicableError(str(reason)) from reason
        for action in trial.actions(env, trial.num_steps):
            env.step(action)
        second = env.render(0, 0)
    right = first.ndim == 3 and first.shape[2] == 3 and first.dtype == np.uint8
    _require(right, f"a picture must be uint8 [height, width, 3], got {first.dtype} {first.shape}")
    _require(not np.array_equal(first, second), "the picture stayed the same over the run")
    return f"pictures of {first.shape[1]} × {first.shape[0]} before and after a run"


PROMISES: dict[str, Callable[[Trial], str]] = {
    "spaces agree across tasks": _spaces_agree,
    "a seed means the same tasks": _tasks_follow_the_seed,
    "global generators are left alone": _nothing_touches_global_chance,
    "splits share no task": _splits_are_apart,
    "runs are deterministic": _runs_are_deterministic,
    "environments are independent": _environments_are_independent,
    "resets do not leak": _resets_do_not_leak,
    "different tasks differ": _tasks_matter,
    "tasks survive pickling": _pickling_keeps_tasks,
    "tasks can be set anew": _other_tasks_can_be_set,
    "episodes end at the horizon": _episodes_end,
    "the oracle beats random actions": _oracle_beats_random,
    "pictures can be drawn": _pictures_can_be_drawn,
}
