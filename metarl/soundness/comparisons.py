"""Promises of a task family that are tested by comparing two runs.

See `metarl.soundness.promises` for the others.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.utils import seeding
from torch import Tensor

from metarl.bridges.gymnasium_env import TaskEnv, draw_seed
from metarl.seeding import torch_generator
from metarl.soundness.probe import (
    BrokenPromiseError,
    NotApplicableError,
    Trial,
    kept_step,
    require,
    start_step,
)
from metarl.tasks.actions import ActionLayout
from metarl.tasks.family import BatchEnv, Step
from metarl.tasks.spaces import Tasks, point_of_row

__all__ = [
    "environments_are_independent",
    "expected_rewards_are_means",
    "oracle_beats_random",
    "other_tasks_can_be_set",
    "pickling_keeps_tasks",
    "resets_do_not_leak",
    "runs_are_deterministic",
    "single_environment_agrees",
    "tasks_matter",
]

_MANY_ENVS = 100  # of each task, to average over chance
_DEVIATIONS = 5.0


def runs_are_deterministic(trial: Trial) -> str:
    """The same seed and actions give the same run, bit for bit, in a used batch and a new one."""
    with trial.batch() as env:
        actions = trial.actions(env, trial.num_steps)
        first, again = (trial.steps(env, actions) for _ in range(2))
    _require_equal_runs(first, again, "the second run of the same seed")
    _require_equal_runs(first, trial.run(trial.tasks, actions), "a new batch under the same seed")
    return f"three runs of {trial.num_steps} steps, one in a new batch"


def environments_are_independent(trial: Trial) -> str:
    """Other actions in one environment change no other."""
    with trial.batch() as env:
        actions = trial.actions(env, trial.num_steps)
        changed = [action.clone() for action in actions]
        others = torch.ones(trial.shape, dtype=torch.bool)
        others[0, 0] = False
        for action, other in zip(changed, reversed(actions), strict=True):
            action[0, 0] = other[1, -1]
        first, second = (trial.steps(env, chosen) for chosen in (actions, changed))
    what = "a run in which task 0, environment 0 acted otherwise"
    _require_equal_runs(first, second, what, others)
    return f"{trial.num_steps} steps with other actions in one environment"


def resets_do_not_leak(trial: Trial) -> str:
    """A reset of some environments begins theirs anew and leaves the others as they were."""
    none = torch.zeros(trial.shape, dtype=torch.bool)
    chosen = none.clone()
    chosen[:, 0] = True
    when = middle(trial)
    with trial.batch() as env:
        actions = trial.actions(env, when + trial.num_steps)
        idle, part, whole = (
            _interrupted(env, trial, actions, when, where) for where in (none, chosen, ~none)
        )
        _require_equal_runs(idle, part, "a run in which environment 0 of each task reset", ~chosen)
        _require_equal_runs(part, whole, "a run in which all environments reset", chosen)
        # Where the steps' own chance does not come in the way, a reset of none must do nothing.
        quiet = trial.steps(env, actions)
        early = _interrupted(env, trial, actions, 0, none)
    if _first_difference(quiet, early) is None:
        _require_equal_runs(quiet, idle, f"a run with a reset of no environment at time {when}")
    return f"environment 0 of each task reset at time {when}, {trial.num_steps} steps beyond"


def middle(trial: Trial) -> int:
    """A time within episodes, early enough for a quick check."""
    return max(1, min(trial.family.horizon // 2, 6))


def _interrupted(
    env: BatchEnv, trial: Trial, actions: list[Tensor], when: int, where: Tensor
) -> list[Step]:
    """A run with a reset of some environments after `when` steps; the first entry is the start."""
    chance = trial.chance("run")
    steps = [start_step(env.reset(chance))]
    for t, action in enumerate(actions):
        if t == when:
            stream = chance.get_state()
            kept = (env.reset(chance, where) == steps[-1].observations).all(-1) | where
            chance.set_state(stream)  # as if the reset had drawn nothing
            require(bool(kept.all()), f"a reset at time {when} changed environments it was not of")
        steps.append(kept_step(env.step(action)))
    return steps


def pickling_keeps_tasks(trial: Trial) -> str:
    """A family and its tasks survive the way to another process."""
    family, tasks = pickle.loads(pickle.dumps((trial.family, trial.tasks)))
    require(family.id == trial.family.id, f"its id became {family.id!r}")
    drawn = family.sample_tasks(len(tasks), seed=trial.seed)
    require(np.array_equal(drawn, trial.tasks), "the unpickled family draws other tasks")
    copy = Trial(family, trial.num_envs, trial.seed, tasks)
    _require_equal_runs(trial.run(trial.tasks), copy.run(tasks), "the unpickled family's run")
    return f"family and {len(tasks)} tasks pickled; {trial.num_steps} steps before and after agree"


def other_tasks_can_be_set(trial: Trial) -> str:
    """Tasks set in a batch are posed as those of a new batch."""
    other = _other_tasks(trial)
    with trial.batch() as env:
        actions = trial.actions(env, trial.num_steps)
        trial.steps(env, actions)
        env.set_tasks(other)
        kept = trial.steps(env, actions)
    _require_equal_runs(trial.run(other, actions), kept, "a batch with the tasks set later")
    return f"{len(other)} tasks set in a used batch against a new batch"


def _other_tasks(trial: Trial) -> Tasks:
    """As many tasks as the trial's, and not the same."""
    for seed in range(trial.seed + 1, trial.seed + 20):
        drawn = trial.family.sample_tasks(len(trial.tasks), seed=seed)
        if not np.array_equal(drawn, trial.tasks):
            return drawn
    return np.roll(trial.tasks, 1, axis=0)


def single_environment_agrees(trial: Trial) -> str:
    """One environment alone, as Gymnasium sees it, gives what a batch gives."""
    row = trial.tasks[-1:]
    with trial.batch(row, num_envs=1) as env:
        actions = trial.actions(env, trial.num_steps)
        # What `TaskEnv.reset` makes of a seed.
        seed = draw_seed(seeding.np_random(trial.seed)[0])
        start = start_step(env.reset(torch_generator(seed, "episode")))
        batch = [start, *(kept_step(env.step(action)) for action in actions)]
    _require_equal_runs(batch, _alone(trial, row, actions), "a single environment of its task")
    if _has_chance(trial):
        return f"{trial.num_steps} steps in a batch of one; chance differs in larger ones"
    many = [action.expand(*trial.shape, *action.shape[2:]) for action in actions]
    last = [Step(*(part[-1:, -1:] for part in s[:4])) for s in trial.run(trial.tasks, many)]
    _require_equal_runs(batch, last, f"the last environment of {trial.size}")
    return f"{trial.num_steps} steps in a batch of one and in one of {trial.size}"


def _alone(trial: Trial, row: Tasks, actions: list[Tensor]) -> list[Step]:
    env = TaskEnv(trial.family, task=point_of_row(trial.family.task_space, row[0]))
    try:
        steps = [start_step(torch.from_numpy(env.reset(seed=trial.seed)[0]).view(1, 1, -1))]
        layout = ActionLayout(trial.family.action_space)
        for action in actions:
            observation, *numbers, _ = env.step(layout.from_row(action[0, 0].numpy()))
            reward, terminated, truncated = (torch.tensor([[number]]) for number in numbers)
            observations = torch.from_numpy(observation).view(1, 1, -1)
            steps.append(Step(observations, reward, terminated, truncated))
        return steps
    finally:
        env.close()


def _has_chance(trial: Trial) -> bool:
    """Whether another seed changes a run under the same actions."""
    with trial.batch() as env:
        actions = trial.actions(env, trial.num_steps)
        first = trial.steps(env, actions)
        other = start_step(env.reset(trial.chance("another run")))
        second = [other, *(kept_step(env.step(action)) for action in actions)]
    return _first_difference(first, second) is not None


def tasks_matter(trial: Trial) -> str:
    """Two tasks differ in reward, end or dynamics under the same chance and actions."""
    rows = np.unique(trial.family.sample_tasks(12, seed=trial.seed), axis=0)
    require(len(rows) > 1, "12 draws gave one task only")
    for kind, num_envs in (("random", 2), ("the oracle's", 2), ("swinging", 1 + 32 // len(rows))):
        differing = _num_differing(trial, rows, kind, num_envs)
        if differing:
            return f"{differing} of {len(rows)} tasks seen to differ from another, {kind} actions"
    raise BrokenPromiseError(
        f"no two of {len(rows)} tasks differed in observation, reward or end, for instance "
        f"{rows[0].tolist()} and {rows[1].tolist()}"
    )


def _num_differing(trial: Trial, rows: Tasks, kind: str, num_envs: int) -> int:
    """How many tasks give other episodes than the next task under the same chance and actions."""
    shown = torch.zeros(len(rows), dtype=torch.bool)
    alive = torch.ones(len(rows), num_envs, dtype=torch.bool)
    others = np.roll(rows, 1, axis=0)
    with trial.batch(rows, num_envs) as one, trial.batch(others, num_envs) as other:
        for env in (one, other):
            env.reset(trial.chance("differ"))
        for t, actions in enumerate(_actions(trial, one, kind)):
            step, second = one.step(actions), other.step(actions)
            shown |= (_differences(step, second) & alive).any(1)
            alive &= ~(step.terminated | step.truncated)
            enough = shown.all() if t < trial.num_steps else shown.any()
            if bool(enough) or not bool(alive.any()):
                break
    return int(shown.sum())


def oracle_beats_random(trial: Trial) -> str:
    """The oracle earns more than uniform random actions."""
    num_tasks = max(4, min(20, 2000 // trial.family.horizon))
    tasks = trial.family.sample_tasks(num_tasks, seed=trial.seed)
    with trial.batch(tasks) as env:
        env.reset(trial.chance())
        if env.oracle_actions() is None:
            raise NotApplicableError("the family has no oracle")
        best, chance = (_mean_return(trial, env, kind) for kind in ("the oracle's", "random"))
    require(best > chance, f"the oracle earned {best:.3g}, random actions {chance:.3g}")
    return f"mean return {best:.3g} against {chance:.3g} on {len(tasks)} tasks"


def expected_rewards_are_means(trial: Trial) -> str:
    """The expectations that steps tell are the means of the rewards, task by task."""
    if trial.run(trial.tasks)[-1].expected_rewards is None:
        raise NotApplicableError("the family does not tell the means of its rewards")
    with trial.batch(num_envs=_MANY_ENVS) as env:
        _, *steps = trial.steps(env, trial.actions(env, trial.num_steps))
    told = [step.expected_rewards for step in steps if step.expected_rewards is not None]
    noise = torch.stack([s.rewards for s in steps]) - torch.stack(told)  # [T, N, E]
    for task, values in enumerate(noise.double().transpose(0, 1).flatten(1)):
        bound = _DEVIATIONS * float(values.std()) / len(values) ** 0.5 + 1e-5
        require(
            abs(float(values.mean())) <= bound,
            f"rewards of task {task} are {float(values.mean()):+.3g} from what was expected, on "
            f"average over {len(values)} steps; chance explains {bound:.3g}",
        )
    return f"{noise.numel()} steps of {len(trial.tasks)} tasks"


def _mean_return(trial: Trial, env: BatchEnv, kind: str) -> float:
    total = torch.zeros(env.num_tasks, env.num_envs)
    alive = torch.ones_like(total, dtype=torch.bool)
    env.reset(trial.chance())
    for actions in _actions(trial, env, kind):
        step = env.step(actions)
        total += torch.where(alive, step.rewards, 0)
        alive &= ~(step.terminated | step.truncated)
    return float(total.mean())


def _actions(trial: Trial, env: BatchEnv, kind: str) -> Iterable[Tensor]:
    """Actions for an episode that was just reset, one step after the other."""
    if kind == "random":
        return trial.actions(env, env.horizon)
    return _swinging_actions(trial, env) if kind == "swinging" else _oracle_actions(env)


def _oracle_actions(env: BatchEnv) -> Iterator[Tensor]:
    for _ in range(env.horizon):
        actions = env.oracle_actions()
        if actions is None:
            return
        yield actions


def _swinging_actions(trial: Trial, env: BatchEnv) -> Iterator[Tensor]:
    """Each joint swings from end to end in a phase of its own; none where actions are discrete.

    It takes a body further than random actions do, and thereby to what a sparse reward pays for.
    """
    space, lead = env.action_space, (env.num_tasks, env.num_envs)
    if not isinstance(space, spaces.Box) or not space.is_bounded():
        return
    chance = trial.chance("swings")
    swings_per_step = 0.02 + 0.2 * torch.rand(*lead, 1, generator=chance)
    low, high = torch.from_numpy(space.low.ravel()), torch.from_numpy(space.high.ravel())
    phase = torch.rand(*lead, len(low), generator=chance)
    for t in range(env.horizon):
        height = torch.sin(2 * math.pi * (swings_per_step * t + phase))  # in [−1, 1]
        yield low + (high - low) * (1 + height) / 2


def _differences(one: Step, other: Step) -> Tensor:
    """Where two steps differ, bool [N, E]."""
    differs = torch.zeros_like(one.terminated)
    for a, b in _parts(one, other).values():
        differs = differs | _differs(a, b)
    return differs


def _parts(one: Step, other: Step) -> dict[str, tuple[Tensor, Tensor]]:
    """What two steps both have, by name."""
    names, pairs = Step._fields, zip(one, other, strict=True)
    return {
        name: (a, b)
        for name, (a, b) in zip(names, pairs, strict=True)
        if a is not None and b is not None
    }


def _differs(a: Tensor, b: Tensor) -> Tensor:
    return (a != b).reshape(*a.shape[:2], -1).any(-1)


def _require_equal_runs(
    first: list[Step], other: list[Step], what: str, where: Tensor | None = None
) -> None:
    """Bit-equal, in all environments or where the mask [N, E] says."""
    difference = _first_difference(first, other, where)
    if difference is not None:
        raise BrokenPromiseError(f"{difference[0]} differ in {what}: {difference[1]}")


def _first_difference(
    first: list[Step], other: list[Step], where: Tensor | None = None
) -> tuple[str, str] | None:
    """What differs first, when and where; and the two values."""
    for t, (one, second) in enumerate(zip(first, other, strict=True)):
        for name, (a, b) in _parts(one, second).items():
            if a.shape != b.shape:
                return f"shapes of {name} at time {t}", f"{tuple(a.shape)} and {tuple(b.shape)}"
            differs = _differs(a, b) if where is None else _differs(a, b) & where
            if bool(differs.any()):
                task, env = differs.nonzero()[0].tolist()
                values = f"{a[task, env].tolist()} and {b[task, env].tolist()}"
                return f"{name} at time {t} of task {task}, environment {env}", values
    return None
