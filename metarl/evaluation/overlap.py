"""How many of the tasks of an evaluation are training tasks."""

from __future__ import annotations

from metarl.tasks.family import SharedTasks, TaskFamily
from metarl.tasks.registry import make_family

__all__ = ["OVERLAP_WORDS", "overlap_of", "read_overlap", "registered_overlap"]

OVERLAP_WORDS: dict[SharedTasks, str] = {
    "none": "",
    "some": "some are training tasks",
    "all": "the same tasks as in training",
}
"""How tasks are related to the training tasks, for tables."""


def overlap_of(family: TaskFamily, split: str) -> SharedTasks:
    """How many of the tasks of a split are training tasks."""
    return "all" if split == "train" else family.shared_tasks


def registered_overlap(environment: str, split: str) -> SharedTasks:
    """The same for a family by its id; none if the family is unknown here."""
    try:
        return overlap_of(make_family(environment), split)
    except (ValueError, ImportError):
        return "none"


def read_overlap(stored: object) -> SharedTasks | None:
    """The stored value; None in files of earlier versions.

    Raises:
        ValueError: if it is another value.
    """
    if stored not in (None, "none", "some", "all"):
        raise ValueError(f"shared_tasks must be none, some or all, got {stored!r}")
    return stored
