"""Checks of a task family, for `metarl check` and for the tests of custom families.

Each check tests one promise of the contract in `metarl.tasks.family` and reports the number of
cases, or the first counterexample if the promise is broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from metarl.soundness.probe import BrokenPromiseError, NotApplicableError, Probe
from metarl.soundness.promises import PROMISES
from metarl.tasks.family import TaskFamily
from metarl.validation import require_at_least

__all__ = ["Check", "check_family", "iterate_checks", "require_sound"]

Outcome = Literal["passed", "failed", "skipped"]


class Check(NamedTuple):
    """Result for one promise: its outcome, and the tested cases or the first counterexample."""

    name: str
    outcome: Outcome
    detail: str


def check_family(
    family: TaskFamily, *, num_tasks: int = 4, num_envs: int = 3, seed: int = 0
) -> list[Check]:
    """Test every promise of a task family.

    Args:
        family: the family.
        num_tasks: tasks in each probe, 2 or more.
        num_envs: environments of each task, 2 or more.
        seed: seed of tasks, initial states and actions, 0 or more.

    Returns:
        One entry for each promise, in a fixed order; a promise is broken if the family raises an
        error. If tasks cannot be sampled, the only entry is about that; if an environment ends or
        blocks its worker process, the entry about worker processes is the last one.

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
    """Yield the entries of `check_family`, each as soon as it is known.

    Args:
        family: the family.
        num_tasks: tasks in each probe, 2 or more.
        num_envs: environments of each task, 2 or more.
        seed: seed of tasks, initial states and actions, 0 or more.
        starting: called with the name of each promise before its test.

    Raises:
        ValueError: if a number is out of range.
    """
    require_at_least("num_tasks", num_tasks, 2)
    require_at_least("num_envs", num_envs, 2)
    require_at_least("seed", seed, 0)
    try:
        tasks = family.sample_tasks(num_tasks, seed=seed)
    except Exception as error:
        yield Check("tasks can be sampled", "failed", _in_one_line(error))
        return
    probe = Probe(family, num_envs, seed, tasks)
    for name, check in PROMISES.items():
        starting(name)
        try:
            yield _test(name, check, probe)
        except Exception as lost:  # in this process, the environment would end or block the check
            reason = f"{_in_one_line(lost)}; the other promises were not tested"
            yield Check(name, "failed", reason)
            return


def require_sound(family: TaskFamily, *, seed: int = 0) -> None:
    """Raise unless every promise holds, for use in a test.

    Raises:
        AssertionError: with each broken promise and its counterexample.
    """
    broken = [c for c in check_family(family, seed=seed) if c.outcome == "failed"]
    if broken:
        lines = "; ".join(f"{c.name}: {c.detail}" for c in broken)
        raise AssertionError(f"{family.id} is not sound: {lines}")


def _test(name: str, check: Callable[[Probe], str], probe: Probe) -> Check:
    try:
        return Check(name, "passed", check(probe))
    except NotApplicableError as reason:
        return Check(name, "skipped", str(reason))
    except BrokenPromiseError as counterexample:
        return Check(name, "failed", str(counterexample))
    except Exception as error:  # families may fail in any way; the other checks still run
        if getattr(error, "lost_process", False):
            raise
        return Check(name, "failed", _in_one_line(error))


def _in_one_line(error: Exception) -> str:
    """The error's class and first line, without the C++ stack that torch adds."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
