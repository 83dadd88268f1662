"""One sentence for an unknown name, with the nearest valid choice."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

__all__ = ["known", "unknown_name"]

Value = TypeVar("Value")


def known(kind: str, name: str, choices: Mapping[str, Value]) -> Value:
    """The choice of this name.

    Raises:
        ValueError: if there is none, with the nearest.
    """
    if name not in choices:
        raise ValueError(unknown_name(kind, name, choices))
    return choices[name]


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> str:
    """The error sentence: what is unknown, the nearest match, all choices.

    >>> unknown_name("split", "tets", ["train", "test"])
    "split must be one of train, test, got 'tets'; did you mean 'test'?"
    """
    names = list(choices)
    folded = {choice.casefold(): choice for choice in names}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    hint = f"; did you mean {folded[near[0]]!r}?" if near else ""
    return f"{kind} must be one of {', '.join(names)}, got {name!r}{hint}"
