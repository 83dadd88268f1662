"""The data set of a stored few-shot run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from metarl.fewshot.data.batches import FewShotTasks
from metarl.fewshot.data.files import DataPlace
from metarl.fewshot.datasets.catalog import tasks_at
from metarl.progress import Progress, ignore_progress
from metarl.storage.files import read_json_object
from metarl.storage.renamed import with_current_options

__all__ = ["DataOptions", "data_beside", "stored_data"]


class DataOptions(NamedTuple):
    """Folder and options of a data set."""

    data_dir: Path | None = None
    options: tuple[str, ...] = ()
    """Options in the form name=value."""

    def make(
        self, dataset: str, device: torch.device, progress: Progress = ignore_progress
    ) -> FewShotTasks:
        """Create the tasks; values of options are parsed as JSON if possible, else used as text.

        Args:
            dataset: name of the data set.
            device: device of the data and of the batches.
            progress: called before data are read, and during downloads.
        """
        progress(f"reading data set {dataset}")
        pairs = (option.split("=", 1) for option in self.options)
        options: dict[str, Any] = {name: _value(text) for name, text in pairs}
        for name in ("data_dir", "device"):
            if name in options:
                option = "--" + name.replace("_", "-")
                raise ValueError(f"dataset_options must not hold {name}, use {option} instead")
        where = DataPlace(self.data_dir, device, progress=progress)
        return tasks_at(dataset, where, options)


def stored_data(config: Mapping[str, Any]) -> DataOptions:
    """The data options in a run's config.json, by default none.

    Raises:
        ValueError: if the file is damaged.
    """
    folder, options = config.get("data_dir"), config.get("dataset_options", [])
    is_list = isinstance(options, list) and all(isinstance(option, str) for option in options)
    if not is_list or not (folder is None or isinstance(folder, str)):
        raise ValueError(
            "config.json is damaged: data_dir must be a string and dataset_options strings"
        )
    return DataOptions(None if folder is None else Path(folder), with_current_options(options))


def data_beside(checkpoint: Path) -> DataOptions:
    """The data options of the run that contains a checkpoint; the defaults without a run."""
    for folder in (checkpoint.parent, checkpoint.parent.parent):
        if (folder / "config.json").is_file():
            return stored_data(read_json_object(folder / "config.json"))
    return DataOptions()


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
