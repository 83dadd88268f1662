"""Settings that were renamed, so that files of earlier versions can still be read.

Checkpoints and config.json are read through this table; no other code uses the old names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = [
    "RENAMED_OPTIONS",
    "RENAMED_PROTOCOL_FIELDS",
    "RENAMED_SETTINGS",
    "with_current_names",
    "with_current_options",
]

RENAMED_SETTINGS: dict[str, dict[str, str]] = {
    "maml-trpo": {"action_scale": "action_divisor", "later_lr_factor": "extra_step_lr_factor"},
    "rl2": {
        "action_scale": "action_divisor",
        "expected_rewards": "use_expected_rewards",
        "sees_transitions": "include_previous_step",
        "value_sees_task": "privileged_critic",
    },
    **{
        f"fewshot-{learner}": {"mode": "differentiation"}
        for learner in (
            *("maml", "fomaml", "boil", "meta-sgd", "maml++", "learned-momentum"),
            *("anil", "cavia"),
        )
    },
}
"""Old name ↦ new name, for each agent and few-shot learner; other packages may add entries."""

_ESTIMATORS = {"log_prob": "log_prob", "likelihood_ratio": "lvc"}
"""Values of maml-trpo's former setting inner_objective ↦ values of estimator."""

RENAMED_PROTOCOL_FIELDS = {"reported": "task_score"}
"""Old name ↦ new name of fields of evaluation protocols."""

RENAMED_OPTIONS = {"centre_range": "center_range", "colours": "colors"}
"""Old name ↦ new name of options of data sets."""


def with_current_names(agent: object, settings: Any) -> Any:
    """Stored settings under their current names; values other than JSON objects are returned as is.

    Args:
        agent: the stored name of the agent, or fewshot-NAME of a learner.
        settings: the stored settings.

    >>> with_current_names("rl2", {"value_sees_task": True, "gamma": 0.9})
    {'privileged_critic': True, 'gamma': 0.9}
    >>> with_current_names("maml-trpo", {"inner_objective": "likelihood_ratio"})
    {'estimator': 'lvc'}
    """
    if not isinstance(agent, str) or not isinstance(settings, dict):
        return settings
    renamed = RENAMED_SETTINGS.get(agent, {})
    named = {renamed.get(str(name), str(name)): value for name, value in settings.items()}
    return _with_estimator(named) if agent == "maml-trpo" else named


def _with_estimator(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of maml-trpo with one estimator for the former inner_objective and first_order."""
    kept = {k: v for k, v in settings.items() if k not in ("inner_objective", "first_order")}
    if settings.get("first_order") is True:
        return {**kept, "estimator": "first_order"}
    if "inner_objective" in settings:
        objective = settings["inner_objective"]
        known = _ESTIMATORS.get(objective) if isinstance(objective, str) else None
        return {**kept, "estimator": known or objective}
    return kept


def with_current_options(options: Sequence[str]) -> tuple[str, ...]:
    """Stored options of a data set, in the form name=value, under their current names.

    >>> with_current_options(["colours=L", "split_seed=1"])
    ('colors=L', 'split_seed=1')
    """
    pairs = (option.partition("=") for option in options)
    return tuple(RENAMED_OPTIONS.get(name, name) + equals + value for name, equals, value in pairs)
