"""Task families, which are distributions over tasks, with their spaces and registry."""

from typing import TYPE_CHECKING

from metarl.lazy import lazy_attributes

if TYPE_CHECKING:
    from metarl.tasks.family import BatchEnv, Step, TaskFamily

__all__ = ["BatchEnv", "Step", "TaskFamily"]

__getattr__, __dir__ = lazy_attributes(
    __name__, dict.fromkeys(("BatchEnv", "Step", "TaskFamily"), "metarl.tasks.family")
)
