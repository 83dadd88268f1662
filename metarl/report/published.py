"""Results that papers report for few-shot learners; `published.toml` contains them."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any

__all__ = ["published_figure"]

_SAME_CLASSES = {"omniglot-vinyals": "omniglot", "omniglot-antialiased": "omniglot"}
"""Data sets that are compared with the results of another one."""


def published_figure(dataset: str, learner: str, ways: int, shots: int) -> str:
    """The published result of a learner, with its source; "" if there is none.

    >>> published_figure("mini-imagenet", "anil", 5, 1)
    '46.7 ± 0.4 (Raghu et al. 2020)'
    """
    paper = _published().get(_SAME_CLASSES.get(dataset, dataset), {}).get(learner, {})
    result = paper.get(f"{ways}-way-{shots}-shot")
    return f"{result} ({paper['source']})" if result else ""


@cache
def _published() -> dict[str, Any]:
    """Papers by data set and learner."""
    file = resources.files("metarl.report") / "published.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))
