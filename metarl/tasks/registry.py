"""The registry of task families; a family's module is imported on first use."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import gymnasium

from metarl.locations import describe_error
from metarl.registry import Entry, Registry
from metarl.validation import unknown_name

if TYPE_CHECKING:
    from metarl.tasks.family import TaskFamily

__all__ = [
    "FAMILIES",
    "family_ids",
    "make_family",
    "register_family",
    "gymnasium_id",
    "register_gymnasium_id",
]

FAMILIES = Registry("environment", group="metarl.families")


def register_family(
    name: str,
    factory: Callable[[str], TaskFamily] | str,
    *,
    description: str,
    variants: Sequence[str],
) -> None:
    """Register a custom family for `make_family` and the command line.

    It is also registered with Gymnasium as "metarl/NAME-v0".

    Args:
        name: name of the family; letters, digits, '_', '-' and '.' are allowed.
        factory: returns the family of a variant: its class, a function, or "module:attribute",
            which is imported on first use.
        description: one line.
        variants: names of the variants, one or more.

    Raises:
        ValueError: if a name is taken or invalid, there are no variants, or two have the same name.
        TypeError: if `variants` is a string.
    """
    gymnasium_id(name)  # rejects invalid names
    names = _variant_names(name, variants)
    FAMILIES.register(Entry(name, factory, description, names))
    register_gymnasium_id(name)


def _variant_names(family: str, variants: Sequence[str]) -> tuple[str, ...]:
    if isinstance(variants, str):
        raise TypeError(f"variants of {family} must be a sequence of names, got {variants!r}")
    names = tuple(variants)
    if not names:
        raise ValueError(f"variants of {family} must name at least one variant, got none")
    for variant in names:
        if not re.fullmatch(r"[\w.-]+", variant):
            raise ValueError(
                f"variants of {family} must hold letters, digits, '_', '-' and '.' only, "
                f"got {variant!r}"
            )
    if len(set(names)) < len(names):
        raise ValueError(f"variants of {family} must differ, got {', '.join(names)}")
    return names


def family_ids() -> tuple[str, ...]:
    """Return the ids of all registered families and variants, including installed packages."""
    return tuple(f"{entry.name}:{variant}" for entry in FAMILIES for variant in entry.variants)


def make_family(family_id: str) -> TaskFamily:
    """Create the task family of an id "Family:variant"; after "+task", the task is observed.

    >>> make_family("Navigation2D:maml17").horizon
    100

    Raises:
        ValueError: if the family or variant is unknown or the variant is missing (a family's
            variants differ in the literature, so there is no default), or if the family's `name` or
            `variant` differs from the registered one.
        ImportError: if it needs a package that is not installed or could not be loaded.
        TypeError: if the registered factory does not return a `TaskFamily`.
    """
    from metarl.tasks.family import TaskFamily  # imports torch, which a listing does not need
    from metarl.tasks.observed_task import ObservedTaskFamily

    name, _, rest = family_id.partition(":")
    variant, plus, suffix = rest.partition("+")
    entry = FAMILIES.get(name)
    if not variant:
        choices = ", ".join(f"{name}:{v}" for v in entry.variants)
        raise ValueError(f"environment must name its variant, one of {choices}, got {family_id!r}")
    if variant not in entry.variants:
        raise ValueError(unknown_name(f"variant of {name}", variant, entry.variants))
    if plus and suffix != "task":
        raise ValueError(f"only '+task' may follow a variant, got {family_id!r}")
    family = _made(f"{name}:{variant}", entry.load(), variant)
    if not isinstance(family, TaskFamily):
        raise TypeError(f"{name} must give a TaskFamily, got {type(family).__name__}")
    if family.id != f"{name}:{variant}":
        raise ValueError(
            f"the family of {name}:{variant} calls itself {family.id!r}; its `name` and `variant` "
            "must be those it is registered under"
        )
    return ObservedTaskFamily(family) if plus else family


def _made(family_id: str, factory: Callable[[str], TaskFamily], variant: str) -> TaskFamily:
    """The family that a factory returns; an unexpected error names the family."""
    try:
        return factory(variant)
    except (ValueError, ImportError, OSError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit, for instance
        raise TypeError(
            f"the factory of {family_id} failed with {describe_error(error)}"
        ) from error


def gymnasium_id(name: str) -> str:
    """Return the id of a family for `gymnasium.make(id, variant=...)`.

    >>> gymnasium_id("Navigation2D")
    'metarl/Navigation2D-v0'

    Raises:
        ValueError: if the name is invalid in Gymnasium.
    """
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(f"name must hold letters, digits, '_', '-' and '.' only, got {name!r}")
    return f"metarl/{name}-v0"


def register_gymnasium_id(name: str) -> None:
    """Register a family with Gymnasium unless it is already registered."""
    env_id = gymnasium_id(name)
    if env_id not in gymnasium.registry:
        gymnasium.register(
            env_id,
            entry_point="metarl.bridges.makers:make_env",
            vector_entry_point="metarl.bridges.makers:make_vector_env",
            max_episode_steps=None,  # the family truncates its episodes itself
            kwargs={"family": name},
        )
