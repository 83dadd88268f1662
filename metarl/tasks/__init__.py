"""Task families: distributions over tasks, their spaces and their registry."""

from metarl.tasks.family import BatchEnv, Step, TaskFamily

__all__ = ["BatchEnv", "Step", "TaskFamily"]
