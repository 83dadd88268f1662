"""Reading checkpoints of few-shot learners, and checking that they fit a data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from metarl.fewshot.contract.old_settings import migrate_learner
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

_DATA_FACTS = ("split_digest", "resize", "rotations")  # must be equal


class StoredTraining(NamedTuple):
    """The content of a checkpoint of a learner in training."""

    path: Path
    name: str
    """The name of its algorithm in this version."""
    config: FewShotSettings
    seed: int
    num_iterations: int
    tensors: Mapping[str, Tensor]
    """Tensors by "group/name"."""
    has_optimizer: bool

    def state(self, like: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
        """The tensors by group and name, on the devices of the tensors in `like`.

        The group "optimizer" is left out if the checkpoint has none.

        Raises:
            ValueError: if a tensor is missing or has another shape or type.
        """
        groups = {g: ts for g, ts in like.items() if self.has_optimizer or g != "optimizer"}
        return {g: select_tensors(self.path, self.tensors, g, ts) for g, ts in groups.items()}


def read_training(path: Path, name: str, tasks: FewShotTasks) -> StoredTraining:
    """Read the checkpoint of a learner on a data set.

    Args:
        path: the file.
        name: the learner's name, as stored or in this version.
        tasks: the data set that it was trained on.

    Raises:
        ValueError: if the file is not a checkpoint of this learner on this data set, or the classes
            or images of the data set have changed.
    """
    agent = _stored_agent(name, read_header(path))
    tensors, header = load_checkpoint(path, agent=agent, environment=tasks.name)
    stored_name, source = agent.removeprefix(LEARNER_PREFIX), f"checkpoint {path}"
    present, config = read_learner(stored_name, header["config"], source=source)
    _require_same_data(path, header.get("data"), tasks)
    done = read_counter(path, header, "num_iterations")
    has_optimizer = holds_optimizer(header)
    return StoredTraining(path, present, config, header["seed"], done, tensors, has_optimizer)


def _stored_agent(name: str, header: Mapping[str, Any]) -> str:
    """The agent entry that a checkpoint of this learner must have.

    An earlier version may have stored the learner under another name; see `read_learner`.
    """
    agent, settings = str(header.get("agent")), header.get("config")
    is_learner = agent.startswith(LEARNER_PREFIX) and isinstance(settings, dict)
    if (
        is_learner
        and migrate_learner(agent.removeprefix(LEARNER_PREFIX), settings or {}).name == name
    ):
        return agent
    return LEARNER_PREFIX + name


def _require_same_data(path: Path, stored: object, tasks: FewShotTasks) -> None:
    """Reject a data set whose classes or images changed; older checkpoints do not record them."""
    if not isinstance(stored, dict):
        return
    for fact in _DATA_FACTS:
        then, now = stored.get(fact), tasks.protocol.get(fact)
        if then != now:
            raise ValueError(
                f"data set {tasks.name} must be the one that {path} was trained on: {fact} was "
                f"{then!r} and is {now!r}; use the same --dataset-options and the same classes"
            )
