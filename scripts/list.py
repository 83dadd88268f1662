"""List what can be trained and measured, and where: `metarl list [agents|envs|…]`.

`metarl list envs --markdown` prints the page docs/environments.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import tyro

from metarl.agents import AGENTS
from metarl.fewshot.datasets.catalog import DATASETS
from metarl.fewshot.learners.catalog import LEARNERS
from metarl.printable import printable
from metarl.progress import Activity
from metarl.rl.registry import REFERENCES
from metarl.scripts.command_line import parse, run

__all__ = ["ListConfig", "main"]

What: TypeAlias = Literal["all", "agents", "references", "learners", "datasets", "envs"]


@dataclass(frozen=True)
class ListConfig:
    """List agents, reference algorithms, few-shot learners and data sets, and environments."""

    what: Annotated[What, tyro.conf.Positional] = "all"
    """Kind of entries to list."""
    markdown: bool = False
    """Print environments as the page docs/environments.md."""


def main(arguments: Sequence[str]) -> None:
    """The command `metarl list`."""
    config = parse(ListConfig, arguments, program="metarl list")
    if config.markdown:
        if config.what != "envs":
            raise ValueError("--markdown needs envs: metarl list envs --markdown")
        with Activity("creating the environments to describe them", prints_lines=False):
            from metarl.scripts.environment_list import environments_page

            page = environments_page()
        print(printable(page), end="")
        return
    with Activity("importing plug-ins", prints_lines=False):
        agents, references = tuple(AGENTS), tuple(REFERENCES)
    if config.what in ("all", "agents"):
        print("agents")
        for entry in agents:
            print(f"  {entry.name:10}  {printable(entry.description)}")
    if config.what in ("all", "references"):
        print("references (metarl evaluate RUN --references NAME ...)")
        for entry in references:
            print(f"  {entry.name:19}  {printable(entry.description)}")
    if config.what in ("all", "learners", "datasets"):
        with Activity("importing plug-ins", prints_lines=False):
            registered = {"learners": tuple(LEARNERS), "datasets": tuple(DATASETS)}
        for what, heading in (
            ("learners", "few-shot learners (metarl fewshot NAME)"),
            ("datasets", "few-shot data sets (metarl fewshot LEARNER --dataset NAME)"),
        ):
            if config.what in ("all", what):
                print(heading)
                for entry in registered[what]:
                    print(f"  {entry.name:20}  {printable(entry.description)}")
    if config.what in ("all", "envs"):
        with Activity("creating the environments to describe them", prints_lines=False):
            from metarl.scripts.environment_list import environment_lines  # imports torch

            lines = environment_lines()
        print(printable("\n".join(lines)))


if __name__ == "__main__":
    run(main)
