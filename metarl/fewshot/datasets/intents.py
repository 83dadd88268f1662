"""Intents of short requests: CLINC150 and BANKING77, as hashed n-gram features."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

from metarl.fewshot.data.class_tasks import ClassTasks
from metarl.fewshot.data.features import hashed_counts, word_grams
from metarl.fewshot.data.files import DataPlace, OfficialFile, cached, locate, locate_all
from metarl.fewshot.data.packed import data_of_names
from metarl.fewshot.data.splits import fraction_sizes, seeded_split, split_facts, split_loaders
from metarl.validation import require_at_least

__all__ = ["Request", "banking77_tasks", "clinc150_requests", "clinc150_tasks"]

_CLINC = OfficialFile(
    "text/clinc150_data_full.json",
    "https://raw.githubusercontent.com/clinc/oos-eval/master/data/data_full.json",
    "sha256:36923c3705a59e08fe9c3883d8bc2dd966ef93e22cb78ac41171782a698d56e0",
)
_BANKING_URL = (
    "https://raw.githubusercontent.com/PolyAI-LDN/task-specific-datasets/master/banking_data/"
)
_BANKING = (
    OfficialFile(
        "text/banking77_train.csv",
        f"{_BANKING_URL}train.csv",
        "sha256:b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b",
    ),
    OfficialFile(
        "text/banking77_test.csv",
        f"{_BANKING_URL}test.csv",
        "sha256:d12d6e3bc4c3103966ae786dc435913c0c563dfa328f5a3646d0e62cfeeb474d",
    ),
)
_HELD_OUT = (0.2, 0.2)  # fractions of the classes for validation and test

Request = tuple[str, str]
"""A request and its intent."""


def clinc150_tasks(
    place: DataPlace, *, num_features: int = 1024, split_seed: int = 0
) -> ClassTasks:
    """150 intents with 150 requests each, split 90 / 30 / 30 at random, without out-of-scope ones.

    Args:
        place: location of text/clinc150_data_full.json.
        num_features: length of the vectors.
        split_seed: seed of the split. The data set has no official few-shot split.

    Raises:
        FileNotFoundError: if the file is missing and cannot be downloaded.
        ValueError: if it is damaged.

    Source: Larson et al. 2019 (arXiv:1909.02027), "full". Repeated requests
    of an intent count once.
    """
    requests = clinc150_requests(place)
    path = locate("clinc150", _CLINC, place)
    return _tasks("clinc150", [path], requests, place, (num_features, split_seed))


def clinc150_requests(place: DataPlace) -> list[Request]:
    """The requests of CLINC150 with their intents, without out-of-scope ones; some occur twice.

    Arguments and errors are as for `clinc150_tasks`.
    """
    return _read(locate("clinc150", _CLINC, place), _read_json)


def banking77_tasks(
    place: DataPlace, *, num_features: int = 1024, split_seed: int = 0
) -> ClassTasks:
    """77 intents of bank customers with 75 to 227 requests each, split 47 / 15 / 15 at random.

    Arguments and errors are as for `clinc150_tasks`; the files are text/banking77_train.csv and
    text/banking77_test.csv.

    Source: Casanueva et al. 2020 (arXiv:2003.04807).
    """
    paths = locate_all("banking77", _BANKING, place)
    requests: list[Request] = []
    for path in paths:
        requests += _read(path, _read_table)
    return _tasks("banking77", paths, requests, place, (num_features, split_seed))


def _read_json(text: str) -> list[Request]:
    content = json.loads(text)
    parts = [content[part] for part in ("train", "val", "test")]
    return [(request.strip(), intent.strip()) for part in parts for request, intent in part]


def _read_table(text: str) -> list[Request]:
    rows = csv.DictReader(io.StringIO(text))
    return [(row["text"].strip(), row["category"].strip()) for row in rows]


def _read(path: Path, read: Callable[[str], list[Request]]) -> list[Request]:
    try:
        return read(path.read_text(encoding="utf-8"))
    except (KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
        raise ValueError(f"{path} is damaged ({error!r}); fetch it again") from error


def _tasks(
    name: str,
    sources: list[Path],
    requests: list[Request],
    place: DataPlace,
    settings: tuple[int, int],
) -> ClassTasks:
    num_features, split_seed = settings
    require_at_least("num_features", num_features, 1)
    distinct = list(dict.fromkeys(requests))
    texts = [text for text, _ in distinct]
    features = cached(
        name, sources, f"1 {num_features}", lambda: hashed_counts(texts, word_grams, num_features)
    )
    data = data_of_names(
        features,
        [intent for _, intent in distinct],
        encoding="counts",
        input_shape=(num_features,),
    ).to(place.device)
    sizes = fraction_sizes(len(data.class_names), *_HELD_OUT)
    split = seeded_split(data.class_names, sizes, split_seed)
    return ClassTasks(
        name,
        split_loaders(data, split),
        input_shape=(num_features,),
        protocol={
            "features": f"{num_features} hashed word and character n-grams, length 1",
            **split_facts(f"random, seed {split_seed}", split),
        },
    )
