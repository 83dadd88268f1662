"""MAML with a trust region."""

from .agent import MAMLTRPO
from .config import MAMLTRPOConfig

__all__ = ["MAMLTRPO", "MAMLTRPOConfig"]
