"""Which task families there are; nothing is imported until a family is made."""

from __future__ import annotations

from metarl.known_task import KnownTask
from metarl.registry import Entry, Registry
from metarl.suggestions import unknown_name
from metarl.tasks import TaskFamily

__all__ = ["FAMILIES", "make_family"]

FAMILIES = Registry(
    "environment",
    (
        Entry(
            "Navigation2D",
            "metarl.envs.navigation:Navigation2D",
            "a point in the plane walks to a hidden goal",
            ("maml17",),
        ),
        Entry(
            "HalfCheetahVel",
            "metarl.envs.half_cheetah:HalfCheetahVel",
            "a planar runner on MuJoCo keeps a hidden target velocity",
            ("maml17", "promp"),
        ),
    ),
)


def make_family(family_id: str) -> TaskFamily:
    """The task family of an id "Family:variant"; with "+task" behind it, the task is observed.

    >>> make_family("Navigation2D:maml17").horizon
    100

    Raises:
        ValueError: if the family or the variant is unknown, or no variant is named: one name
            stands for several tasks in the literature, so there is no default.
    """
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
    family: TaskFamily = FAMILIES.load(name)(variant)
    return KnownTask(family) if plus else family
