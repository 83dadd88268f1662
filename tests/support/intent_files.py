"""A few sentences in the layout of CLINC150."""

from __future__ import annotations

from typing import Any

INTENTS = [f"intent_{letter}" for letter in "abcdefghij"]


def clinc() -> dict[str, Any]:
    """Ten intents with 4 + 1 + 2 requests each; one request is there twice."""
    content: dict[str, Any] = {
        part: [[f"{part} {intent} {i}", intent] for intent in INTENTS for i in range(count)]
        for part, count in (("train", 4), ("val", 1), ("test", 2))
    }
    content["test"].append(content["train"][0])
    return {**content, "oos_train": [["nonsense", "oos"]], "oos_val": [], "oos_test": []}
