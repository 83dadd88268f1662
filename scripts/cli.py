"""The installed command `metarl`: one subcommand per script, imported when it is used."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.metadata import version

from metarl.progress import Activity
from metarl.scripts.command_line import choose, run

__all__ = ["dispatch", "main"]

_COMMANDS = {
    "train": "train an agent on a task family",
    "evaluate": "evaluate trained agents and learners on unseen tasks",
    "compare": "compare two agents or few-shot learners on common tasks",
    "report": "write a report page about runs: tables, curves, behavior",
    "play": "show an agent on one task as a video",
    "fewshot": "train and test a supervised few-shot learner",
    "list": "list agents, references, learners, data sets and environments",
    "check": "check that task families, such as your own, fulfill their contract",
}
_DESCRIPTION = (
    "Train, evaluate and compare agents that learn to adapt.\n\n"
    "metarl COMMAND --help lists the options of a command; metarl --version prints the version. "
    "--import MODULE, before or after a command, first imports a Python module, "
    "for example one that registers your own task families."
)


def main() -> None:
    """Entry point of the installed command."""
    run(dispatch)


def dispatch(arguments: Sequence[str]) -> None:
    """Run the subcommand given by the first argument.

    Raises:
        ValueError: if there is no such command.
    """
    if list(arguments) == ["--version"]:
        print(f"metarl {version('metarl-toolkit')}")
        return
    name = choose("command", arguments, _COMMANDS, program="metarl", description=_DESCRIPTION)
    with Activity(f"starting metarl {name}", prints_lines=False):
        command = importlib.import_module(f"metarl.scripts.{name}")
    command.main(arguments[1:])


if __name__ == "__main__":
    main()
