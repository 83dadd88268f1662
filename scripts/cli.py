"""The installed command `metarl`: one subcommand per script."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from metarl.scripts.command_line import run
from metarl.validation import unknown_name

__all__ = ["main"]

_COMMANDS = {
    "train": ("train", "train an agent on a task family"),
    "evaluate": ("evaluate", "adapt a trained agent to unseen tasks and measure it"),
    "report": ("report", "write one page about runs: tables, curves, behaviour"),
    "play": ("play", "show an agent on one task, as a picture that moves"),
    "fewshot": ("fewshot", "train and measure a supervised few-shot learner"),
    "list": ("list", "name the agents, references and environments"),
    "check": ("check", "prove a task family sound, your own for instance"),
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
        lines = [f"  {name:{width}}  {text}" for name, (_, text) in _COMMANDS.items()]
        print("usage: metarl COMMAND [OPTIONS]\n\n" + "\n".join(lines))
        print("\nmetarl COMMAND --help lists a command's options.")
        print("--import MODULE before or behind a command makes known what your module registers.")
    elif arguments[0] in _COMMANDS:
        module = importlib.import_module(f"metarl.scripts.{_COMMANDS[arguments[0]][0]}")
        module.main(arguments[1:])
    else:
        raise ValueError(unknown_name("command", arguments[0], _COMMANDS))


if __name__ == "__main__":
    main()
