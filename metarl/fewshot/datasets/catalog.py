"""The registry of few-shot data sets; a data set is imported at its first use."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from metarl.registry import Entry, Registry
from metarl.storage.settings import converted
from metarl.validation import require_at_least, unknown_name

if TYPE_CHECKING:  # these import torch, which listing the data sets does not need
    import torch

    from metarl.fewshot.data.batches import FewShotTasks
    from metarl.fewshot.data.files import DataPlace

__all__ = ["DATASETS", "make_tasks", "tasks_at"]

_FEWSHOT = "metarl.fewshot"
DATASETS = Registry(
    "dataset",
    (
        Entry(
            "sinusoid",
            f"{_FEWSHOT}.datasets.curves:SinusoidTasks",
            "sine curves of random amplitude and phase, regression (Finn et al. 2017)",
        ),
        Entry(
            "harmonic",
            f"{_FEWSHOT}.datasets.curves:HarmonicTasks",
            "sums of two sine waves with noise, regression (Lacoste et al. 2018)",
        ),
        Entry(
            "glyphs",
            f"{_FEWSHOT}.datasets.glyphs:GlyphTasks",
            "random strokes made on the fly, no download",
        ),
        Entry(
            "omniglot",
            f"{_FEWSHOT}.datasets.omniglot:omniglot_tasks",
            "1,623 handwritten characters, binary 28×28, MAML's split and rotations (14 MB)",
        ),
        Entry(
            "omniglot-vinyals",
            f"{_FEWSHOT}.datasets.omniglot:vinyals_omniglot_tasks",
            "Omniglot with the split of Prototypical Networks, each rotation a separate class",
        ),
        Entry(
            "omniglot-antialiased",
            f"{_FEWSHOT}.datasets.omniglot:antialiased_omniglot_tasks",
            "Omniglot as smoothed grayscale images, MAML's split",
        ),
        Entry(
            "mini-imagenet",
            f"{_FEWSHOT}.datasets.mini_imagenet:mini_imagenet_tasks",
            "100 classes of photographs, 84×84, Ravi's split; needs your copy",
        ),
        Entry(
            "cifar-fs",
            f"{_FEWSHOT}.datasets.cifar:cifar_fs_tasks",
            "CIFAR-100 split at random, 32×32 (161 MB)",
        ),
        Entry(
            "fc100",
            f"{_FEWSHOT}.datasets.cifar:fc100_tasks",
            "CIFAR-100 split by superclass, 32×32 (161 MB)",
        ),
        Entry(
            "clinc150",
            f"{_FEWSHOT}.datasets.intents:clinc150_tasks",
            "150 intents of short requests, hashed n-grams (2.5 MB)",
        ),
        Entry(
            "banking77",
            f"{_FEWSHOT}.datasets.intents:banking77_tasks",
            "77 intents of bank customers, hashed n-grams (1 MB)",
        ),
        Entry(
            "tox21",
            f"{_FEWSHOT}.datasets.molecules:tox21_tasks",
            "12 toxicity assays as 2-way tasks, hashed SMILES (0.1 MB)",
        ),
        Entry(
            "sider",
            f"{_FEWSHOT}.datasets.molecules:sider_tasks",
            "27 groups of side effects as 2-way tasks, hashed SMILES",
        ),
        Entry(
            "folder",
            f"{_FEWSHOT}.datasets.own:folder_tasks",
            "your own images: data_dir holds class folders, or train and test with class folders",
        ),
    ),
    group="metarl.datasets",
)


def make_tasks(
    name: str,
    /,
    *,
    data_dir: Path | None = None,
    device: torch.device | str = "cpu",
    download: bool = True,
    **options: Any,
) -> FewShotTasks:
    """The tasks of a data set.

    Args:
        name: name in `DATASETS`.
        data_dir: folder of the data sets that are files; None: a folder in the user's cache.
        device: device of the data and of the batches.
        download: whether missing official files are downloaded to that folder.
        options: keyword arguments of the data set's function or class.

    Raises:
        FileNotFoundError: if a file is missing and cannot be downloaded, with what to fetch.
        TypeError: if the data set has no such option.
        ValueError: if there is no such data set, or an option or a file is invalid.
    """
    from metarl.fewshot.data.files import DataPlace

    return tasks_at(name, DataPlace(data_dir, device, download), options)


def tasks_at(name: str, place: DataPlace, options: Mapping[str, Any]) -> FewShotTasks:
    """The tasks of a data set; see `make_tasks`.

    Args:
        name: name in `DATASETS`.
        place: where files are, the device, and how progress is reported.
        options: keyword arguments of the data set's function or class.
    """
    make = DATASETS.load(name)
    parameters = inspect.signature(make).parameters
    own = [option for option in parameters if option not in ("place", "device")]
    for option in options:
        if option not in own:
            raise TypeError(unknown_name(f"option of {name}", option, own or ["(none)"]))
    places: dict[str, Any] = {"place": place, "device": place.device}
    hints = get_type_hints(make)
    options = {
        key: _option(value, hints[key], f"option {key} of {name}") for key, value in options.items()
    }
    for key, value in options.items():
        if key.endswith("_seed"):
            require_at_least(key, value, 0)
    accepted = {key: value for key, value in places.items() if key in parameters}
    tasks: FewShotTasks = make(**accepted, **options)
    if tasks.name != name:  # checkpoints name the data set as it is registered
        object.__setattr__(tasks, "name", name)  # also of frozen dataclasses
    return tasks


def _option(value: object, hint: Any, name: str) -> Any:
    """Convert an option to its type; a path may have been parsed as a whole number."""
    if Path not in get_args(hint):
        return converted(value, hint, name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str | Path):
        raise ValueError(
            f"{name} must be a path, got {value!r}; write a folder of that name as ./{value}"
        )
    return value
