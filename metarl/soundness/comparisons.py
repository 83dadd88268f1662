"""Promises of a task family that are tested by comparing two runs.

See `metarl.soundness.promises` for the others.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterable, Iterator
from contextlib import closing

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.utils import seeding
from torch import Tensor

from metarl.bridges.gymnasium_env import TaskEnv, sample_seed
from metarl.seeding import torch_generator
from metarl.soundness.probe import (
    BrokenPromiseError,
    NotApplicableError,
    Probe,
    copy_step,
    require,
    start_step,
)
from metarl.tasks.actions import ActionLayout
from metarl.tasks.family import BatchEnv, Step
from metarl.tasks.spaces import Tasks, row_to_task

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
    "workers_agree",
]

_MANY_ENVS = 100  # per task, for averages
_MAX_DEVIATIONS = 5.0  # standard errors


def runs_are_deterministic(probe: Probe) -> str:
    """Runs with the same seed and actions are bitwise identical, in used and new batches."""
    with probe.batch() as env:
        actions = probe.actions(env, probe.num_steps)
        first, again = (probe.steps(env, actions) for _ in range(2))
    _require_equal_runs(first, again, "the second run of the same seed")
    _require_equal_runs(first, probe.run(probe.tasks, actions), "a new batch under the same seed")
    return f"three runs of {probe.num_steps} steps, one in a new batch"


def workers_agree(probe: Probe) -> str:
    """Worker processes, if the family starts any, give the same run as a single process."""
    if probe.original.without_workers() is probe.original:
        raise NotApplicableError("the family starts no worker processes")
    with closing(probe.original.make_batch(probe.tasks, num_envs=probe.num_envs)) as env:
        actions = probe.actions(env, probe.num_steps)
        run = probe.steps(env, actions)
    _require_equal_runs(probe.run(probe.tasks, actions), run, "worker processes")
    return f"{probe.num_steps} steps in worker processes, compared with a single process"


def environments_are_independent(probe: Probe) -> str:
    """Different actions in one environment do not change the others."""
    with probe.batch() as env:
        actions = probe.actions(env, probe.num_steps)
        changed = [action.clone() for action in actions]
        others = torch.ones(probe.shape, dtype=torch.bool)
        others[0, 0] = False
        for action, other in zip(changed, reversed(actions), strict=True):
            action[0, 0] = other[1, -1]
        first, second = (probe.steps(env, chosen) for chosen in (actions, changed))
    what = "a run with different actions in task 0, environment 0"
    _require_equal_runs(first, second, what, others)
    return f"{probe.num_steps} steps with different actions in one environment"


def resets_do_not_leak(probe: Probe) -> str:
    """A reset of some environments neither changes the others nor depends on them."""
    none = torch.zeros(probe.shape, dtype=torch.bool)
    chosen = none.clone()
    chosen[:, 0] = True
    when = middle_step(probe)
    with probe.batch() as env:
        actions = probe.actions(env, when + probe.num_steps)
        idle, part, whole = (
            _interrupted(env, probe, actions, when, mask) for mask in (none, chosen, ~none)
        )
        _require_equal_runs(idle, part, "a run in which environment 0 of each task reset", ~chosen)
        _require_equal_runs(part, whole, "a run in which all environments reset", chosen)
        # Unless steps use the random stream, a reset of no environment must change nothing.
        quiet = probe.steps(env, actions)
        early = _interrupted(env, probe, actions, 0, none)
    if _first_difference(quiet, early) is None:
        _require_equal_runs(quiet, idle, f"a run with a reset of no environment at time {when}")
    return f"environment 0 of each task reset at time {when}, {probe.num_steps} steps beyond"


def middle_step(probe: Probe) -> int:
    """A time step within episodes, early enough for a quick check."""
    return max(1, min(probe.family.horizon // 2, 6))


def _interrupted(
    env: BatchEnv, probe: Probe, actions: list[Tensor], when: int, mask: Tensor
) -> list[Step]:
    """A run with a reset of the environments in `mask` after `when` steps."""
    generator = probe.generator("run")
    steps = [start_step(env.reset(generator))]
    for t, action in enumerate(actions):
        if t == when:
            stream = generator.get_state()
            unchanged = (env.reset(generator, mask) == steps[-1].observations).all(-1) | mask
            generator.set_state(stream)  # as if the reset had used no random numbers
            require(bool(unchanged.all()), f"a reset at time {when} changed other environments")
        steps.append(copy_step(env.step(action)))
    return steps


def pickling_keeps_tasks(probe: Probe) -> str:
    """A family and its tasks are the same after pickling."""
    family, tasks = pickle.loads(pickle.dumps((probe.family, probe.tasks)))
    require(family.id == probe.family.id, f"the id of the unpickled family is {family.id!r}")
    sampled = family.sample_tasks(len(tasks), seed=probe.seed)
    require(np.array_equal(sampled, probe.tasks), "the unpickled family samples different tasks")
    copy = Probe(family, probe.num_envs, probe.seed, tasks)
    _require_equal_runs(probe.run(probe.tasks), copy.run(tasks), "the unpickled family's run")
    return f"family and {len(tasks)} tasks pickled; {probe.num_steps} steps before and after agree"


def other_tasks_can_be_set(probe: Probe) -> str:
    """Tasks set in a used batch give the same run as in a new batch."""
    other = _other_tasks(probe)
    with probe.batch() as env:
        actions = probe.actions(env, probe.num_steps)
        probe.steps(env, actions)
        env.set_tasks(other)
        run = probe.steps(env, actions)
    _require_equal_runs(probe.run(other, actions), run, "a used batch in which the tasks were set")
    return f"{len(other)} tasks set in a used batch, compared with a new batch"


def _other_tasks(probe: Probe) -> Tasks:
    """As many tasks as the probe has, but different ones."""
    for seed in range(probe.seed + 1, probe.seed + 20):
        sampled = probe.family.sample_tasks(len(probe.tasks), seed=seed)
        if not np.array_equal(sampled, probe.tasks):
            return sampled
    return np.roll(probe.tasks, 1, axis=0)


def single_environment_agrees(probe: Probe) -> str:
    """A single Gymnasium environment gives the same run as a batch."""
    row = probe.tasks[-1:]
    with probe.batch(row, num_envs=1) as env:
        actions = probe.actions(env, probe.num_steps)
        # As in `TaskEnv.reset`.
        seed = sample_seed(seeding.np_random(probe.seed)[0])
        start = start_step(env.reset(torch_generator(seed, "episode")))
        batch = [start, *(copy_step(env.step(action)) for action in actions)]
    _require_equal_runs(batch, _run_single(probe, row, actions), "a single environment of its task")
    if _is_random(probe):
        return f"{probe.num_steps} steps in a batch of one; random numbers differ in larger ones"
    many = [action.expand(*probe.shape, *action.shape[2:]) for action in actions]
    last = [Step(*(part[-1:, -1:] for part in s[:4])) for s in probe.run(probe.tasks, many)]
    _require_equal_runs(batch, last, f"the last environment of {probe.size}")
    return f"{probe.num_steps} steps in a batch of one and in one of {probe.size}"


def _run_single(probe: Probe, row: Tasks, actions: list[Tensor]) -> list[Step]:
    env = TaskEnv(probe.family, task=row_to_task(probe.family.task_space, row[0]))
    try:
        steps = [start_step(torch.from_numpy(env.reset(seed=probe.seed)[0]).view(1, 1, -1))]
        layout = ActionLayout(probe.family.action_space)
        for action in actions:
            observation, *numbers, _ = env.step(layout.from_row(action[0, 0].numpy()))
            reward, terminated, truncated = (torch.tensor([[number]]) for number in numbers)
            observations = torch.from_numpy(observation).view(1, 1, -1)
            steps.append(Step(observations, reward, terminated, truncated))
        return steps
    finally:
        env.close()


def _is_random(probe: Probe) -> bool:
    """Whether another seed changes a run with the same actions."""
    with probe.batch() as env:
        actions = probe.actions(env, probe.num_steps)
        first = probe.steps(env, actions)
        other = start_step(env.reset(probe.generator("another run")))
        second = [other, *(copy_step(env.step(action)) for action in actions)]
    return _first_difference(first, second) is not None


def tasks_matter(probe: Probe) -> str:
    """Tasks differ in observations, rewards or ends with the same seed and actions."""
    rows = np.unique(probe.family.sample_tasks(12, seed=probe.seed), axis=0)
    require(len(rows) > 1, "12 sampled tasks were all the same")
    for kind, num_envs in (("random", 2), ("oracle", 2), ("sinusoidal", 1 + 32 // len(rows))):
        differing = _num_differing(probe, rows, kind, num_envs)
        if differing:
            return f"{differing} of {len(rows)} tasks differ from the next one with {kind} actions"
    raise BrokenPromiseError(
        f"no two of {len(rows)} tasks differed in observation, reward or end, for instance "
        f"{rows[0].tolist()} and {rows[1].tolist()}"
    )


def _num_differing(probe: Probe, rows: Tasks, kind: str, num_envs: int) -> int:
    """Number of tasks with other episodes than the next task, with the same seed and actions."""
    differs = torch.zeros(len(rows), dtype=torch.bool)
    alive = torch.ones(len(rows), num_envs, dtype=torch.bool)
    others = np.roll(rows, 1, axis=0)
    with probe.batch(rows, num_envs) as one, probe.batch(others, num_envs) as other:
        for env in (one, other):
            env.reset(probe.generator("differ"))
        for t, actions in enumerate(_actions(probe, one, kind)):
            step, second = one.step(actions), other.step(actions)
            differs |= (_differences(step, second) & alive).any(1)
            alive &= ~(step.terminated | step.truncated)
            is_decided = differs.all() if t < probe.num_steps else differs.any()
            if bool(is_decided) or not bool(alive.any()):
                break
    return int(differs.sum())


def oracle_beats_random(probe: Probe) -> str:
    """The oracle has a higher mean return than uniform random actions."""
    num_tasks = max(4, min(20, 2000 // probe.family.horizon))
    tasks = probe.family.sample_tasks(num_tasks, seed=probe.seed)
    with probe.batch(tasks) as env:
        env.reset(probe.generator())
        if env.oracle_actions() is None:
            raise NotApplicableError("the family has no oracle")
        best, random = (_mean_return(probe, env, kind) for kind in ("oracle", "random"))
    require(best > random, f"the oracle has mean return {best:.3g}, random actions {random:.3g}")
    return f"mean return {best:.3g}, random actions {random:.3g}, on {len(tasks)} tasks"


def expected_rewards_are_means(probe: Probe) -> str:
    """The expected rewards of steps are the means of the rewards, task by task."""
    if probe.run(probe.tasks)[-1].expected_rewards is None:
        raise NotApplicableError("the family does not provide expected rewards")
    with probe.batch(num_envs=_MANY_ENVS) as env:
        _, *steps = probe.steps(env, probe.actions(env, probe.num_steps))
    expected = [step.expected_rewards for step in steps if step.expected_rewards is not None]
    noise = torch.stack([s.rewards for s in steps]) - torch.stack(expected)  # [T, N, E]
    for task, values in enumerate(noise.double().transpose(0, 1).flatten(1)):
        bound = _MAX_DEVIATIONS * float(values.std()) / len(values) ** 0.5 + 1e-5
        require(
            abs(float(values.mean())) <= bound,
            f"rewards of task {task} differ from expected_rewards by {float(values.mean()):+.3g} "
            f"on average over {len(values)} steps, more than the {bound:.3g} that noise explains",
        )
    return f"{noise.numel()} steps of {len(probe.tasks)} tasks"


def _mean_return(probe: Probe, env: BatchEnv, kind: str) -> float:
    total = torch.zeros(env.num_tasks, env.num_envs, dtype=torch.float32)
    alive = torch.ones_like(total, dtype=torch.bool)
    env.reset(probe.generator())
    for actions in _actions(probe, env, kind):
        step = env.step(actions)
        total += torch.where(alive, step.rewards, 0)
        alive &= ~(step.terminated | step.truncated)
    return float(total.mean())


def _actions(probe: Probe, env: BatchEnv, kind: str) -> Iterable[Tensor]:
    """Actions for one episode after a reset, step by step."""
    if kind == "random":
        return probe.actions(env, env.horizon)
    return _sinusoidal_actions(probe, env) if kind == "sinusoidal" else _oracle_actions(env)


def _oracle_actions(env: BatchEnv) -> Iterator[Tensor]:
    for _ in range(env.horizon):
        actions = env.oracle_actions()
        if actions is None:
            return
        yield actions


def _sinusoidal_actions(probe: Probe, env: BatchEnv) -> Iterator[Tensor]:
    """Actions that oscillate between their bounds with random phases; none if not a bounded Box.

    They move a robot further than random actions do, which can reveal sparse rewards.
    """
    space, batch_shape = env.action_space, (env.num_tasks, env.num_envs)
    if not isinstance(space, spaces.Box) or not space.is_bounded():
        return
    generator = probe.generator("swings")
    cycles_per_step = 0.02 + 0.2 * torch.rand(
        *batch_shape, 1, generator=generator, dtype=torch.float32
    )
    low, high = torch.from_numpy(space.low.ravel()), torch.from_numpy(space.high.ravel())
    phase = torch.rand(*batch_shape, len(low), generator=generator, dtype=torch.float32)
    for t in range(env.horizon):
        wave = torch.sin(2 * math.pi * (cycles_per_step * t + phase))  # in [−1, 1]
        yield low + (high - low) * (1 + wave) / 2


def _differences(one: Step, other: Step) -> Tensor:
    """Which environments differ between two steps, bool [N, E]."""
    differs = torch.zeros_like(one.terminated)
    for a, b in _parts(one, other).values():
        differs = differs | _differs(a, b)
    return differs


def _parts(one: Step, other: Step) -> dict[str, tuple[Tensor, Tensor]]:
    """The fields that both steps have, by name."""
    names, pairs = Step._fields, zip(one, other, strict=True)
    return {
        name: (a, b)
        for name, (a, b) in zip(names, pairs, strict=True)
        if a is not None and b is not None
    }


def _differs(a: Tensor, b: Tensor) -> Tensor:
    return (a != b).reshape(*a.shape[:2], -1).any(-1)


def _require_equal_runs(
    first: list[Step], other: list[Step], what: str, mask: Tensor | None = None
) -> None:
    """Require bitwise equal runs, in all environments or only where the mask [N, E] is true."""
    difference = _first_difference(first, other, mask)
    if difference is not None:
        raise BrokenPromiseError(f"{difference[0]} differ in {what}: {difference[1]}")


def _first_difference(
    first: list[Step], other: list[Step], mask: Tensor | None = None
) -> tuple[str, str] | None:
    """The first difference as field, time and environment, and the two values; None if equal."""
    for t, (one, second) in enumerate(zip(first, other, strict=True)):
        for name, (a, b) in _parts(one, second).items():
            if a.shape != b.shape:
                return f"shapes of {name} at time {t}", f"{tuple(a.shape)} and {tuple(b.shape)}"
            differs = _differs(a, b) if mask is None else _differs(a, b) & mask
            if bool(differs.any()):
                task, env = differs.nonzero()[0].tolist()
                values = f"{a[task, env].tolist()} and {b[task, env].tolist()}"
                return f"{name} at time {t} of task {task}, environment {env}", values
    return None
