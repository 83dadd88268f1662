"""List the agents, references and environments: `metarl list [agents|references|envs]`.

`metarl list envs --markdown` prints the page docs/environments.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from metarl.agents import AGENTS
from metarl.progress import Activity
from metarl.rl.registry import REFERENCES
from metarl.scripts.command_line import parse, run

__all__ = ["ListConfig", "main"]


@dataclass(frozen=True)
class ListConfig:
    """List the agents, the reference algorithms and the environments."""

    what: Annotated[Literal["all", "agents", "references", "envs"], tyro.conf.Positional] = "all"
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
        print(page, end="")
        return
    with Activity("importing plug-ins", prints_lines=False):
        agents, references = tuple(AGENTS), tuple(REFERENCES)
    if config.what in ("all", "agents"):
        print("agents")
        for entry in agents:
            print(f"  {entry.name:10}  {entry.description}")
    if config.what in ("all", "references"):
        print("references (metarl evaluate RUN --references NAME ...)")
        for entry in references:
            print(f"  {entry.name:19}  {entry.description}")
    if config.what in ("all", "envs"):
        with Activity("creating the environments to describe them", prints_lines=False):
            from metarl.scripts.environment_list import environment_lines  # imports torch

            lines = environment_lines()
        print("\n".join(lines))


if __name__ == "__main__":
    run(main)
