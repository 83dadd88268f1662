"""Check that task families fulfill their contract: `metarl check FAMILY:VARIANT ...`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro
from annotated_types import Ge
from rich.console import Console
from rich.text import Text

from metarl.console import plain_console
from metarl.envs import FAMILIES, family_ids, make_family
from metarl.scripts.command_line import parse, run
from metarl.soundness.check import Check, iterate_checks
from metarl.tasks.family import TaskFamily
from metarl.validation import Seed, Settings

__all__ = ["CheckConfig", "main"]

_MAX_ENVIRONMENTS = 10_000
_MARKS = {"passed": ("ok  ", "green"), "failed": ("FAIL", "red"), "skipped": ("–   ", "dim")}


@dataclass(frozen=True)
class CheckConfig(Settings):
    """Check that task families fulfill their contract.

    The exit code is 1 if a check fails or an installed package cannot be loaded, and 2 if nothing
    could be checked.
    """

    families: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Families and variants as listed by `metarl list envs`."""
    all: bool = False
    """Check every registered family and variant."""
    num_tasks: Annotated[int, Ge(2)] = 4
    """Tasks in each run, 2 or more."""
    num_envs: Annotated[int, Ge(2)] = 3
    """Environments of each task, 2 or more."""
    seed: Seed = 0
    """Seed of tasks, initial states and actions."""

    def check_combinations(self) -> None:
        """Reject settings that contradict one another."""
        super().check_combinations()
        if bool(self.families) == self.all:
            raise ValueError("give either families or --all; metarl list envs lists the families")
        if self.num_tasks * self.num_envs > _MAX_ENVIRONMENTS:
            raise ValueError(
                f"num_tasks × num_envs must be {_MAX_ENVIRONMENTS:,} or less, "
                f"got {self.num_tasks} × {self.num_envs}"
            )


def main(arguments: Sequence[str]) -> None:
    """The command `metarl check`."""
    config = parse(CheckConfig, arguments, program="metarl check")
    console = plain_console()
    families, num_failures = list(map(_make, config.families)), 0
    if config.all:
        families, num_failures = _all_families(console)
    if not families:
        raise ValueError("no family could be checked; see the lines above for the reasons")
    failed = sum(_num_failed(family, config, console) for family in families)
    if failed:
        console.print(f"{failed} check{'s' if failed > 1 else ''} failed", style="red")
    if failed or num_failures:
        sys.exit(1)
    console.print(f"{len(families)} famil{'ies are' if len(families) > 1 else 'y is'} sound")


def _make(name: str) -> TaskFamily:
    """The family of an id; an unexpected error of its constructor becomes a ValueError."""
    try:
        return make_family(name)
    except (ValueError, TypeError, ImportError, OSError):  # one sentence each
        raise
    except Exception as error:  # a third-party family may fail in any way
        raise ValueError(f"{name} cannot be created: {type(error).__name__}: {error}") from error


def _all_families(console: Console) -> tuple[list[TaskFamily], int]:
    """Every registered family that can be created, and the number of failures.

    A family whose optional package is missing is skipped; any other error is a failure, and so is
    an installed package that cannot be loaded.
    """
    families, num_failures = [], len(FAMILIES.failures)
    for failure in FAMILIES.failures:
        console.print(f"FAIL {failure}", soft_wrap=True)
    for name in family_ids():
        try:
            families.append(make_family(name))
        except ImportError as missing:
            console.print(f"{name} is skipped: {missing}", soft_wrap=True)
        except Exception as error:  # a third-party family can raise anything
            console.print(f"FAIL {name}: {type(error).__name__}: {error}", soft_wrap=True)
            num_failures += 1
    return families, num_failures


def _num_failed(family: TaskFamily, config: CheckConfig, console: Console) -> int:
    """Check one family and print each result at once; the number of failed checks."""
    console.print(family.id, soft_wrap=True)
    failed = 0
    with console.status("tasks can be sampled") as status:  # shown on a terminal only
        for check in iterate_checks(
            family,
            num_tasks=config.num_tasks,
            num_envs=config.num_envs,
            seed=config.seed,
            starting=status.update,
        ):
            _print(console, check)
            failed += check.outcome == "failed"
    return failed


def _print(console: Console, check: Check) -> None:
    console.print(
        Text.assemble("  ", _MARKS[check.outcome], f" {check.name}: {check.detail}"), soft_wrap=True
    )


if __name__ == "__main__":
    run(main)
