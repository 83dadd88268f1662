"""The settings of a stored run, and which of them a resume may change."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from metarl.runs.directory import RunDirectory
from metarl.runs.tracking import TrackerName
from metarl.storage.files import read_json_object
from metarl.storage.provenance import provenance
from metarl.storage.renamed import with_current_names
from metarl.storage.settings import read_settings
from metarl.validation import Count, Seed, Settings, WholeNumber

__all__ = ["StoredRun", "note_resume", "read_run", "reject_changes", "with_stored"]


_KEPT = (
    "seed",
    "device",
    "iterations",
    "checkpoint_every",
    "log_every",
    "threads",
    "tracker",
    "test_queries",
    "test_steps",
    "compile",
)

Config = TypeVar("Config")


@dataclass(frozen=True)
class StoredRun(Settings):
    """The settings that a resume reads from config.json; earlier versions stored fewer."""

    agent: str
    environment: str
    seed: Seed
    agent_config: dict[str, Any]
    device: str = "auto"
    iterations: Count = 100
    checkpoint_every: Count = 10
    log_every: WholeNumber = 0
    threads: WholeNumber = 0
    tracker: TrackerName = "tensorboard"
    seeds: Count = 1
    test_steps: int | None = 10
    test_queries: int | None = None
    compile: bool = False


def read_run(file: Path) -> StoredRun:
    """Read the settings in config.json or seeds.json.

    Raises:
        ValueError: if it is damaged, or a setting is missing, of another type or out of range.
    """
    run = read_settings(StoredRun, read_json_object(file), source=str(file), others_allowed=True)
    return dataclasses.replace(run, agent_config=with_current_names(run.agent, run.agent_config))


def with_stored(config: Config, stored: StoredRun, given: Collection[str]) -> Config:
    """The configuration, with the stored values of all settings that were not given."""
    assert dataclasses.is_dataclass(config)
    assert not isinstance(config, type)
    fields = {field.name for field in dataclasses.fields(config)} & set(_KEPT) - set(given)
    return dataclasses.replace(config, **{name: getattr(stored, name) for name in fields})


def reject_changes(
    given: Collection[str], wanted: Mapping[str, Any], kept: Mapping[str, Any]
) -> None:
    """Reject a given setting that differs from the stored one.

    Args:
        given: names of the given settings.
        wanted: their resolved values.
        kept: the stored values of the run.

    Raises:
        ValueError: naming the first that differs.
    """
    for name in wanted:
        if name in given and wanted[name] != kept.get(name):
            remedy = "use that one" if name == "agent" else "omit it"
            raise ValueError(
                f"{name} of the run to resume is {kept.get(name)!r}, got {wanted[name]!r}; "
                f"{remedy}, or start a new run"
            )


def note_resume(
    directory: RunDirectory,
    settings: Mapping[str, Any],
    iteration: int,
    *,
    agent: str,
    agent_config: Mapping[str, Any],
) -> None:
    """Record in config.json that the run was resumed, with which settings and by which code.

    Args:
        directory: the run.
        settings: settings that replace the stored ones.
        iteration: number of iterations before the resume.
        agent: name of the agent in this version.
        agent_config: settings of the agent in this version.
    """
    config = directory.rename_settings(agent, agent_config)
    resumed = config.get("resumed")
    entry = {"iteration": iteration, **provenance()}
    history = [*(resumed if isinstance(resumed, list) else []), entry]
    directory.write_config({**config, **settings, "resumed": history})
