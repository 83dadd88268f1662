"""Meta-learning agents, and the reference algorithms that they are compared with."""

from typing import TYPE_CHECKING

from metarl.lazy import lazy_attributes
from metarl.rl.registry import AGENTS

if TYPE_CHECKING:
    from .maml_trpo.agent import MAMLTRPO
    from .maml_trpo.config import MAMLTRPOConfig
    from .rl2.agent import RL2
    from .rl2.config import RL2Config

__all__ = ["AGENTS", "MAMLTRPO", "RL2", "MAMLTRPOConfig", "RL2Config"]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "MAMLTRPO": "metarl.agents.maml_trpo.agent",
        "MAMLTRPOConfig": "metarl.agents.maml_trpo.config",
        "RL2": "metarl.agents.rl2.agent",
        "RL2Config": "metarl.agents.rl2.config",
    },
)
