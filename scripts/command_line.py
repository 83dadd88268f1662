"""Command lines from typed configurations; every mistake ends in one sentence and exit code 2."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import itertools
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import tyro

from metarl.devices import keep_freed_memory
from metarl.registry import import_module
from metarl.validation import unknown_name

__all__ = [
    "given_options",
    "choose",
    "fail",
    "import_named_modules",
    "option_names",
    "parse",
    "run",
]


def given_options(arguments: Sequence[str]) -> frozenset[str]:
    """The settings that a command line names, also those it gives at their defaults.

    >>> sorted(given_options(["--out", "a", "--no-first-order", "--hidden_sizes=8"]))
    ['first_order', 'hidden_sizes', 'out']
    """
    words = (word.split("=")[0] for word in arguments if word.startswith("--"))
    names = (word[2:].replace("-", "_") for word in words)
    return frozenset(name.removeprefix("no_") for name in names)


Config = TypeVar("Config")

_UNREAD = {
    r"invalid literal for int\(\) with base 10: (.*)": "a whole number",
    r"could not convert string to float: (.*)": "a number",
}


def run(main: Callable[[Sequence[str]], None]) -> NoReturn:
    """Run a script's main function; what its user did wrong becomes one sentence.

    With METARL_DEBUG set in the environment, the traceback is shown instead.
    """
    keep_freed_memory()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        main(import_named_modules(sys.argv[1:]))
    except BrokenPipeError:
        sys.exit(0)
    except KeyboardInterrupt:
        fail("stopped", code=130)
    except Exception as error:
        if os.environ.get("METARL_DEBUG"):
            raise
        if isinstance(error, FloatingPointError):
            fail(str(error), code=1)
        if isinstance(error, ValueError | TypeError | OSError | ImportError):
            fail(str(error))
        if _is_want_of_memory(error):
            fail(f"there is too little memory, make the net or the batch smaller: {error}", code=1)
        raise
    sys.exit(0)


def _is_want_of_memory(error: Exception) -> bool:
    """Whether memory of the machine or of the device ended it, as torch says it."""
    words = ("allocate memory", "out of memory")
    of_torch = isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    return of_torch or isinstance(error, MemoryError)


def import_named_modules(arguments: Sequence[str]) -> list[str]:
    """Import what `--import MODULE` names, a user's own families for instance; the rest is left.

    Modules are looked for in the working directory first.

    Raises:
        ValueError: if no module is named, there is none of the name, or importing it fails.
    """
    rest, names = [], []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--import":
            names.append(next(remaining, ""))
        elif argument.startswith("--import="):
            names.append(argument.removeprefix("--import="))
        else:
            rest.append(argument)
    if names:
        sys.path.insert(0, str(Path.cwd()))
    for name in names:
        import_module(name, asked_by="--import")
    return rest


def fail(sentence: str, *, code: int = 2) -> NoReturn:
    """Print one sentence on standard error and exit."""
    print(f"metarl: {sentence}", file=sys.stderr)
    sys.exit(code)


def choose(
    kind: str, arguments: Sequence[str], choices: Sequence[str], *, program: str
) -> str | None:
    """The name that comes first on a command line; None after printing the help it asked for.

    Raises:
        ValueError: if the name is unknown, with the nearest choice.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: {program} {kind.upper()} [OPTIONS]\n")
        print(f"{kind.upper()} is one of {', '.join(choices)}.")
        print(f"{program} {kind.upper()} --help lists its options.")
        return None
    if arguments[0] not in choices:
        raise ValueError(unknown_name(kind, arguments[0], choices))
    return arguments[0]


def parse(config_type: type[Config], arguments: Sequence[str], *, program: str) -> Config:
    """The configuration that a command line describes.

    Args:
        config_type: a dataclass; its fields and their documentation are the options.
        arguments: the command line without the program's name.
        program: how the help names the command.

    Returns:
        The configuration. `--help` prints the options and exits.

    Raises:
        ValueError: one sentence about the first mistake.
    """
    _refuse_unknown_options(config_type, arguments)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(config_type, args=list(arguments), prog=program)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ValueError(_one_sentence(said.getvalue(), program)) from None


def option_names(config_type: type[Any]) -> list[str]:
    """All options of a configuration dataclass, nested ones without a prefix."""
    names = []
    for field in dataclasses.fields(config_type):
        nested = field.default_factory if field.default is dataclasses.MISSING else field.default
        if dataclasses.is_dataclass(nested):
            nested_type = nested if isinstance(nested, type) else type(nested)
            names += option_names(nested_type)
        else:
            names.append("--" + field.name.replace("_", "-"))
    return names


def _refuse_unknown_options(config_type: type[Any], arguments: Sequence[str]) -> None:
    known = option_names(config_type)
    accepted = {*known, "--help", *(f"--no-{name[2:]}" for name in known)}
    for argument in arguments:
        name = argument.split("=")[0].replace("_", "-")
        if name.startswith("--") and name not in accepted:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else "; --help lists the options"
            raise ValueError(f"there is no option {argument.split('=')[0]}{hint}")


def _one_sentence(message: str, program: str) -> str:
    """The first paragraph of tyro's framed message, on one line."""
    lines = [line.strip("│╭╮╰╯ ") for line in message.splitlines()]
    body = itertools.dropwhile(_is_ruler, lines[1:])  # a terminal without UTF-8 has one on top
    sentence = " ".join(itertools.takewhile(lambda line: not _is_ruler(line), body))
    sentence = re.sub(r"\.\s+Got errors:.*", "", sentence)
    missing = re.match(r"Missing from [^:]*: (.*)", sentence)
    if missing:
        names = re.findall(r"--[\w-]+(?= [A-Z])", sentence) or missing.group(1).split()[:1]
        return f"{' and '.join(names)} must be given; {program} --help lists the options"
    unread = re.match(r"Error parsing (--[\w-]+): (.*)", sentence)
    if unread:
        return _unread_sentence(*unread.groups())
    return re.sub(r"^Error parsing (?!-)[\w .-]*: ", "", sentence).rstrip(".")


def _unread_sentence(option: str, reason: str) -> str:
    """What should have followed an option, from what Python or tyro says of what did."""
    for pattern, needed in _UNREAD.items():
        if found := re.match(pattern, reason):
            return f"{option} must be {needed}, got {found.group(1).rstrip('.')}"
    return f"{option} must be written as --help shows it: {reason.rstrip('.')}"


def _is_ruler(line: str) -> bool:
    return bool(line) and set(line) <= {"─", "-"}
