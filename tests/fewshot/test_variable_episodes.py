"""Training on episodes of varying ways and shots: no learner sees the padding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fewshot_episodes import IMAGES, VECTORS, context, episodes, generator, make_learner, start
from fewshot_runs import GLYPHS, ON_GLYPHS, TASKS, on_glyphs

from metarl.fewshot import LEARNERS, FewShotTraining, evaluate_fewshot, recipe
from metarl.fewshot.contract.interface import FewShotLearner
from metarl.fewshot.contract.problem import Problem
from metarl.fewshot.data.batches import (
    EpisodeRanges,
    EpisodeShape,
    FewShotBatch,
    LabeledSet,
    VariableTasks,
)
from metarl.fewshot.data.episodes import varied
from metarl.fewshot.datasets.glyphs import GlyphTasks
from metarl.fewshot.running import NUM_BATCHES
from metarl.scripts.cli import dispatch

NAMES = [entry.name for entry in LEARNERS]
TRAINED = [name for name in NAMES if name != "transfer"]
HEADLESS = ("protonet", "r2d2", "matching", "relation", "siamese", "transfer")
RANGES = EpisodeRanges(ways=(2, 4), shots=(1, 3), queries=2)
VARYING: dict[str, Any] = {"min_ways": 2, "shots": 3, "train_shots": None, "min_shots": 1}

CASES: list[tuple[str, Problem, dict[str, Any]]] = [
    *((name, problem, {}) for name in TRAINED for problem in (IMAGES, VECTORS)),
    *((name, IMAGES, {"batch_norm": "support"}) for name in TRAINED if name != "relation"),
    *((name, IMAGES, {"batch_norm": "per-step"}) for name in ("maml", "maml++", "boil")),
    ("maml", IMAGES, {"pooling": "stride", "chunk_size": 2}),
    ("maml", IMAGES, {"differentiation": "recurrence", "num_inner_steps": 2}),
    ("protonet", IMAGES, {"chunk_size": 2}),
    ("matching", IMAGES, {"full_context": False}),
]


def case_id(value: object) -> str:
    if isinstance(value, Problem):
        return {IMAGES: "images", VECTORS: "vectors"}[value._replace(num_outputs=3)]
    return "-".join(map(str, value.values())) if isinstance(value, dict) else str(value)


cases = pytest.mark.parametrize(
    ("name", "problem", "settings"),
    [(name, problem._replace(num_outputs=4), settings) for name, problem, settings in CASES],
    ids=case_id,
)


def learner_of(name: str, problem: Problem, **settings: Any) -> FewShotLearner:
    """A learner of at most four ways; Reptile uses the whole support at every step."""
    whole = {"inner_batch": 12} if name == "reptile" else {}
    return make_learner(name, problem, **{"ways": 4, **whole, **settings})


def padded(problem: Problem) -> FewShotBatch:
    """Six tasks of 2 to 4 ways and 1 to 3 shots."""
    batch = varied(episodes(problem, tasks=6, shots=3), RANGES, generator(4))
    assert batch.support.mask is not None
    sizes = batch.support.mask.view(6, 4, 3)
    assert set(sizes.any(2).sum(1).tolist()) == {2, 3, 4}
    assert set(sizes.any(1).sum(1).tolist()) == {1, 2, 3}
    return batch


def alone(batch: FewShotBatch, row: int) -> FewShotBatch:
    """A single task with the points that count."""
    parts = []
    for inputs, targets, mask in batch:
        assert mask is not None
        counts = mask[row]
        parts.append(LabeledSet(inputs[row : row + 1, counts], targets[row : row + 1, counts]))
    return FewShotBatch(*parts)


# Learners.


@cases
def test_losses_and_gradients_of_a_padded_batch_are_those_of_each_task_alone(
    name, problem, settings
):
    learner = learner_of(name, problem, **settings)
    params, batch = start(learner), padded(problem)
    losses, grads = learner.meta_gradient(params, batch, context())
    found = [learner.meta_gradient(params, alone(batch, row), context()) for row in range(6)]
    torch.testing.assert_close(torch.cat([loss for loss, _ in found]), losses)
    for key in params:
        mean = torch.stack([grad[key] for _, grad in found]).mean(0)
        torch.testing.assert_close(grads[key], mean, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize(
    ("name", "problem"),
    [(name, p._replace(num_outputs=4)) for name in NAMES for p in (IMAGES, VECTORS)],
    ids=case_id,
)
def test_outputs_of_a_padded_batch_are_those_of_each_task_alone(name, problem):
    learner = learner_of(name, problem)
    params, batch = start(learner), padded(problem)
    query = batch.query
    with torch.no_grad():
        logits = learner.predict(learner.adapt(params, batch.support), query.inputs, query.mask)
    assert query.mask is not None
    for row in range(6):
        task = alone(batch, row)
        with torch.no_grad():
            wanted = learner.predict(learner.adapt(params, task.support), task.query.inputs)[0]
        counted, num_ways = logits[row, query.mask[row]], int(task.support.targets.max()) + 1
        assert wanted.shape[-1] == (num_ways if name in HEADLESS else 4)
        torch.testing.assert_close(counted[:, : wanted.shape[-1]], wanted)
        if name in HEADLESS:
            assert (counted.argmax(-1) < num_ways).all()


@pytest.mark.parametrize("name", NAMES)
def test_running_statistics_of_a_padded_batch_are_those_of_each_task_alone(name):
    problem = IMAGES._replace(num_outputs=4)
    test_steps = {"num_test_steps": 2} if name == "reptile" else {}
    learner = learner_of(name, problem, batch_norm="running", **test_steps)
    params, batch = start(learner), padded(problem)
    found = learner.statistics(params, batch)
    each = [learner.statistics(params, alone(batch, row)) for row in range(6)]
    assert found
    for key, values in found.items():
        torch.testing.assert_close(torch.stack([one[key] for one in each]).mean(0), values)


# Sampling.


def test_the_same_points_are_sampled_and_the_rest_is_masked():
    batch = GLYPHS.sample_variable(40, RANGES, split="train", generator=generator(3))
    whole = GLYPHS.sample(40, RANGES.largest, split="train", generator=generator(3))
    for part, full, points in ((batch.support, whole.support, 12), (batch.query, whole.query, 8)):
        assert part.mask is not None
        assert part.mask.shape == (40, points)
        assert torch.equal(part.inputs[part.mask], full.inputs[part.mask])
        assert float(part.inputs[~part.mask].abs().max()) == 0
        assert torch.equal(part.targets, full.targets)
    assert isinstance(GLYPHS, VariableTasks)
    assert not isinstance(TASKS, VariableTasks)


class RecordsEpisodes(GlyphTasks):
    """Glyphs that record the requested episodes."""

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "fixed", [])
        object.__setattr__(self, "varying", [])

    def sample(self, num_tasks: int, shape: EpisodeShape, **others: Any) -> FewShotBatch:
        self.fixed.append((others["split"], shape))  # type: ignore[attr-defined] # set above
        return super().sample(num_tasks, shape, **others)

    def sample_variable(self, num_tasks: int, ranges: EpisodeRanges, **others: Any) -> FewShotBatch:
        self.varying.append((others["split"], ranges))  # type: ignore[attr-defined] # set above
        batch = super().sample_variable(num_tasks, ranges, **others)
        self.fixed.pop()  # type: ignore[attr-defined] # the one inside
        return batch


def test_episodes_vary_in_training_only():
    tasks: Any = RecordsEpisodes()
    changes: dict[str, Any] = {**ON_GLYPHS, "train_ways": 5, "queries": 2, "min_ways": 2}
    training = FewShotTraining("protonet", tasks, recipe("protonet", "glyphs", **changes))
    training.iterate()
    training.validate()
    # Two tasks to train on, and those that estimate the running statistics.
    assert tasks.varying == [("train", EpisodeRanges((2, 5), (1, 1), 2))] * (2 + NUM_BATCHES)
    assert tasks.fixed.count(("validation", EpisodeShape(3, 1, 2))) == 2
    assert {split for split, shape in tasks.fixed if shape.ways == 3} == {"validation"}


@pytest.mark.parametrize("name", TRAINED)
def test_every_learner_trains_on_them_and_resumes_bitwise(tmp_path: Path, name):
    settings = {**VARYING, "ways": 4, **({"inner_batch": 12} if name == "reptile" else {})}
    straight, stopped, fixed = (
        on_glyphs(name, seed=4, **changes)
        for changes in (settings, settings, {**settings, "min_ways": None, "min_shots": None})
    )
    expected = [straight.iterate() for _ in range(3)]
    assert expected[0] != fixed.iterate()
    seen = [stopped.iterate()]
    stopped.save(tmp_path / "one")
    resumed = FewShotTraining.load(tmp_path / "one", name, GLYPHS)
    seen += [resumed.iterate() for _ in range(2)]
    assert seen == expected
    for key, p in straight.evaluation_params.items():
        assert torch.equal(resumed.evaluation_params[key], p)


def test_the_command_trains_on_them(tmp_path: Path):
    line = (
        "fewshot protonet --dataset glyphs --ways 3 --train-ways 6 --min-ways 2 --shots 2 "
        "--min-shots 1 --filters 2 2 --queries 2 --iterations 3 --device cpu --tracker none"
    )
    dispatch([*line.split(), "--out", str(tmp_path / "run")])
    stored = json.loads((tmp_path / "run" / "config.json").read_text(encoding="utf-8"))
    assert (stored["agent_config"]["min_ways"], stored["agent_config"]["min_shots"]) == (2, 1)
    assert (tmp_path / "run" / "evaluation.json").exists()


# Invalid arguments.


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("protonet", {"min_ways": 1}, "min_ways must be 2 or more, got 1"),
        ("protonet", {"min_shots": 0}, "min_shots must be 1 or more, got 0"),
        ("protonet", {"min_ways": 4}, "min_ways must be 3 or less, the ways of training, got 4"),
        ("maml", {"min_shots": 2}, "min_shots must be 1 or less, the shots of training, got 2"),
        (
            "transfer",
            {"min_ways": 2},
            "min_ways must be left out for transfer, which trains on",
        ),
        ("reptile", {"min_ways": 2}, "inner_batch must be 30 or more, the whole support set, if"),
    ],
)
def test_invalid_ranges_of_episodes_are_rejected(name, changes, message):
    with pytest.raises(ValueError, match=message):
        on_glyphs(name, **changes)


@pytest.mark.parametrize(
    ("tasks", "changes", "message"),
    [
        (TASKS, {"min_ways": 2}, "min_ways must be left out for regression, which has no classes"),
        (TASKS, {"min_shots": 2}, "min_ways and min_shots must be left out for sinusoid, whose"),
    ],
)
def test_data_sets_of_one_size_are_rejected(tasks, changes, message):
    with pytest.raises(ValueError, match=message):
        FewShotTraining("maml", tasks, recipe("maml", "sinusoid", **changes))


def test_evaluation_at_fewer_ways_than_a_training_episode_has_still_runs():
    training = on_glyphs("protonet", train_ways=6, min_ways=5)
    assert evaluate_fewshot(training, num_tasks=2, ways=2).protocol["ways"] == 2
