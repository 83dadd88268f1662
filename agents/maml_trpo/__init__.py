"""MAML with a trust-region outer step."""

from .agent import MAMLTRPO
from .config import MAMLTRPOConfig

__all__ = ["MAMLTRPO", "MAMLTRPOConfig"]
