"""Registries: names, one-line descriptions, and where each object is defined.

An entry is imported when it is loaded, not when it is listed. A registry with an entry-point group
also knows the entries of installed packages: they are imported at the first lookup, this
distribution's own first, so that no other package can take a built-in name.
"""

from __future__ import annotations

import importlib
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

from metarl.locations import describe_error
from metarl.validation import short_repr, unknown_name

__all__ = [
    "LEARNER_PREFIX",
    "Entry",
    "PluginFailure",
    "Registry",
    "UnknownEntryError",
    "import_module",
]

_LOGGER = logging.getLogger("metarl")
LEARNER_PREFIX = "fewshot-"
"""Prefix of few-shot learners in runs and checkpoints; registered names cannot begin with it."""
_SLOW_SECONDS = 3.0  # after which the import of a package is reported
_OWN_PACKAGE = "metarl"  # the top-level package of built-in entry points


class UnknownEntryError(ValueError):
    """No entry has the name; a module that registers it may not have been imported."""


@dataclass(frozen=True)
class Entry:
    """One registered object."""

    name: str
    entry_point: str | Callable[..., Any]
    """The object itself, or "module:attribute", imported when it is loaded."""
    description: str
    variants: tuple[str, ...] = ()

    def load(self) -> Any:
        """The registered object.

        Raises:
            ImportError: if its module cannot be imported or lacks the attribute.
        """
        if not isinstance(self.entry_point, str):
            return self.entry_point
        module, attribute = self.entry_point.split(":")
        try:
            loaded = importlib.import_module(module)
        except ModuleNotFoundError as error:
            message = f"{self.name} needs a module that is not installed: {error}"
            raise ModuleNotFoundError(message, name=error.name) from error
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit must not end a command that lists many entries
            reason = f"{type(error).__name__}: {error}"
            raise ImportError(f"{self.name}: module {module!r} failed ({reason})") from error
        if not hasattr(loaded, attribute):
            raise ImportError(f"{self.name}: module {module!r} has no {attribute!r}")
        return getattr(loaded, attribute)


@dataclass(frozen=True)
class PluginFailure:
    """An installed package whose entries could not be imported."""

    package: str
    group: str
    reason: str
    names: tuple[str, ...] = ()
    """Entries that it had registered before it failed; they are removed."""

    def __str__(self) -> str:
        return (
            f"package {self.package!r} could not be loaded ({self.reason}); repair or uninstall it"
        )


class Registry:
    """Entries by name."""

    def __init__(
        self, kind: str, entries: tuple[Entry, ...] = (), *, group: str | None = None
    ) -> None:
        """
        Args:
            kind: name of the kind of entries in error messages.
            entries: initial entries.
            group: entry-point group of the packages that register here, built-in ones included.
        """
        self.kind = kind
        self._entries: dict[str, Entry] = {}
        self._plugins = None if group is None else _plugins_of(group)
        if self._plugins is not None:
            self._plugins.registries.append(self)
        for entry in entries:
            self.register(entry)

    def __iter__(self) -> Iterator[Entry]:
        self._load_plugins()
        return iter(tuple(self._entries.values()))

    def __contains__(self, name: str) -> bool:
        self._load_plugins()
        return name in self._entries

    @property
    def failures(self) -> tuple[PluginFailure, ...]:
        """Installed packages that could not be loaded."""
        self._load_plugins()
        return () if self._plugins is None else tuple(self._plugins.failures)

    def register(self, entry: Entry) -> None:
        """Add an entry.

        Raises:
            TypeError: if its name or its description is not a text.
            ValueError: if the name is taken or has other characters, or the entry point is not
                "module:attribute".
        """
        _require_text(f"name of the {self.kind}", entry.name)
        if not re.fullmatch(r"[\w.+-]+", entry.name) or entry.name.startswith(LEARNER_PREFIX):
            raise ValueError(
                f"name of the {self.kind} must hold letters, digits, '_', '-', '+' and '.' only "
                f"and not begin with {LEARNER_PREFIX}, got {entry.name!r}"
            )
        _require_text(f"description of {self.kind} {entry.name!r}", entry.description)
        if self._plugins is not None:
            self._plugins.load_own()  # else the built-in entry would find its name taken
        if entry.name in self._entries:
            raise ValueError(f"{self.kind} {entry.name!r} is registered already")
        point = entry.entry_point
        if isinstance(point, str) and point.count(":") != 1:
            raise ValueError(f"entry_point must read 'module:attribute', got {point!r}")
        self._entries[entry.name] = entry

    def get(self, name: str) -> Entry:
        """The entry of this name.

        Raises:
            ImportError: if the package that registers it could not be loaded.
            ValueError: if there is none; the message has the nearest name and the packages that
                failed.
        """
        self._load_plugins()
        if name in self._entries:
            return self._entries[name]
        if not self.failures:
            raise UnknownEntryError(unknown_name(self.kind, name, self._entries))
        for failure in self.failures:
            if name in failure.names:
                raise ImportError(f"{self.kind} {name!r} is not available: {failure}")
        failed = "; ".join(map(str, self.failures))
        raise UnknownEntryError(f"{unknown_name(self.kind, name, self._entries)}; {failed}")

    def load(self, name: str) -> Any:
        """The registered object itself. Raises as `get` and `Entry.load` do."""
        return self.get(name).load()

    def _load_plugins(self) -> None:
        if self._plugins is not None:
            self._plugins.load()


def _require_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {short_repr(value)}")


class _Plugins:
    """The entry points of one group, each imported once."""

    def __init__(self, group: str) -> None:
        self.registries: list[Registry] = []
        self.failures: list[PluginFailure] = []
        self._group = group
        self._has_own = self._has_others = False

    def load_own(self) -> None:
        """Import the built-in entries; during that import, do nothing."""
        if not self._has_own:
            self._has_own = True
            for point in _points(self._group, own=True):
                point.load()

    def load(self) -> None:
        """Import all entries; a package that fails is reported, and the others are loaded."""
        self.load_own()
        if not self._has_others:
            self._has_others = True
            for point in _points(self._group, own=False):
                self._load_other(point)

    def _load_other(self, point: EntryPoint) -> None:
        before = [(registry, dict(registry._entries)) for registry in self.registries]
        package = point.dist.name if point.dist else point.value
        slow = threading.Timer(
            _SLOW_SECONDS, _LOGGER.warning, ("package %r is still being imported", package)
        )
        slow.daemon = True
        slow.start()
        try:
            with redirect_stdout(sys.stderr):  # keep the package's output out of the command's
                point.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the package's own code may fail in any way
            names: list[str] = []
            for registry, kept in before:
                names += [name for name in registry._entries if name not in kept]
                registry._entries = kept
            reason = f"{type(error).__name__}: {error}".replace("\n", " ")
            failure = PluginFailure(package, self._group, reason, tuple(names))
            self.failures.append(failure)
            _LOGGER.warning("warning: %s", failure)
        finally:
            slow.cancel()


_GROUPS: dict[str, _Plugins] = {}


def _plugins_of(group: str) -> _Plugins:
    """The plug-ins of a group, which several registries may share."""
    return _GROUPS.setdefault(group, _Plugins(group))


def _points(group: str, *, own: bool) -> list[EntryPoint]:
    """The entry points of a group; stale metadata may name one twice."""
    points = {point.value: point for point in entry_points(group=group)}
    return [p for value, p in points.items() if (_top_package(value) == _OWN_PACKAGE) is own]


def _top_package(value: str) -> str:
    return value.partition(":")[0].partition(".")[0].strip()


def import_module(name: str, *, option: str) -> ModuleType:
    """A user's module.

    Args:
        name: dotted name of the module.
        option: the option that names it, for error messages.

    Raises:
        ValueError: if there is no such module, or importing it fails in any way.
    """
    if not all(part.isidentifier() for part in name.split(".")) or name.endswith(".py"):
        raise ValueError(
            f"{option} must be the name of a module, as in an import statement, got {name!r}"
        )
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if f"{name}.".startswith(f"{error.name}."):
            raise ValueError(
                f"{option} must be the name of an existing module, got {name!r}; "
                "the working directory and the installed packages are searched"
            ) from error
        raise ValueError(
            f"module {name!r} needs a module that is not installed: {error}"
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the user's own code may fail in any way
        raise ValueError(f"module {name!r} failed: {describe_error(error)}") from error
