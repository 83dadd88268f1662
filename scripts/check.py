"""Prove task families sound: `metarl check FAMILY:VARIANT ...`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console
from rich.text import Text

from metarl.console import plain_console
from metarl.envs import family_ids, make_family
from metarl.scripts.command_line import parse, run
from metarl.soundness.check import Check, check_family
from metarl.tasks.family import TaskFamily
from metarl.validation import require_at_least

__all__ = ["CheckConfig", "main"]

_MARKS = {"passed": ("ok  ", "green"), "failed": ("FAIL", "red"), "skipped": ("–   ", "dim")}


@dataclass(frozen=True)
class CheckConfig:
    """Try every promise of the contract on task families; exit code 1 if one is broken."""

    families: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Families and variants, as `metarl list envs` names them."""
    all: bool = False
    """Every registered family and variant."""
    num_tasks: int = 4
    """Tasks in each trial."""
    num_envs: int = 3
    """Environments of each task."""
    seed: int = 0
    """Of tasks, initial states and actions."""

    def __post_init__(self) -> None:
        require_at_least("num_tasks", self.num_tasks, 2)
        require_at_least("num_envs", self.num_envs, 2)
        require_at_least("seed", self.seed, 0)
        if bool(self.families) == self.all:
            raise ValueError("check must be given families or --all, see metarl list envs")


def main(arguments: Sequence[str]) -> None:
    """The command `metarl check`."""
    config = parse(CheckConfig, arguments, program="metarl check")
    console, broken = plain_console(), 0
    families = _all_families(console) if config.all else list(map(make_family, config.families))
    for family in families:
        console.print(family.id, soft_wrap=True)
        checks = check_family(
            family, num_tasks=config.num_tasks, num_envs=config.num_envs, seed=config.seed
        )
        for check in checks:
            _print(console, check)
        broken += sum(check.outcome == "failed" for check in checks)
    if broken:
        console.print(f"{broken} promise{'s' if broken > 1 else ''} broken", style="red")
        sys.exit(1)
    console.print(f"{len(families)} famil{'ies are' if len(families) > 1 else 'y is'} sound")


def _all_families(console: Console) -> list[TaskFamily]:
    """Every registered family whose package is installed; the others are said to be left out."""
    families = []
    for name in family_ids():
        try:
            families.append(make_family(name))
        except ImportError as missing:
            console.print(f"{name} is left out: {missing}", soft_wrap=True)
    return families


def _print(console: Console, check: Check) -> None:
    console.print(
        Text.assemble("  ", _MARKS[check.outcome], f" {check.name}: {check.detail}"), soft_wrap=True
    )


if __name__ == "__main__":
    run(main)
