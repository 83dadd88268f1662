"""Interface, base classes, settings and problem description of few-shot learners."""
