"""Checkpoints of few-shot learners: what a file must hold to continue on a data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from metarl.fewshot.contract.old_settings import present_form
from metarl.fewshot.contract.settings import FewShotSettings
from metarl.fewshot.data.batches import FewShotTasks
from metarl.fewshot.learners.catalog import read_learner
from metarl.registry import LEARNER_PREFIX
from metarl.storage.checkpoints import (
    holds_optimizer,
    load_checkpoint,
    read_counter,
    read_header,
    select_tensors,
)

__all__ = ["StoredTraining", "read_training"]

_DECISIVE = ("split_digest", "resize", "rotations")  # facts of a data set


class StoredTraining(NamedTuple):
    """A learner in training, as a checkpoint holds it."""

    path: Path
    name: str
    """The name of its algorithm in this version."""
    config: FewShotSettings
    seed: int
    num_iterations: int
    tensors: Mapping[str, Tensor]
    """By "group/name"."""
    has_optimizer: bool

    def state(self, like: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
        """The tensors by group and name, on the devices of those in `like`.

        Without the group "optimizer" if the checkpoint holds none.

        Raises:
            ValueError: if one is missing or of another shape or type.
        """
        groups = {g: ts for g, ts in like.items() if self.has_optimizer or g != "optimizer"}
        return {g: select_tensors(self.path, self.tensors, g, ts) for g, ts in groups.items()}


def read_training(path: Path, name: str, tasks: FewShotTasks) -> StoredTraining:
    """Read the checkpoint of a learner on a data set.

    Args:
        path: the file.
        name: of the learner, as stored or as this version calls its algorithm.
        tasks: the data set that it was trained on.

    Raises:
        ValueError: if the file is not a checkpoint of this learner on this data set, or the data
            set has other classes or images now.
    """
    agent = _stored_agent(name, read_header(path))
    tensors, header = load_checkpoint(path, agent=agent, environment=tasks.name)
    stored_name, where = agent.removeprefix(LEARNER_PREFIX), f"checkpoint {path}"
    present, config = read_learner(stored_name, header["config"], where=where)
    _require_same_data(path, header.get("data"), tasks)
    done = read_counter(path, header, "num_iterations")
    has_optimizer = holds_optimizer(header)
    return StoredTraining(path, present, config, header["seed"], done, tensors, has_optimizer)


def _stored_agent(name: str, header: Mapping[str, Any]) -> str:
    """The agent that the checkpoint of a learner names.

    An earlier version may have stored the learner under another name; see `read_learner`.
    """
    held, settings = str(header.get("agent")), header.get("config")
    is_learner = held.startswith(LEARNER_PREFIX) and isinstance(settings, dict)
    if is_learner and present_form(held.removeprefix(LEARNER_PREFIX), settings or {}).name == name:
        return held
    return LEARNER_PREFIX + name


def _require_same_data(path: Path, stored: object, tasks: FewShotTasks) -> None:
    """Reject other classes or images than a checkpoint's; older checkpoints do not record them."""
    if not isinstance(stored, dict):
        return
    for fact in _DECISIVE:
        then, now = stored.get(fact), tasks.protocol.get(fact)
        if then != now:
            raise ValueError(
                f"{tasks.name} must be as {path} was trained on, {fact} was {then!r} and is "
                f"{now!r} now; give its --dataset-options, and a folder with the same classes"
            )
