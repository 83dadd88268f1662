"""Meta-learners."""

from .catalog import AGENTS
from .maml_trpo import MAMLTRPO
from .maml_trpo_config import MAMLTRPOConfig

__all__ = ["AGENTS", "MAMLTRPO", "MAMLTRPOConfig"]
