"""Task families: distributions over tasks, and what one task is."""

from metarl.tasks.family import BatchEnv, Step, TaskFamily

__all__ = ["BatchEnv", "Step", "TaskFamily"]
