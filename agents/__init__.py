"""Meta-learners."""

from .catalog import AGENTS
from .maml_trpo import MAMLTRPO
from .maml_trpo_config import MAMLTRPOConfig
from .rl2 import RL2
from .rl2_config import RL2Config

__all__ = ["AGENTS", "MAMLTRPO", "RL2", "MAMLTRPOConfig", "RL2Config"]
