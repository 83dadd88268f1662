"""RL²: a policy with a memory that learns within a trial."""

from .agent import RL2
from .config import RL2Config

__all__ = ["RL2", "RL2Config"]
