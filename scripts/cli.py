"""The installed command `metarl`: one subcommand per script."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from metarl.scripts.command_line import run
from metarl.suggestions import unknown_name

__all__ = ["main"]

_COMMANDS = {
    "train": "train an agent on a task family",
    "evaluate": "adapt a trained agent to unseen tasks and measure it",
    "fewshot": "train and measure a supervised few-shot learner",
    "list": "name the agents and environments",
}


def main() -> None:
    """Entry point of the installed command."""
    run(dispatch)


def dispatch(arguments: Sequence[str]) -> None:
    """Run the subcommand that the first argument names.

    Raises:
        ValueError: if there is no such command.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(map(len, _COMMANDS))
        lines = [f"  {name:{width}}  {text}" for name, text in _COMMANDS.items()]
        print("usage: metarl COMMAND [OPTIONS]\n\n" + "\n".join(lines))
        print("\nmetarl COMMAND --help lists a command's options.")
    elif arguments[0] == "list":
        if arguments[1:]:
            raise ValueError(f"list takes no arguments, got {arguments[1]!r}")
        list_registered()
    elif arguments[0] in _COMMANDS:
        module = importlib.import_module(f"metarl.scripts.{arguments[0]}")
        module.main(arguments[1:])
    else:
        raise ValueError(unknown_name("command", arguments[0], _COMMANDS))


def list_registered() -> None:
    """One line for each agent and each variant of each environment."""
    from metarl.agents import AGENTS
    from metarl.envs import FAMILIES, make_family

    print("agents")
    for entry in AGENTS:
        print(f"  {entry.name:22} {entry.description}")
    print("environments")
    for entry in FAMILIES:
        for variant in entry.variants:
            family = make_family(f"{entry.name}:{variant}")
            print(f"  {family.id:22} {entry.description}: {family.description}")


if __name__ == "__main__":
    main()
