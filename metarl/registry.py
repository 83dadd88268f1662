"""Registries: names, one-line descriptions, and where the thing is defined.

An entry is imported when it is asked for, not when it is listed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from metarl.validation import lookup

__all__ = ["Entry", "Registry", "import_module"]


@dataclass(frozen=True)
class Entry:
    """One registered thing."""

    name: str
    entry_point: str | Callable[..., Any]
    """The thing itself, or "module:attribute", imported when it is asked for."""
    description: str
    variants: tuple[str, ...] = ()

    def load(self) -> Any:
        """The registered object.

        Raises:
            ImportError: if its module has nothing of the name, or cannot be imported itself.
        """
        if not isinstance(self.entry_point, str):
            return self.entry_point
        module, attribute = self.entry_point.split(":")
        loaded = importlib.import_module(module)
        if not hasattr(loaded, attribute):
            raise ImportError(f"{self.name}: module {module!r} has no {attribute!r}")
        return getattr(loaded, attribute)


class Registry:
    """Entries by name."""

    def __init__(self, kind: str, entries: tuple[Entry, ...] = ()) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}
        for entry in entries:
            self.register(entry)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def register(self, entry: Entry) -> None:
        """Add an entry.

        Raises:
            ValueError: if the name is taken or the entry point is not "module:attribute".
        """
        if entry.name in self._entries:
            raise ValueError(f"{self.kind} {entry.name!r} is registered already")
        point = entry.entry_point
        if isinstance(point, str) and point.count(":") != 1:
            raise ValueError(f"entry_point must read 'module:attribute', got {point!r}")
        self._entries[entry.name] = entry

    def get(self, name: str) -> Entry:
        """The entry of this name.

        Raises:
            ValueError: if there is none, with the nearest name.
        """
        return lookup(self.kind, name, self._entries)

    def load(self, name: str) -> Any:
        """The registered object itself."""
        return self.get(name).load()


def import_module(name: str, *, asked_by: str) -> ModuleType:
    """A user's module.

    Args:
        name: as an import statement has it.
        asked_by: the option that named it, as messages begin.

    Raises:
        ValueError: if there is none of the name, or importing it fails in any way.
    """
    if not all(part.isidentifier() for part in name.split(".")) or name.endswith(".py"):
        raise ValueError(
            f"{asked_by} must name a module, as an import statement does, got {name!r}"
        )
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if f"{name}.".startswith(f"{error.name}."):
            raise ValueError(
                f"{asked_by} must name a module that exists, got {name!r}; "
                "it is looked for in the working directory and among installed packages"
            ) from error
        raise ValueError(f"module {name!r} needs what is missing: {error}") from error
    except Exception as error:  # the user's own code may fail in any way
        raise ValueError(f"module {name!r} failed: {type(error).__name__}: {error}") from error
