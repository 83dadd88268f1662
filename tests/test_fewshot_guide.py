"""The few-shot guide leaves out no learner, and predictions work as it states."""

import re
from pathlib import Path

import pytest
import torch
from fewshot_episodes import generator
from fewshot_runs import on_glyphs

from metarl.fewshot import LEARNERS, EpisodeShape

GUIDE = (Path(__file__).parents[1] / "docs/guides/fewshot.md").read_text(encoding="utf-8")


def test_the_guide_names_every_learner():
    named = re.findall(r"^\| `([a-z0-9+-]+)` \|", GUIDE, flags=re.MULTILINE)
    assert named == [entry.name for entry in LEARNERS]


@pytest.mark.parametrize("learner", ["maml", "protonet"])
def test_points_without_labels_are_predicted_as_those_with(learner):
    training = on_glyphs(learner, filters=(4, 4))
    support, query = training.tasks.sample(
        2, EpisodeShape(3, 1, 3), split="test", generator=generator()
    )
    adapted = training.adapt(support)
    with_labels = training.predict(adapted, query)
    assert torch.equal(training.predict(adapted, query.inputs), with_labels)
