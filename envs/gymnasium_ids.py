"""Every family under a Gymnasium id, "metarl/Family-v0", and what such an id makes.

Registering imports nothing: ids name their functions as strings.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import gymnasium

from metarl.gymnasium_env import TaskEnv
from metarl.tasks import TaskFamily
from metarl.vector_env import TaskVectorEnv

if TYPE_CHECKING:
    from metarl.sb3_env import TaskVecEnv

__all__ = ["as_sb3_vec_env", "gymnasium_id", "make_env", "make_vector_env", "register_gymnasium_id"]


def gymnasium_id(name: str) -> str:
    """The id of a family: `gymnasium.make` takes it, with `variant=`.

    >>> gymnasium_id("Navigation2D")
    'metarl/Navigation2D-v0'

    Raises:
        ValueError: if Gymnasium could not read the name.
    """
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(f"name must hold letters, digits, '_', '-' and '.' only, got {name!r}")
    return f"metarl/{name}-v0"


def register_gymnasium_id(name: str) -> None:
    """Make a registered family known to Gymnasium; a second time does nothing."""
    env_id = gymnasium_id(name)
    if env_id not in gymnasium.registry:
        gymnasium.register(
            env_id,
            entry_point=f"{__name__}:make_env",
            vector_entry_point=f"{__name__}:make_vector_env",
            max_episode_steps=None,  # the family truncates its episodes itself
            kwargs={"family": name},
        )


def make_env(family: str, *, variant: str | None = None, **settings: Any) -> TaskEnv:
    """One environment of a family, as `gymnasium.make("metarl/Family-v0", variant=…)` makes it.

    Args:
        family: the family's name.
        variant: of the family; there is no default.
        settings: of `TaskEnv`: split, task, render_mode.

    Raises:
        ValueError: if the family or the variant is unknown, or a setting does not fit.
    """
    return TaskEnv(_family(family, variant), **settings)


def make_vector_env(
    family: str, num_envs: int, *, variant: str | None = None, **settings: Any
) -> TaskVectorEnv:
    """Environments of a family in one, as `gymnasium.make_vec` makes them.

    Args:
        family: the family's name.
        num_envs: number of environments.
        variant: of the family; there is no default.
        settings: of `TaskVectorEnv`: tasks, split, device, autoreset_mode, render_mode.

    Raises:
        ValueError: if the family or the variant is unknown, or a setting does not fit.
    """
    return TaskVectorEnv(_family(family, variant), num_envs, **settings)


def as_sb3_vec_env(family: TaskFamily | str, num_envs: int, **settings: Any) -> TaskVecEnv:
    """Environments of a family for the agents of Stable-Baselines3.

    Args:
        family: a task family, or its id, e.g. "Navigation2D:maml17".
        num_envs: number of environments.
        settings: of `metarl.sb3_env.as_sb3_vec_env`: tasks, split, seed, device, render_mode.

    Raises:
        ImportError: without Stable-Baselines3 (`pip install stable-baselines3`).
        ValueError: if the id is unknown or a setting does not fit.
    """
    from metarl import sb3_env

    from .catalog import make_family

    chosen = make_family(family) if isinstance(family, str) else family
    return sb3_env.as_sb3_vec_env(chosen, num_envs, **settings)


def _family(name: str, variant: str | None) -> TaskFamily:
    from .catalog import FAMILIES, make_family  # the catalog registers its ids here

    if not variant:
        choices = ", ".join(FAMILIES.get(name).variants)
        raise ValueError(f"variant of {name} must be given, one of {choices}")
    return make_family(f"{name}:{variant}")
