"""The directory of a run: resolved configuration, metrics, files of the tracker, checkpoints.

config.json        all settings, versions, the command, and the history of resumes
metrics.jsonl      one line per logged iteration
events.out…        the same for TensorBoard, against environment steps
checkpoints/       iteration_000100.safetensors, the newest few
best.safetensors   the checkpoint with the best score (a hard link)
.lock              held while a process writes here

A published run, as under results/, has checkpoint.safetensors instead of checkpoints/. It
can be measured and shown but not trained further.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metarl.storage.checkpoints import read_header
from metarl.storage.files import (
    create_whole,
    locked,
    read_json_object,
    sync_folder,
    write_atomically,
)
from metarl.storage.provenance import provenance
from metarl.storage.renamed import with_current_names
from metarl.storage.settings import settings_agree

__all__ = ["RunDirectory"]


_KEPT_CHECKPOINTS = 3
_DECIDING: dict[str, tuple[type, str]] = {  # key in config.json: its type, key in checkpoints
    "agent": (str, "agent"),
    "environment": (str, "environment"),
    "seed": (int, "seed"),
    "agent_config": (dict, "config"),
}
_FORMER = "former"
"""In config.json, forms of `agent` and `agent_config` that an earlier version stored."""


class RunDirectory:
    """The directory of one training run. An existing directory is never overwritten."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"

    @classmethod
    def create(
        cls, path: Path, config: dict[str, Any], *, save: Callable[[Path], None] | None = None
    ) -> RunDirectory:
        """Create a directory with its config.json; after a crash it is complete or does not exist.

        Args:
            path: the directory.
            config: all settings; versions, the commit and the command are added.
            save: writes a checkpoint of the untrained agent, so that a run always has one to resume
            from.

        Raises:
            ValueError: if the path exists.
        """

        def fill(folder: Path) -> None:
            new = cls(folder)
            new.checkpoints.mkdir()
            if save is not None:
                save(new.checkpoint_path(0))
            new.write_config({**config, **provenance()})

        create_whole(path, fill)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """An existing run.

        Raises:
            ValueError: if there is none.
        """
        if (path / "seeds.json").is_file():
            raise ValueError(
                f"run must have one seed, {path} holds several; use one of them, "
                f"such as {min(path.glob('seed_*'), default=path / 'seed_0')}"
            )
        if not (path / "config.json").is_file():
            raise ValueError(f"run must be a directory with a config.json, there is none in {path}")
        return cls(path)

    def config(self) -> dict[str, Any]:
        """The resolved configuration.

        Raises:
            ValueError: if the file is damaged, or lacks agent, settings, environment or seed.
        """
        file = self.path / "config.json"
        config = read_json_object(file)
        for key, (needed, _) in _DECIDING.items():
            if not isinstance(config.get(key), needed) or isinstance(config[key], bool):
                words = {str: "a string", int: "a whole number", dict: "an object"}
                raise ValueError(
                    f"{file} is damaged: {key!r} must be {words[needed]}, got {config.get(key)!r}"
                )
        return {
            **config,
            "agent_config": with_current_names(config["agent"], config["agent_config"]),
        }

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Replace config.json."""
        write_atomically(self.path / "config.json", json.dumps(config, indent=2).encode())

    def rename_settings(self, agent: str, agent_config: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration with the current names of the agent and its settings.

        It keeps the former names, since checkpoints with these names still belong to the run.
        """
        config = self.config()
        now = {"agent": agent, "agent_config": json.loads(json.dumps(agent_config))}
        stored = {name: config[name] for name in now}
        if all(settings_agree(stored[name], now[name]) for name in now):
            return config
        former = config.get(_FORMER, [])
        return {**config, **now, _FORMER: [*(former if isinstance(former, list) else []), stored]}

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Lock the run for this process, and remove partial files that a killed process left.

        Raises:
            ValueError: if another process holds it, or the run was published.
        """
        if self.is_published:
            raise ValueError(
                f"run {self.path} was published: it can be evaluated but not trained further; "
                "start a new run"
            )
        with locked(self.path):
            for folder in (self.path, self.checkpoints):
                for path in folder.glob(".*.tmp"):
                    path.unlink()
            self.drop_old_checkpoints()
            yield

    def checkpoint_path(self, iteration: int) -> Path:
        """The file of the checkpoint after a number of iterations."""
        return self.checkpoints / f"iteration_{iteration:06d}.safetensors"

    @property
    def best_checkpoint(self) -> Path:
        """The file of the best checkpoint, which need not exist yet."""
        return self.path / "best.safetensors"

    @property
    def published_checkpoint(self) -> Path:
        """The file of the only checkpoint of a published run."""
        return self.path / "checkpoint.safetensors"

    @property
    def is_published(self) -> bool:
        """Whether the folder is a published result, not a run that can be trained further."""
        return self.published_checkpoint.is_file() and not self._saved()

    def newest_checkpoint(self) -> Path:
        """The checkpoint with the most iterations, after a check of its content.

        Raises:
            ValueError: if there is no checkpoint, or the newest is damaged or does not belong to
                this run; the message names the newest intact one.
        """
        self.config()  # first, because damaged settings are not a fault of the checkpoints
        found = self._saved()
        if not found:
            if not self.published_checkpoint.is_file():
                raise ValueError(f"run {self.path} has no checkpoint yet")
            self._require_own(self.published_checkpoint, read_header(self.published_checkpoint))
            return self.published_checkpoint
        try:
            self._check(found[-1])
        except ValueError as error:
            good = next((path for path in reversed(found[:-1]) if self._is_good(path)), None)
            if good is None:
                raise ValueError(f"{error}; there is no earlier intact checkpoint") from error
            raise ValueError(
                f"{error}; the newest intact checkpoint is {good}: to continue from it, move the "
                "damaged one away"
            ) from error
        return found[-1]

    def all_checkpoints(self) -> tuple[Path, ...]:
        """All stored checkpoints, the newest last; a published run has only one."""
        return (self.published_checkpoint,) if self.is_published else tuple(self._saved())

    def drop_old_checkpoints(self) -> None:
        """Delete all checkpoints except the newest few."""
        for path in self._saved()[:-_KEPT_CHECKPOINTS]:
            path.unlink()

    def mark_best(self, iteration: int) -> None:
        """Make best.safetensors a hard link to this iteration's checkpoint, in one step."""
        source = self.checkpoint_path(iteration)
        temporary = self.path / f".best.safetensors.{os.getpid()}.tmp"
        temporary.unlink(missing_ok=True)
        try:
            os.link(source, temporary)
        except OSError:  # a file system without hard links
            write_atomically(self.best_checkpoint, source.read_bytes())
            return
        temporary.replace(self.best_checkpoint)
        sync_folder(self.path)

    def _saved(self) -> list[Path]:
        """Checkpoints, the newest last; by number, since names sort wrongly past six digits."""
        pattern = re.compile(r"iteration_(\d+)\.safetensors")
        numbers = {
            path: int(match.group(1))
            for path in self.checkpoints.glob("iteration_*.safetensors")
            if (match := pattern.fullmatch(path.name))
        }
        return sorted(numbers, key=numbers.__getitem__)

    def _check(self, path: Path) -> None:
        header = read_header(path)
        counters = header.get("counters")
        held = counters.get("num_iterations") if isinstance(counters, dict) else None
        if not isinstance(held, int) or self.checkpoint_path(held).name != path.name:
            raise ValueError(
                f"checkpoint {path} holds iteration {held}, which differs from its name"
            )
        self._require_own(path, header)

    def _require_own(self, path: Path, header: Mapping[str, Any]) -> None:
        """Reject the checkpoint of another run, given its header."""
        config = self.config()
        former = config.get(_FORMER)
        former = former if isinstance(former, list) else []
        forms = [config, *({**config, **form} for form in former if isinstance(form, dict))]
        differing = [_first_difference(header, form) for form in forms]
        if all(differing):
            raise ValueError(f"checkpoint {path} is of another run: its {differing[0]} differs")

    def _is_good(self, path: Path) -> bool:
        try:
            self._check(path)
        except ValueError:
            return False
        return True


def _first_difference(header: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    """The first entry of a checkpoint's header that contradicts a configuration."""
    for key, (_, name) in _DECIDING.items():
        if not settings_agree(header.get(name), config[key]):
            return name
    return None
