"""Compare two agents or few-shot learners: `metarl compare`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from metarl.console import plain_console
from metarl.evaluation.comparable import AnyMetric
from metarl.report.compare import compare
from metarl.report.comparison import print_comparison
from metarl.scripts.command_line import parse, run
from metarl.storage.files import require_output_file

__all__ = ["CompareConfig", "main"]

_SEPARATOR = "vs"


@dataclass(frozen=True)
class CompareConfig:
    """Compare two agents, or two few-shot learners, that were measured by the same protocol.

    A and B are folders of a run or of several seeds that metarl evaluate has measured, or
    evaluation files. Several runs of one side are separated from the other side by the word vs:
    metarl compare runs/maml_0 runs/maml_1 vs runs/rl2_0 runs/rl2_1. On common tasks, differences
    are paired; otherwise the intervals are wider. The table shows, for each stage, both means,
    their difference A − B, and the probability that a run of A is better than a run of B, with
    95 % intervals for new runs and new tasks.
    """

    sides: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="A B", help_behavior_hint="(required)"),
    ]
    """Two runs or evaluation files, or several of each side as A ... vs B ..."""
    metric: AnyMetric | None = None
    """Metric to compare. None: all that were measured for both."""
    json: Path | None = None
    """File for all numbers of the comparison."""

    def __post_init__(self) -> None:
        _ = self.both_sides
        if self.json is not None:
            require_output_file("json", self.json)

    @property
    def both_sides(self) -> tuple[list[str], list[str]]:
        """The words of A and of B.

        Raises:
            ValueError: if there are not two sides.
        """
        words = list(self.sides)
        if words.count(_SEPARATOR) == 1:
            split = words.index(_SEPARATOR)
            a, b = words[:split], words[split + 1 :]
        else:
            a, b = words[:1], words[1:]
        if not a or not b or (len(b) > 1 and _SEPARATOR not in words) or _SEPARATOR in b:
            raise ValueError(
                "metarl compare needs two sides, A B, or A ... vs B ... for several runs of a "
                f"side, got {' '.join(words) or 'none'}"
            )
        return a, b


def main(arguments: Sequence[str]) -> None:
    """The command `metarl compare`."""
    config = parse(CompareConfig, arguments, program="metarl compare")
    console = plain_console()
    for comparison in compare(*config.both_sides, metric=config.metric, json=config.json):
        print_comparison(console, comparison)
    if config.json is not None:
        console.print(f"wrote {config.json}", soft_wrap=True)


if __name__ == "__main__":
    run(main)
