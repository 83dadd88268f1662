"""Evaluation of few-shot learners: curves over steps, scores and intervals, the protocol."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from fewshot_episodes import generator
from fewshot_runs import GLYPHS, TASKS, on_glyphs, trained

from metarl.fewshot import (
    EpisodeShape,
    FewShotBatch,
    LabeledSet,
    MeasuredRuns,
    adaptation_curve,
    evaluate_fewshot,
)
from metarl.fewshot.contract.problem import accuracies
from metarl.fewshot.data.batches import small_parts
from metarl.seeding import torch_generator

# Curves over steps.


def test_the_curve_starts_before_adaptation_and_follows_the_steps():
    training = trained(3, num_inner_steps=2)
    batch = TASKS.sample_for_test(4, 6, generator())
    curve = adaptation_curve(training, batch, 3)
    assert curve.shape == (4, 4)
    adapted = training.adapt(batch.support)
    shared = {name: p.expand(4, *p.shape) for name, p in training.params.items()}
    for step, known in ((0, adapted._replace(params=shared)), (2, adapted)):
        outputs = training.predict(known, batch.query)
        errors = (outputs - batch.query.targets).square().mean((1, 2))
        np.testing.assert_allclose(curve[step], errors, rtol=1e-5)
    assert not np.allclose(curve[0], curve[1], rtol=1e-3)
    np.testing.assert_array_equal(adaptation_curve(training, batch, 0), curve[:1])


def test_the_curve_leaves_the_learner_as_it_was():
    training, batch = trained(1), TASKS.sample_for_test(4, 6, generator())
    before = {name: p.clone() for name, p in training.params.items()}
    adaptation_curve(training, batch, 3)
    assert all(torch.equal(p, before[name]) for name, p in training.params.items())


def test_long_adaptations_are_measured_at_the_documented_steps():
    training = trained(3, inner_lr=1e-3)
    evaluation = evaluate_fewshot(training, num_tasks=4, num_steps=23)
    assert evaluation.steps == (*range(11), 20, 23)
    batch = TASKS.sample_for_test(4, 6, torch_generator(0, "test"))
    curve = adaptation_curve(training, batch, 23)
    np.testing.assert_array_equal(evaluation.scores, curve[list(evaluation.steps)])


def test_as_many_steps_are_measured_as_were_trained():
    evaluation = evaluate_fewshot(trained(1, num_inner_steps=12), num_tasks=4)
    assert evaluation.steps == (*range(11), 12)
    assert evaluate_fewshot(trained(1), num_tasks=4).steps == tuple(range(11))


# Evaluation.


def test_the_evaluation_is_that_of_its_tasks():
    training = on_glyphs("protonet")
    evaluation = evaluate_fewshot(training, num_tasks=60, seed=5)
    assert evaluation.scores.shape == (1, 60)
    assert (evaluation.steps, evaluation.metric) == ((1,), "accuracy")
    assert evaluate_fewshot(training, num_tasks=55, seed=5).scores == pytest.approx(
        evaluation.scores[:, :55]
    )
    assert not np.array_equal(evaluate_fewshot(training, num_tasks=60).scores, evaluation.scores)
    mean, low, high, _ = evaluation.intervals()[0]
    half = 2.0010 * evaluation.scores[0].std(ddof=1) / math.sqrt(60)
    assert (mean, high - mean, mean - low) == pytest.approx(
        (evaluation.scores.mean(), half, half), rel=1e-4
    )


def test_the_evaluation_records_the_facts_that_affect_it():
    training = on_glyphs("maml", batch_norm="support")
    training.iterate()
    written = evaluate_fewshot(training, num_tasks=3, num_steps=2, queries=4).to_json()
    assert [row["step"] for row in written["steps"]] == [0, 1, 2]
    protocol = written["protocol"]
    assert (protocol["ways"], protocol["shots"], protocol["query"]) == (3, 1, "4 per class")
    assert protocol["batch_norm"] == "support: statistics of the support set"
    assert protocol["transductive"] is False
    assert (protocol["num_tasks"], protocol["iterations"], protocol["split"]) == (3, 1, "test")
    assert "data_glyph_seed" in protocol
    json.dumps(written)


def test_curves_are_measured_on_a_grid():
    evaluation = evaluate_fewshot(trained(1), num_tasks=7, num_steps=1)
    assert evaluation.metric == "mse"
    assert evaluation.protocol["query"] == "100 even points over the inputs"
    assert evaluation.scores.shape == (2, 7)


def test_one_task_has_no_interval():
    evaluation = evaluate_fewshot(trained(1), num_tasks=1, num_steps=1)
    assert all(not found.has_interval for found in evaluation.intervals())
    stored = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert stored["steps"][0]["mse"]["low"] is None


def test_draws_have_independent_tasks_and_the_first_one_is_the_default():
    first, second = (
        evaluate_fewshot(trained(1), num_tasks=5, num_steps=1, draw=draw) for draw in (0, 1)
    )
    default = evaluate_fewshot(trained(1), num_tasks=5, num_steps=1)
    np.testing.assert_array_equal(default.scores, first.scores)
    assert not np.isin(first.scores, second.scores).any()


def test_diverged_steps_have_no_mean_and_earlier_steps_keep_theirs():
    """The more steps of a rate far too large, the fewer errors float32 can hold."""
    training = trained(1, inner_lr=30.0)
    evaluation = evaluate_fewshot(training, num_tasks=5, num_steps=40)
    intervals = evaluation.intervals()
    assert intervals[0] is not None
    assert intervals[0].value == pytest.approx(evaluation.scores[0].mean())
    assert intervals[-1] is None
    for measured in (evaluation, MeasuredRuns({"a": evaluation, "b": evaluation})):
        written = json.loads(json.dumps(measured.to_json(), allow_nan=False))["steps"]
        assert written[0]["mse"]["mean"] == pytest.approx(intervals[0].value, abs=5e-5)
        assert written[-1]["mse"] is None
        scores = written[-1]["scores"]
        assert None in (scores["b"] if isinstance(scores, dict) else scores)


def test_a_nan_prediction_counts_as_wrong():
    outputs = torch.tensor([[[2.0, 1.0], [math.nan, 5.0], [math.nan, math.nan], [0.0, math.inf]]])
    assert accuracies(outputs, torch.tensor([[0, 0, 0, 1]])).tolist() == [0.5]


def test_a_test_never_takes_more_than_a_few_tasks_through_the_net():
    """50 tasks of 80 photographs at once would take tens of gigabytes."""
    shape = EpisodeShape(ways=3, shots=1, queries=8)
    batch = GLYPHS.sample(100, shape, split="test", generator=generator())
    parts = list(small_parts(batch))
    sizes = [len(part.query.inputs) for part in parts]
    assert sizes == [37, 37, 26]  # of 27 images: no more than 1,000
    whole = torch.cat([part.support.inputs for part in parts])
    assert torch.equal(whole, batch.support.inputs)
    large = FewShotBatch(*(LabeledSet(x.repeat(1, 40, 1, 1, 1), t) for x, t, _ in batch))
    assert {len(part.query.inputs) for part in small_parts(large)} == {1}


def test_parts_of_tasks_keep_their_masks():
    mask = torch.arange(4).view(4, 1) < torch.arange(6)
    points = LabeledSet(torch.zeros(4, 6, 98, 1000), torch.zeros(4, 6), mask)
    parts = list(small_parts(FewShotBatch(points, points)))
    assert len(parts) == 4
    assert all(torch.equal(p.query.mask, mask[k : k + 1]) for k, p in enumerate(parts))


@pytest.mark.parametrize("name", ["maml", "protonet"])
def test_validation_by_parts_is_that_of_all_tasks_at_once(name):
    training = on_glyphs(name, queries=8)
    training.iterate()
    shape = training.config.test_shape(training.learner.problem)
    generator = torch_generator(0, "validation", 0)
    batch = GLYPHS.sample(100, shape, split="validation", generator=generator)
    logits = training.predict(training.adapt(batch.support), batch.query)
    share = float((logits.argmax(-1) == batch.query.targets).double().mean())
    assert training.validate() == {"validation/accuracy": pytest.approx(share, abs=2e-3)}


def test_an_evaluation_reports_its_progress():
    training = on_glyphs("protonet", filters=(4, 4))
    calls: list[tuple[str, int, int]] = []
    evaluate_fewshot(training, num_tasks=60, progress=lambda *news: calls.append(news))
    counts = [done for _, done, _ in calls]
    assert counts == sorted(set(counts))
    assert len(counts) > 2
    assert (counts[0], counts[-1]) == (0, 60)
    assert {news[::2] for news in calls} == {("testing protonet on test tasks of glyphs", 60)}
