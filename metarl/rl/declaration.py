"""Checks of an agent's declaration: its settings, its metrics and the outcome of an iteration."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from numbers import Real
from typing import Any, NamedTuple

from metarl.finite import NonFiniteError
from metarl.rollouts.episodes import Episodes
from metarl.tasks.family import TaskFamily
from metarl.validation import require_at_least, short_repr

__all__ = [
    "Iteration",
    "checked_config",
    "checked_outcome",
    "require_batches",
    "require_declared",
    "require_metrics",
]

_METRIC_NAME = re.compile(r"(?!time/)[^/]+/[^/]+")
"""Group of the metrics that `Agent.iterate` adds; agents must not use it."""


class Iteration(NamedTuple):
    """The outcome of one training iteration."""

    metrics: Mapping[str, float]
    """A number for each declared metric."""
    num_env_steps: int
    """Environment steps taken, all tasks summed."""


def require_declared(agent_type: type[Any]) -> None:
    """Reject an agent's class without a name or a type of settings.

    Raises:
        TypeError: if the class declares no name or no dataclass with `meta_batch_size`.
    """
    where, settings_type = agent_type.__name__, getattr(agent_type, "config_type", None)
    if not isinstance(getattr(agent_type, "name", None), str):
        raise TypeError(f"name of {where} must be a string, such as name = 'my-agent', got none")
    has_batch = is_dataclass(settings_type) and any(
        field.name == "meta_batch_size" for field in fields(settings_type)
    )
    if not has_batch:
        raise TypeError(
            f"config_type of {where} must be a dataclass with a field meta_batch_size, the number "
            f"of tasks of an iteration, got {settings_type}"
        )


def default_settings(agent_type: type[Any]) -> Any:
    """The settings of an agent at their defaults.

    Raises:
        TypeError: if a setting has none.
    """
    settings_type = agent_type.config_type
    try:
        return settings_type()
    except TypeError as error:
        raise TypeError(
            f"settings of {agent_type.__name__} must all have defaults: {error}"
        ) from error


def checked_config(agent_type: type[Any], family: TaskFamily, config: Any) -> Any:
    """The settings of an agent, resolved: `action_divisor` None becomes the family's value.

    Settings that depend on the family in other ways define `for_family(family)`, which returns the
    resolved settings.

    Raises:
        TypeError: if the class lacks part of its declaration, or `config` is of another type.
        ValueError: if a setting does not fit the family.
    """
    require_declared(agent_type)
    where, settings_type = agent_type.__name__, agent_type.config_type
    if config is None:
        config = default_settings(agent_type)
    if not isinstance(config, settings_type):
        raise TypeError(
            f"config of {where} must be of type {settings_type.__name__}, "
            f"got {type(config).__name__}"
        )
    if hasattr(config, "action_divisor") and config.action_divisor is None:
        config = replace(config, action_divisor=family.action_divisor)
    return config.for_family(family) if hasattr(config, "for_family") else config


def require_metrics(
    agent: str, metrics: Mapping[str, str], *, score: str, shown: Sequence[str]
) -> None:
    """Reject a declaration without metrics, or with an invalid name of a metric.

    Raises:
        TypeError: if there are no metrics, or a name, the score or a shown metric is invalid.
    """
    if not isinstance(metrics, Mapping) or not metrics:
        raise TypeError(
            f"agent {agent!r} must declare its metrics, such as metrics = "
            "{'rollout/query_return': 'mean return after adaptation'}, got "
            f"{short_repr(metrics) if metrics else 'none'}"
        )
    for name, description in metrics.items():
        if not isinstance(description, str):
            raise TypeError(
                f"metrics of agent {agent!r} must describe {name!r} by a string, "
                f"got {short_repr(description)}"
            )
        if not isinstance(name, str) or not _METRIC_NAME.fullmatch(name):
            raise TypeError(
                f"metrics of agent {agent!r} must be named group/name, in another group than "
                f"time, got {name!r}"
            )
    for what, names in (("score", (score,)), ("shown_metrics", shown)):
        for name in names:
            if name not in metrics:
                raise TypeError(
                    f"{what} of agent {agent!r} must be among its metrics {', '.join(metrics)}, "
                    f"got {name!r}"
                )


def checked_outcome(
    agent: str, outcome: object, declared: Mapping[str, str]
) -> tuple[dict[str, float], int]:
    """Metrics and environment steps of an iteration, as the agent declared them.

    Raises:
        NonFiniteError: if a metric is not finite.
        TypeError: if the outcome is not an `Iteration`, or a metric is not a number.
        ValueError: if a metric was not declared, a declared one is missing, or the number of steps
            is negative.
    """
    if not isinstance(outcome, Iteration) or not isinstance(outcome.metrics, Mapping):
        raise TypeError(
            f"_iterate of agent {agent!r} must return Iteration(metrics, num_env_steps), "
            f"got {type(outcome).__name__}"
        )
    require_at_least("num_env_steps", outcome.num_env_steps, 0)
    for name in outcome.metrics:
        if name not in declared:
            raise ValueError(
                f"metric {name!r} of agent {agent!r} must be declared in its metrics, which are "
                f"{', '.join(declared)}"
            )
    missing = [name for name in declared if name not in outcome.metrics]
    if missing:
        raise ValueError(
            f"_iterate of agent {agent!r} must return each declared metric, {missing[0]!r} is "
            "missing"
        )
    metrics = {name: _number(agent, name, value) for name, value in outcome.metrics.items()}
    return metrics, int(outcome.num_env_steps)


def _number(agent: str, name: str, value: object) -> float:
    if not isinstance(value, Real):
        raise TypeError(
            f"metric {name!r} of agent {agent!r} must be a number, got {type(value).__name__}; "
            "use float(value)"
        )
    try:
        number = float(value)
    except OverflowError:  # a whole number that no float holds
        number = math.inf
    if not math.isfinite(number):
        shown = short_repr(value)
        raise NonFiniteError(f"metric {name!r} of agent {agent!r} must be finite, got {shown}")
    return value if isinstance(value, int | float) else number


def require_batches(episodes: Sequence[Episodes], *, same_envs: bool) -> None:
    """Reject recorded episodes that an agent cannot adapt to.

    Args:
        episodes: batches [N, E, ...] of one set of tasks.
        same_envs: whether all batches must have the same E.

    Raises:
        TypeError: if an item is not an `Episodes`.
        ValueError: if there is no batch, or numbers of tasks or environments differ.
    """
    if not episodes:
        raise ValueError("episodes must hold at least one batch [tasks, envs, ...], got none")
    for batch in episodes:
        if not isinstance(batch, Episodes):
            raise TypeError(
                f"episodes must be Episodes or a list of them, got {type(batch).__name__}"
            )
    axes = 2 if same_envs else 1
    shapes = {tuple(batch.rewards.shape[:axes]) for batch in episodes}
    if len(shapes) > 1:
        names = "tasks and environments" if same_envs else "tasks"
        found = " and ".join(str(list(shape)) for shape in sorted(shapes))
        raise ValueError(
            f"episodes must have the same number of {names} in each batch, got {found}"
        )
