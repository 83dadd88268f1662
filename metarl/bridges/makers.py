"""Functions that create environments from the id of a family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from metarl.bridges.gymnasium_env import TaskEnv
from metarl.bridges.vector_env import TaskVectorEnv
from metarl.tasks.family import TaskFamily

if TYPE_CHECKING:
    from metarl.bridges.sb3_env import TaskVecEnv

__all__ = ["as_sb3_vec_env", "make_env", "make_vector_env"]


def make_env(family: str, *, variant: str | None = None, **settings: Any) -> TaskEnv:
    """One environment of a family, as `gymnasium.make("metarl/Family-v0", variant=…)` creates it.

    Args:
        family: the family's name.
        variant: variant of the family; required.
        settings: arguments of `TaskEnv`: split, task, render_mode.

    Raises:
        ValueError: if the family or the variant is unknown, or a setting does not fit.
    """
    return TaskEnv(_family(family, variant), **settings)


def make_vector_env(
    family: str,
    num_envs: int,
    *,
    variant: str | None = None,
    max_episode_steps: int | None = None,
    **settings: Any,
) -> TaskVectorEnv:
    """A vector environment of a family, as `gymnasium.make_vec` creates it.

    Args:
        family: the family's name.
        num_envs: number of environments.
        variant: variant of the family; required.
        max_episode_steps: None or the family's horizon, as in the specification of an environment.
        settings: arguments of `TaskVectorEnv`: tasks, split, device, autoreset_mode, render_mode.

    Raises:
        ValueError: if the family or the variant is unknown, or a setting does not fit.
    """
    made = _family(family, variant)
    if max_episode_steps not in (None, made.horizon):
        raise ValueError(
            f"max_episode_steps must be {made.horizon}, the horizon of {made.id}, got "
            f"{max_episode_steps}; vectorization_mode='sync' allows others"
        )
    return TaskVectorEnv(made, num_envs, **settings)


def as_sb3_vec_env(family: TaskFamily | str, num_envs: int, **settings: Any) -> TaskVecEnv:
    """Environments of a family for the agents of Stable-Baselines3.

    Args:
        family: a task family, or its id, e.g. "Navigation2D:maml17".
        num_envs: number of environments.
        settings: arguments of `metarl.bridges.sb3_env.as_sb3_vec_env`: tasks, split, seed,
            device, render_mode.

    Raises:
        ImportError: without Stable-Baselines3 (`pip install stable-baselines3`).
        ValueError: if the id is unknown or a setting does not fit.
    """
    from metarl.bridges import sb3_env
    from metarl.tasks.registry import make_family

    chosen = make_family(family) if isinstance(family, str) else family
    return sb3_env.as_sb3_vec_env(chosen, num_envs, **settings)


def _family(name: str, variant: str | None) -> TaskFamily:
    from metarl.tasks.registry import (
        FAMILIES,
        make_family,
    )  # not at the top: the catalog imports this module

    if not variant:
        choices = ", ".join(FAMILIES.get(name).variants)
        raise ValueError(f"variant of {name} must be given, one of {choices}")
    return make_family(f"{name}:{variant}")
