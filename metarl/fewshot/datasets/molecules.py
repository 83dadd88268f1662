"""Molecules: the assays of Tox21 and the side effects of SIDER as binary tasks."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.fewshot.data.class_tasks import ClassTasks
from metarl.fewshot.data.features import hashed_counts, smiles_grams
from metarl.fewshot.data.files import DataPlace, OfficialFile, cached, locate, read_limited
from metarl.fewshot.data.packed import ClassData, data_of_classes
from metarl.fewshot.data.splits import split_facts
from metarl.validation import require_at_least

__all__ = ["sider_tasks", "tox21_tasks"]

_URL = "https://deepchemdata.s3-us-west-1.amazonaws.com/datasets/"
# The version of Tox21 distributed since 2018, in which duplicate molecules are merged.
_TOX21 = OfficialFile(
    "molecules/tox21.csv.gz",
    f"{_URL}tox21.csv.gz",
    "md5:2882d69e70bba0fec14995f26787cc25",
)
_SIDER = OfficialFile(
    "molecules/sider.csv.gz",
    f"{_URL}sider.csv.gz",
    "sha256:4cc7ccb20dded475853c583596e227116c222c6ca7dbb40159bdbe9ee3f099b9",
)
_MAX_BYTES = 1 << 28  # decompressed; the published files hold about a megabyte
_OTHER_COLUMNS = {"smiles", "mol_id"}
_READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    csv.Error,
    zlib.error,
)


def tox21_tasks(place: DataPlace, *, num_features: int = 1024) -> ClassTasks:
    """12 toxicity assays of 7,831 molecules, the first 9 for training and the last 3 for test.

    A task is one assay: class 0 is inactive, class 1 active, so `ways` is 2. Both classes have the
    same shots and queries, though most molecules are inactive. An assay leaves out molecules
    without a label; training and test assays share molecules.

    Args:
        place: location of molecules/tox21.csv.gz.
        num_features: length of the vectors.

    Raises:
        FileNotFoundError: if the file is missing and cannot be downloaded.
        ValueError: if it is damaged.

    Source: Altae-Tran et al. 2017 (arXiv:1611.03199), the split of the assays. Differs: features
    are hashed SMILES n-grams, not graphs; a duplicate molecule counts once, or not at all in
    assays in which its labels differ.
    """
    return _tasks("tox21", _TOX21, (9, 12), place, num_features)


def sider_tasks(place: DataPlace, *, num_features: int = 1024) -> ClassTasks:
    """27 groups of side effects of 1,427 drugs, the first 21 for training and the last 6 for test.

    A task is one group: class 0 has drugs without the side effect, class 1 drugs with it. Arguments
    and errors are as for `tox21_tasks`; the file is molecules/sider.csv.gz.
    """
    return _tasks("sider", _SIDER, (21, 27), place, num_features)


def _tasks(
    name: str, file: OfficialFile, sizes: tuple[int, int], place: DataPlace, num_features: int
) -> ClassTasks:
    first_test, num_assays = sizes
    require_at_least("num_features", num_features, 1)
    path = locate(name, file, place)
    assays, smiles, labels = _read(path, num_assays)
    features = cached(
        name, [path], f"1 {num_features}", lambda: hashed_counts(smiles, smiles_grams, num_features)
    )
    data = _data(assays, features, labels).to(place.device)
    rows = {"train": range(2 * first_test), "test": range(2 * first_test, 2 * num_assays)}
    return ClassTasks(
        name,
        {split: partial(data.of, part) for split, part in rows.items()},
        input_shape=(num_features,),
        protocol={
            "features": f"{num_features} hashed SMILES n-grams, length 1",
            "classes": "0 without, 1 with the activity, drawn evenly",
            **split_facts(
                "assays in the file's order",
                {"train": tuple(assays[:first_test]), "test": tuple(assays[first_test:])},
            ),
        },
        pairs=True,
    )


def _read(path: Path, num_assays: int) -> tuple[list[str], list[str], NDArray[np.float64]]:
    """Names of the assays, distinct molecules, and labels [molecules, assays], NaN if unknown."""
    try:
        with gzip.open(path) as file:
            text = read_limited(file, path.name, _MAX_BYTES).decode("utf-8")
        rows = list(csv.DictReader(io.StringIO(text)))
        assays = [column for column in rows[0] if column not in _OTHER_COLUMNS]
        found = np.array([[_label(row[assay]) for assay in assays] for row in rows])
        smiles = [row["smiles"].strip() for row in rows]
    except _READ_ERRORS as error:
        raise ValueError(f"{path} is damaged ({error}); fetch it again") from error
    if len(assays) != num_assays:
        raise ValueError(f"{path} must have {num_assays} assays, it has {len(assays)}")
    return assays, *_merged(smiles, found)


def _label(text: str) -> float:
    """Parse a label: 0, 1, or NaN if it is empty.

    Raises:
        ValueError: if the text is anything else.
    """
    if text == "":
        return np.nan
    if float(text) not in (0, 1):
        raise ValueError(f"a label must be 0, 1 or empty, got {text!r}")
    return float(text)


def _merged(
    smiles: list[str], labels: NDArray[np.float64]
) -> tuple[list[str], NDArray[np.float64]]:
    """Merge the rows of duplicate molecules; labels that disagree become unknown."""
    distinct, rows = np.unique(smiles, return_inverse=True)
    sums = np.zeros((len(distinct), labels.shape[1]))
    counts = np.zeros_like(sums)
    np.add.at(sums, rows, np.nan_to_num(labels))
    np.add.at(counts, rows, ~np.isnan(labels))
    agreed = (counts > 0) & ((sums == 0) | (sums == counts))
    return distinct.tolist(), np.where(agreed, np.minimum(sums, 1), np.nan)


def _data(assays: list[str], features: Tensor, labels: NDArray[np.float64]) -> ClassData:
    """Classes 2i and 2i + 1: the molecules without and with the activity of assay i."""
    rows: list[Tensor] = []
    names: list[str] = []
    for column, assay in zip(labels.T, assays, strict=True):
        for value, word in ((0, "inactive"), (1, "active")):
            rows.append(torch.from_numpy(np.flatnonzero(column == value)))
            names.append(f"{assay}, {word}")
    return data_of_classes(
        features, rows, names, encoding="counts", input_shape=(features.shape[1],)
    )
