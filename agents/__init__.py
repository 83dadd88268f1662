"""Meta-learning agents and the references that they are measured against."""

from metarl.rl.registry import AGENTS

from . import catalog as catalog  # enters the references
from .maml_trpo.agent import MAMLTRPO
from .maml_trpo.config import MAMLTRPOConfig
from .rl2.agent import RL2
from .rl2.config import RL2Config

__all__ = ["AGENTS", "MAMLTRPO", "RL2", "MAMLTRPOConfig", "RL2Config"]
