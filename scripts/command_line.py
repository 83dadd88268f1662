"""Command lines from typed configurations; every input error ends in one sentence and exit code 2.

tyro parses the arguments and prints the help; `rejected_input` turns its errors into sentences.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import tyro
from tyro import _arguments as tyro_arguments
from tyro import _docstrings as tyro_docstrings
from tyro import _errors as tyro_errors

from metarl.devices import keep_freed_memory
from metarl.locations import describe_error, user_place
from metarl.printable import UNENCODABLE, printable
from metarl.progress import Activity
from metarl.registry import UnknownEntryError, import_module
from metarl.scripts.rejected_input import CommandLine, number_constructors, sentence
from metarl.validation import unknown_name

__all__ = [
    "choose",
    "fail",
    "given_options",
    "import_named_modules",
    "option_names",
    "parse",
    "run",
]

Config = TypeVar("Config")

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # failures of a disk, not errors in the input


def given_options(arguments: Sequence[str]) -> frozenset[str]:
    """Names of the settings on a command line, including settings given at their defaults.

    >>> sorted(given_options(["--out", "a", "--no-first-order", "--hidden_sizes=8"]))
    ['first_order', 'hidden_sizes', 'out']
    """
    words = (word.split("=")[0] for word in arguments if word.startswith("--"))
    names = (word[2:].replace("-", "_") for word in words)
    return frozenset(name.removeprefix("no_") for name in names)


def run(main: Callable[[Sequence[str]], None]) -> NoReturn:
    """Run a script's main function; input errors end in one sentence.

    If METARL_DEBUG is set in the environment, the traceback is shown instead.
    """
    keep_freed_memory()
    _prepare_streams()
    try:
        main(import_named_modules(sys.argv[1:]))
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        sys.exit(0)
    except KeyboardInterrupt:
        fail("stopped", code=130)
    except Exception as error:
        if os.environ.get("METARL_DEBUG"):
            raise
        if isinstance(error, FloatingPointError):
            fail(str(error), code=1)
        if isinstance(error, OSError) and error.errno in _FULL:
            _discard_output()
            place = error.filename or "standard output"
            fail(f"{place} could not be written: {error.strerror}", code=1)
        if isinstance(error, ValueError | TypeError | OSError | ImportError):
            fail(_with_hint(error))
        if isinstance(error, OverflowError):
            fail(f"a number is too large: {_first_line(error)}")
        if _is_out_of_memory(error):
            reason = _first_line(error)
            fail(f"out of memory, use a smaller net or batch: {reason}", code=1)
        if _is_about_an_environment(error):
            fail(f"{_first_line(error)} (METARL_DEBUG=1 shows the traceback)", code=1)
        if user_place(error):  # a user's own code may fail in any way
            fail(describe_error(error), code=1)
        raise
    sys.exit(0)


def _prepare_streams() -> None:
    """Make the three standard streams usable, and print any text to them without an error.

    A closed descriptor would be given to the next file that is opened, which would then receive
    what is printed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, this one
        if getattr(sys, name) is None:
            mode = "r" if number == 0 else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - stays open
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=UNENCODABLE)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it reports a missing cache folder


def _discard_output() -> None:
    """Discard what is still to be printed, which Python would try again at the exit."""
    with contextlib.suppress(OSError, ValueError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)


def _with_hint(error: Exception) -> str:
    """The message of an input error, with its place in the user's code or a hint at --import."""
    if isinstance(error, UnknownEntryError) and "--import" not in " ".join(sys.argv):
        text = str(error)
        start = f"{text} Names" if text.endswith("?") else f"{text}; names"
        return f"{start} of your own modules need --import MODULE"
    place, text = user_place(error), str(error)
    if isinstance(error, OSError) and error.filename and error.strerror:
        text = f"{os.fsdecode(error.filename)}: {error.strerror}"
    return f"{text} ({place})" if place else text


def _is_out_of_memory(error: Exception) -> bool:
    """Whether the machine or the device ran out of memory; torch raises a plain RuntimeError."""
    words = ("allocate memory", "out of memory", "Storage size calculation overflowed")
    by_torch = isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    return by_torch or isinstance(error, MemoryError)


def _is_about_an_environment(error: Exception) -> bool:
    """Whether the environment of a family raised, or the process that steps it died or hung."""
    from metarl.envs.simulators.worker_pool import WorkerError  # after an error, not at the start

    return isinstance(error, WorkerError)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def import_named_modules(arguments: Sequence[str]) -> list[str]:
    """Import each module named by `--import MODULE` and return the other arguments.

    Such a module can register a user's own families. The working directory is searched first.

    Raises:
        ValueError: if no module is named, or it does not exist or cannot be imported.
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
        with Activity(f"importing {name}", prints_lines=False):
            import_module(name, option="--import")
    return rest


def fail(sentence: str, *, code: int = 2) -> NoReturn:
    """Print one sentence on standard error and exit."""
    with contextlib.suppress(OSError):  # a closed terminal; the exit code is still right
        print(f"metarl: {printable(sentence)}", file=sys.stderr)
    sys.exit(code)


def choose(
    kind: str,
    arguments: Sequence[str],
    choices: Mapping[str, str],
    *,
    program: str,
    description: str = "",
) -> str:
    """Return the subcommand given by the first argument.

    Args:
        kind: kind of the subcommands, for the error message.
        arguments: words after the program's name. Without arguments, or with `--help`, the help
            with all subcommands is printed and the program exits.
        choices: a one-line description for each subcommand.
        program: the command's name in its help.
        description: shown above the list; by default it points to the help of the subcommands.

    Raises:
        ValueError: if the name is unknown; the message names the nearest choice.
        UnknownEntryError: the same, if the choices are entries that a module can register.
    """
    names = {_dashed(name): name for name in choices}
    if arguments and _dashed(arguments[0]) in names:
        return names[_dashed(arguments[0])]
    if arguments and arguments[0] not in ("-h", "--help"):
        message = unknown_name(kind, arguments[0], choices)
        raise ValueError(message) if kind == "command" else UnknownEntryError(message)
    commands = tyro.extras.SubcommandApp()
    for name, text in choices.items():
        commands.command(name=name, help=text)(lambda: None)
    described = description or f"{program} {kind.upper()} --help lists the options of each {kind}."
    commands.cli(prog=program, description=described, args=["--help"])
    sys.exit(0)


def _dashed(name: str) -> str:
    """A name as shown in tyro's help."""
    return name.replace("_", "-")


def parse(config_type: type[Config], arguments: Sequence[str], *, program: str) -> Config:
    """Return the configuration that a command line describes.

    Args:
        config_type: a dataclass; its fields and their documentation become the options.
        arguments: words after the program's name.
        program: the command's name in its help.

    Returns:
        The configuration. `--help` prints the options and exits.

    Raises:
        ValueError: one sentence about the first error.
    """
    line = CommandLine(program, option_names(config_type))

    def reject(event: tyro_errors.ParseErrorEvent) -> NoReturn:
        raise ValueError(sentence(event, line)) from None

    try:
        with (
            contextlib.redirect_stderr(io.StringIO()),
            tyro_errors.on_parse_error(reject),
            _help_texts(line.options),
        ):
            return tyro.cli(
                config_type,
                args=list(arguments),
                prog=program,
                registry=number_constructors(line.unread),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ValueError(  # tyro rejects the dataclass itself
            f"{program} cannot offer the settings of {config_type.__name__} as options; "
            "give each field a type that a command line can express"
        ) from None


@contextlib.contextmanager
def _help_texts(options: Sequence[str]) -> Iterator[None]:
    """Show docstrings of fields as paragraphs, and settings by the names of their options.

    tyro would keep the line breaks of the source, and show an empty tuple as "(default: )".
    """
    of_field = tyro_arguments.generate_argument_helptext
    of_class = tyro_docstrings.get_callable_description

    def field_help(argument: Any, *others: Any, **settings: Any) -> Any:
        field, text = argument.field, argument.field.helptext
        text = text() if callable(text) else text
        hint = field.argconf.help_behavior_hint
        if hint is None and field.default == ():
            hint = "(default: none)"
        field = dataclasses.replace(
            field,
            helptext=None if text is None else as_help_text(text, options),
            argconf=dataclasses.replace(field.argconf, help_behavior_hint=hint),
        )
        return of_field(dataclasses.replace(argument, field=field), *others, **settings)

    def class_help(described: Callable[..., Any]) -> str:
        paragraphs = (" ".join(part.split()) for part in of_class(described).split("\n\n"))
        text = "\n\n".join(part for part in paragraphs if part)
        return re.sub(r"`(.*?)`", lambda code: as_help_text(code[1], options), text)

    tyro_arguments.generate_argument_helptext = field_help  # type: ignore[assignment]
    tyro_docstrings.get_callable_description = class_help  # type: ignore[assignment]
    try:
        yield
    finally:
        tyro_arguments.generate_argument_helptext = of_field
        tyro_docstrings.get_callable_description = of_class


def as_help_text(docstring: str, options: Sequence[str]) -> str:
    """The docstring of a setting as help of a command: one paragraph, with names of options.

    >>> as_help_text("Factor on inner_lr,\\n    if above 0.", ["--inner-lr"])
    'Factor on --inner-lr, if above 0.'
    """
    words = {option[2:].replace("-", "_"): option for option in options if "-" in option[2:]}
    text = " ".join(docstring.split()).replace("`", "")
    return re.sub(r"(?<![\w-])\w+(?![\w-])", lambda word: words.get(word[0], word[0]), text)


def option_names(config_type: type[Any]) -> list[str]:
    """All options of a configuration dataclass, nested ones without a prefix."""
    names = []
    for field in dataclasses.fields(config_type):
        if not field.init:
            continue
        nested = field.default_factory if field.default is dataclasses.MISSING else field.default
        if dataclasses.is_dataclass(nested):
            nested_type = nested if isinstance(nested, type) else type(nested)
            names += option_names(nested_type)
        else:
            names.append("--" + _dashed(field.name))
    return names
