"""Names of settings in files of earlier versions, and the names now.

Checkpoints and config.json are read through this table, so no other code knows the old names.
"""

from __future__ import annotations

from typing import Any

__all__ = ["RENAMED_SETTINGS", "with_current_names"]

RENAMED_SETTINGS: dict[str, dict[str, str]] = {
    "rl2": {"value_sees_task": "privileged_critic", "expected_rewards": "use_expected_rewards"},
}
"""Old name ↦ new name by agent; an agent of another package may add an entry."""


def with_current_names(agent: object, settings: Any) -> Any:
    """Stored settings under their names now; anything that is not a JSON object as it is.

    Args:
        agent: the name of the agent, as the file gives it.
        settings: its settings, as the file gives them.

    >>> with_current_names("rl2", {"value_sees_task": True, "gamma": 0.9})
    {'privileged_critic': True, 'gamma': 0.9}
    """
    renamed = RENAMED_SETTINGS.get(agent) if isinstance(agent, str) else None
    if renamed is None or not isinstance(settings, dict):
        return settings
    return {renamed.get(name, name): value for name, value in settings.items()}
