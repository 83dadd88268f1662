"""A memory that learns to learn."""

from .agent import RL2
from .config import RL2Config

__all__ = ["RL2", "RL2Config"]
