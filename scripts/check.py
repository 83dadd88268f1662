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
from metarl.progress import Activity
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

    The exit code is 1 if a check fails or a package that registers families cannot be loaded, and 2
    if nothing could be checked.
    """

    families: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="FAMILY:VARIANT ...", help_behavior_hint="(required without --all)"),
    ] = ()
    """Task families and their variants, as listed by metarl list envs."""
    all: bool = False
    """Check every registered family and variant."""
    num_tasks: Annotated[int, Ge(2)] = 4
    """Number of tasks in each check, 2 or more."""
    num_envs: Annotated[int, Ge(2)] = 3
    """Number of environments of each task, 2 or more."""
    seed: Seed = 0
    """Seed of tasks, initial states and actions."""

    def check_consistency(self) -> None:
        """Reject settings that contradict one another."""
        super().check_consistency()
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
    with Activity("importing plug-ins", console, prints_lines=False):
        failures = FAMILIES.failures if config.all else ()
        names = family_ids() if config.all else config.families
    for failure in failures:
        console.print(f"FAIL {failure}", soft_wrap=True)
    families, num_failures = [], len(failures)
    for name in names:
        try:
            families.append(_made(name, console))
        except Exception as error:  # a third-party family can raise anything
            if len(config.families) == 1:
                raise
            is_optional = config.all and isinstance(error, ImportError)
            start = (
                f"{name} is skipped:" if is_optional else f"FAIL {name}: {type(error).__name__}:"
            )
            console.print(f"{start} {error}", soft_wrap=True)
            num_failures += not is_optional
    if not families:
        raise ValueError("no family could be checked; see the lines above for the reasons")
    failed = sum(_num_failed(family, config, console) for family in families)
    if failed:
        console.print(f"{failed} check{'s' if failed > 1 else ''} failed", style="red")
    if failed or num_failures:
        sys.exit(1)
    console.print(f"{len(families)} famil{'ies are' if len(families) > 1 else 'y is'} sound")


def _made(name: str, console: Console) -> TaskFamily:
    with Activity(f"creating {name}", console):
        return make_family(name)


def _num_failed(family: TaskFamily, config: CheckConfig, console: Console) -> int:
    """Check one family and print each result at once; the number of failed checks."""
    console.print(family.id, soft_wrap=True)
    failed = 0
    with Activity("tasks can be sampled", console) as activity:
        for check in iterate_checks(
            family,
            num_tasks=config.num_tasks,
            num_envs=config.num_envs,
            seed=config.seed,
            starting=lambda promise: activity(f"testing: {promise}"),
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
