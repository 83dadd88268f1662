"""Proof that a task family is sound: what `metarl check` and tests of one's own family run.

Each check tries one promise of the contract in `metarl.tasks.family` and reports what it tried;
a broken promise is shown by its first counterexample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from metarl.soundness.probe import BrokenPromiseError, NotApplicableError, Trial
from metarl.soundness.promises import PROMISES
from metarl.tasks.family import TaskFamily
from metarl.validation import require_at_least

__all__ = ["Check", "check_family", "iterate_checks", "require_sound"]

Outcome = Literal["passed", "failed", "skipped"]


class Check(NamedTuple):
    """One promise, whether it held, and what was tried or the first counterexample."""

    name: str
    outcome: Outcome
    detail: str


def check_family(
    family: TaskFamily, *, num_tasks: int = 4, num_envs: int = 3, seed: int = 0
) -> list[Check]:
    """Try every promise of a task family.

    Args:
        family: the family.
        num_tasks: tasks in each trial, 2 or more.
        num_envs: environments of each task, 2 or more.
        seed: of tasks, initial states and actions, 0 or more.

    Returns:
        One entry for each promise, in a fixed order; an error that the family raises counts as
        broken. If no tasks can be sampled, only an entry about that.

    Raises:
        ValueError: if a number is out of range.
    """
    return list(iterate_checks(family, num_tasks=num_tasks, num_envs=num_envs, seed=seed))


def iterate_checks(
    family: TaskFamily,
    *,
    num_tasks: int = 4,
    num_envs: int = 3,
    seed: int = 0,
    starting: Callable[[str], None] = lambda _: None,
) -> Iterator[Check]:
    """Yield what `check_family` returns, each entry as soon as it is known.

    Args:
        family: the family.
        num_tasks: tasks in each trial, 2 or more.
        num_envs: environments of each task, 2 or more.
        seed: seed of tasks, initial states and actions, 0 or more.
        starting: called with the name of each promise before it is tried.

    Raises:
        ValueError: if a number is out of range.
    """
    require_at_least("num_tasks", num_tasks, 2)
    require_at_least("num_envs", num_envs, 2)
    require_at_least("seed", seed, 0)
    try:
        tasks = family.sample_tasks(num_tasks, seed=seed)
    except Exception as error:
        yield Check("tasks can be drawn", "failed", _in_one_line(error))
        return
    trial = Trial(family, num_envs, seed, tasks)
    for name, check in PROMISES.items():
        starting(name)
        yield _try(name, check, trial)


def require_sound(family: TaskFamily, *, seed: int = 0) -> None:
    """Raise unless every promise holds: `check_family` for a test.

    Raises:
        AssertionError: naming each broken promise with its counterexample.
    """
    broken = [c for c in check_family(family, seed=seed) if c.outcome == "failed"]
    if broken:
        lines = "; ".join(f"{c.name}: {c.detail}" for c in broken)
        raise AssertionError(f"{family.id} is not sound: {lines}")


def _try(name: str, check: Callable[[Trial], str], trial: Trial) -> Check:
    try:
        return Check(name, "passed", check(trial))
    except NotApplicableError as reason:
        return Check(name, "skipped", str(reason))
    except BrokenPromiseError as counterexample:
        return Check(name, "failed", str(counterexample))
    except Exception as error:  # a family under test may fail in any way; the others still run
        return Check(name, "failed", _in_one_line(error))


def _in_one_line(error: Exception) -> str:
    """The error's class and first line; torch adds the frames of its C++ code below that."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
