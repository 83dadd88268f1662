"""Training of few-shot learners: updates against the paper's loop, files, resume."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fewshot_runs import (
    GLYPHS,
    ON_GLYPHS,
    SMALL,
    TASKS,
    Recorded,
    learner,
    on_glyphs,
    sampled,
    trained,
)
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from metarl.fewshot import (
    DATASETS,
    LEARNERS,
    FewShotBatch,
    FewShotTraining,
    LabelledSet,
    MAMLConfig,
    evaluate_fewshot,
    recipe,
)
from metarl.fewshot.datasets.glyphs import GlyphTasks
from metarl.fewshot.learners.catalog import read_learner
from metarl.fewshot.learners.settings import require_read
from metarl.parameters import Params
from metarl.storage.checkpoints import load_checkpoint, save_checkpoint

RESULTS = Path(__file__).parents[2] / "results"
variants = pytest.mark.parametrize(
    ("name", "settings"),
    [("maml", {"mode": "unrolled"}), ("maml", {"mode": "recurrence"}), ("fomaml", {})],
)


# MAML against the paper.


def error_of_one_task(params: Params, points: LabelledSet, task: int) -> Tensor:
    """Mean squared error of a net with one hidden layer."""
    inputs, targets = points.inputs[task], points.targets[task]
    hidden = torch.relu(functional.linear(inputs, params["weight_0"], params["bias_0"]))
    outputs = functional.linear(hidden, params["weight_1"], params["bias_1"])
    return ((outputs - targets) ** 2).mean()


def query_error(params: Params, batch: FewShotBatch, task: int, num_steps: int) -> Tensor:
    """Algorithm 2, lines 5–7, for one task: descend on the support, measure on the query."""
    for _ in range(num_steps):
        loss = error_of_one_task(params, batch.support, task)
        grads = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        moved = zip(params.items(), grads, strict=True)
        params = {name: p - SMALL["inner_lr"] * grad for (name, p), grad in moved}
    return error_of_one_task(params, batch.query, task)


def paper_loop(
    params: Params, batches: list[FewShotBatch], num_steps: int
) -> tuple[Params, list[float]]:
    """Algorithm 2 with Adam (Kingma & Ba 2015, alg. 1) as the outer optimiser."""
    first = {name: torch.zeros_like(p) for name, p in params.items()}
    second = {name: torch.zeros_like(p) for name, p in params.items()}
    losses = []
    for t, batch in enumerate(batches, start=1):
        params = {name: p.detach().requires_grad_() for name, p in params.items()}
        errors = [query_error(params, batch, task, num_steps) for task in range(3)]
        loss = torch.stack(errors).mean()
        losses.append(float(loss.detach()))
        grads = torch.autograd.grad(loss, list(params.values()))
        stepped = {}
        for (name, p), grad in zip(params.items(), grads, strict=True):
            first[name] = 0.9 * first[name] + 0.1 * grad
            second[name] = 0.999 * second[name] + 0.001 * grad**2
            mean, variance = first[name] / (1 - 0.9**t), second[name] / (1 - 0.999**t)
            stepped[name] = (p - 1e-3 * mean / (variance.sqrt() + 1e-8)).detach()
        params = stepped
    return params, losses


@pytest.mark.parametrize("num_steps", [0, 1, 2])
def test_meta_updates_equal_a_loop_written_from_the_paper(num_steps):
    tasks: Any = Recorded()
    training = learner(tasks=tasks, num_inner_steps=num_steps)
    initial = {name: p.clone() for name, p in training.params.items()}
    losses = [training.iterate()["meta/query_mse"] for _ in range(2)]
    assert [len(batch.support.inputs) for batch in tasks.batches] == [3, 3]
    expected, expected_losses = paper_loop(initial, tasks.batches, num_steps)
    assert losses == pytest.approx(expected_losses, rel=1e-5)
    for name, p in training.params.items():
        torch.testing.assert_close(p, expected[name], rtol=0, atol=2e-6)
        assert not torch.allclose(p, initial[name], rtol=0, atol=1e-4)


def test_the_two_second_order_modes_agree_and_first_order_differs():
    unrolled, recurrence, first_order = (
        trained(3, name, num_inner_steps=2, **settings).params
        for name, settings in (("maml", {}), ("maml", {"mode": "recurrence"}), ("fomaml", {}))
    )
    for name, p in unrolled.items():
        torch.testing.assert_close(recurrence[name], p, rtol=0, atol=1e-5)
    assert any(not torch.allclose(first_order[k], p, atol=1e-4) for k, p in unrolled.items())


@variants
def test_the_same_seed_trains_the_same_net_and_another_seed_another(name, settings):
    first, again, other = (trained(3, name, seed=seed, **settings).params for seed in (0, 0, 1))
    for key, p in first.items():
        assert torch.equal(p, again[key])
        assert not torch.equal(p, other[key])


# Files.


def test_what_is_saved_and_loaded_predicts_the_same(tmp_path: Path):
    training = trained(3, activation="tanh", hidden_sizes=(8, 4))
    training.save(tmp_path / "maml")
    loaded = FewShotTraining.load(tmp_path / "maml", "maml", TASKS)
    assert (loaded.config, loaded.seed, loaded.num_iterations) == (training.config, 0, 3)
    batch = sampled()
    for one in (training, loaded):
        assert not any(p.requires_grad for p in one.adapt(batch.support).params.values())
    actual, expected = (
        one.predict(one.adapt(batch.support), batch.query) for one in (loaded, training)
    )
    assert torch.equal(actual, expected)


def test_the_checkpoint_of_another_learner_is_refused(tmp_path: Path):
    trained(1).save(tmp_path / "maml")
    with pytest.raises(
        ValueError, match="must be of agent 'fewshot-anil', it is of 'fewshot-maml'"
    ):
        FewShotTraining.load(tmp_path / "maml", "anil", TASKS)
    tensors, header = load_checkpoint(
        tmp_path / "maml", agent="fewshot-maml", environment="sinusoid"
    )
    save_checkpoint(tmp_path / "other", tensors, {**header, "environment": "glyphs"})
    with pytest.raises(ValueError, match="must be of environment 'sinusoid', it is of 'glyphs'"):
        FewShotTraining.load(tmp_path / "other", "maml", TASKS)


def test_a_checkpoint_of_format_1_still_predicts(tmp_path: Path):
    training = trained(2)
    training.save(tmp_path / "maml")
    tensors, header = load_checkpoint(
        tmp_path / "maml", agent="fewshot-maml", environment="sinusoid"
    )
    plain = {k.removeprefix("parameters/"): v for k, v in tensors.items() if "optim" not in k}
    old = json.dumps({**header, "format_version": 1})
    (tmp_path / "old").write_bytes(save(plain, metadata={"metarl": old}))
    loaded = FewShotTraining.load(tmp_path / "old", "maml", TASKS)
    assert loaded.num_iterations == 2
    assert all(torch.equal(p, training.params[name]) for name, p in loaded.params.items())


def test_settings_of_an_earlier_version_are_completed_and_saved_in_full(tmp_path: Path):
    training = trained(1)
    training.save(tmp_path / "new")
    tensors, header = load_checkpoint(
        tmp_path / "new", agent="fewshot-maml", environment="sinusoid"
    )
    earlier = ("shots", "meta_batch_size", "num_inner_steps", "inner_lr", "mode", "meta_lr",
               "hidden_sizes", "activation")  # fmt: skip
    held = {name: header["config"][name] for name in earlier}
    save_checkpoint(tmp_path / "old", tensors, {**header, "config": held})
    loaded = FewShotTraining.load(tmp_path / "old", "maml", TASKS)
    assert loaded.config == training.config
    loaded.save(tmp_path / "again")
    header = load_checkpoint(tmp_path / "again", agent="fewshot-maml", environment="sinusoid")[1]
    assert header["config"] == json.loads(json.dumps(asdict(training.config)))


def test_parameters_that_are_not_finite_are_not_saved(tmp_path: Path):
    training = trained(1)
    training.params["bias_0"] += math.nan
    with pytest.raises(FloatingPointError, match="parameter bias_0 must be finite"):
        training.save(tmp_path / "maml")
    assert not (tmp_path / "maml").exists()


def test_a_loss_that_is_not_finite_stops_training_and_leaves_the_parameters():
    training = learner(inner_lr=1e30)
    before = {name: p.clone() for name, p in training.params.items()}
    message = "iteration 1: query loss of task 0 must be finite; try a smaller inner_lr"
    with pytest.raises(FloatingPointError, match=message):
        training.iterate()
    assert all(torch.equal(p, before[name]) for name, p in training.params.items())
    assert training.num_iterations == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shots": 0}, "shots must be 1 or more, got 0"),
        ({"queries": 0}, "queries must be 1 or more, got 0"),
        ({"meta_batch_size": 0}, "meta_batch_size must be 1 or more, got 0"),
        ({"num_inner_steps": -1}, "num_inner_steps must be 0 or more, got -1"),
        ({"inner_lr": 0.0}, r"inner_lr must lie in \(0, ∞\), got 0.0"),
        ({"meta_lr": math.inf}, r"meta_lr must lie in \(0, ∞\), got inf"),
        ({"clip_gradient": math.nan}, r"clip_gradient must lie in \(0, ∞\), got nan"),
        ({"hidden_sizes": (8, 0)}, "hidden_sizes must be 1 or more, got 0"),
        ({"filters": ()}, r"filters must name one block or more, got \(\)"),
        ({"activation": "sine"}, "activation must be one of relu, tanh, got 'sine'"),
        ({"mode": "second"}, "mode must be .*, got 'second'"),
        ({"optimizer": "adan"}, "optimizer must be one of adam, sgd, got 'adan'"),
        ({"schedule": "cosin"}, "got 'cosin'; did you mean 'cosine'"),
        ({"mode": "first_order"}, "for maml, got 'first_order'; the learner fomaml is MAML"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MAMLConfig(**settings)


@pytest.mark.parametrize(
    ("backbone", "name", "value"),
    [
        ("mlp", "filters", (8, 8)),
        ("mlp", "pooling", "stride"),
        ("mlp", "batch_norm", "running"),
        ("conv", "hidden_sizes", (8,)),
        ("conv", "activation", "tanh"),
    ],
)
def test_settings_that_the_net_does_not_read_are_refused_where_they_were_asked_for(
    backbone, name, value
):
    config = MAMLConfig(backbone=backbone, **{name: value})
    require_read(config, {"backbone", "shots"})
    require_read(MAMLConfig(backbone=backbone), {"backbone", name})
    require_read(replace(config, backbone={"mlp": "conv", "conv": "mlp"}[backbone]), {name})
    with pytest.raises(
        ValueError, match=f"^{name} must be left out with backbone {backbone}, which has no use"
    ):
        require_read(config, {"backbone", name})


def test_settings_of_published_runs_and_of_all_recipes_are_taken():
    files = sorted(RESULTS.glob("fewshot/*/*/config.json"))
    assert len(files) > 20
    for file in files:
        stored = json.loads(file.read_text(encoding="utf-8"))
        name = stored["agent"].removeprefix("fewshot-")
        present, config = read_learner(name, stored["agent_config"], where=str(file))
        assert present == name
        require_read(config, set())
        assert (config.min_ways, config.min_shots) == (None, None)
    for entry in LEARNERS:
        for dataset in DATASETS:
            recipe(entry.name, dataset.name)


def test_settings_of_another_learner_are_refused():
    with pytest.raises(TypeError, match="config must be a ProtoNetConfig for protonet, got a MAML"):
        FewShotTraining("protonet", GLYPHS, MAMLConfig())


# Going on.


@pytest.mark.parametrize("stops", [(0,), (2,), (1, 3)])
def test_a_learner_that_was_saved_and_loaded_goes_on_as_if_never_stopped(tmp_path: Path, stops):
    straight, resumed = learner(seed=3), learner(seed=3)
    expected = [straight.iterate() for _ in range(5)]
    seen = []
    for iteration in range(5):
        if iteration in stops:
            resumed.save(tmp_path / "maml")
            resumed = FewShotTraining.load(tmp_path / "maml", "maml", TASKS)
        seen.append(resumed.iterate())
    assert seen == expected
    assert all(torch.equal(p, straight.params[name]) for name, p in resumed.params.items())


@pytest.mark.parametrize("name", [entry.name for entry in LEARNERS])
def test_every_learner_trains_on_pictures_and_resumes_to_the_bit(tmp_path: Path, name):
    schedule: dict[str, Any] = {"schedule": "cosine", "decay_iterations": 10}
    straight, stopped = (on_glyphs(name, seed=4, **schedule) for _ in range(2))
    initial = {key: p.clone() for key, p in straight.params.items()}
    expected = [straight.iterate() for _ in range(3)]
    seen = [stopped.iterate()]
    stopped.save(tmp_path / "one")
    resumed = FewShotTraining.load(tmp_path / "one", name, GLYPHS)
    seen += [resumed.iterate() for _ in range(2)]
    assert seen == expected
    for key, p in straight.evaluation_params.items():
        assert torch.equal(resumed.evaluation_params[key], p)
    assert any(not torch.equal(p, initial[key]) for key, p in straight.params.items())
    assert resumed.validate() == straight.validate()


def test_every_iteration_of_every_seed_draws_tasks_of_its_own():
    tasks: Any = Recorded()
    for seed in (0, 1):
        training = learner(tasks=tasks, seed=seed)
        training.iterate()
        training.iterate()
    inputs = torch.cat([batch.support.inputs.flatten() for batch in tasks.batches])
    assert inputs.unique().numel() == inputs.numel()


def test_running_statistics_move_towards_those_of_the_batch():
    training = on_glyphs("protonet", batch_norm="running")
    assert all((p == ("variance" in name)).all() for name, p in training.running.items())
    wanted = {}
    statistics = training.learner.statistics

    def noted(params: Params, batch: FewShotBatch) -> Params:
        wanted.update(statistics(params, batch))
        return wanted

    training.learner.statistics = noted  # type: ignore[method-assign]
    before = {name: p.clone() for name, p in training.running.items()}
    training.iterate()
    for name, p in training.running.items():
        torch.testing.assert_close(p, 0.9 * before[name] + 0.1 * wanted[name])


def test_a_schedule_without_an_end_is_refused_before_anything_is_changed():
    training = on_glyphs("reptile", decay_iterations=None)
    before = {name: p.clone() for name, p in training.params.items()}
    with pytest.raises(
        ValueError, match="decay_iterations must be given for the schedule 'linear'"
    ):
        training.iterate()
    assert training.num_iterations == 0
    assert all(torch.equal(p, before[name]) for name, p in training.params.items())


class Asked(GlyphTasks):
    """Glyphs that remember which splits were drawn from."""

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "asked", set())

    def sample(self, *args: Any, split: str, **others: Any) -> FewShotBatch:
        self.asked.add(split)  # type: ignore[attr-defined] # set above
        return super().sample(*args, split=split, **others)

    def sample_points(self, *args: Any, split: str, **others: Any) -> tuple[Tensor, Tensor]:
        self.asked.add(split)  # type: ignore[attr-defined] # set above
        return super().sample_points(*args, split=split, **others)


@pytest.mark.parametrize("name", ["protonet", "transfer"])
def test_validation_classes_are_trained_on_if_asked_for_and_then_judge_nothing(name, tmp_path):
    tasks: Any = Asked()
    config = recipe(name, "glyphs", **ON_GLYPHS, train_split="train+validation")
    training = FewShotTraining(name, tasks, config)
    training.iterate()
    assert list(training.validate()) == ["train/accuracy"]
    assert tasks.asked == {"train+validation", "train"}
    training.save(tmp_path / "held")
    again = FewShotTraining.load(tmp_path / "held", name, GLYPHS)
    assert again.config.train_split == "train+validation"
    protocol = evaluate_fewshot(training, num_tasks=2).protocol
    assert (protocol["split"], protocol["train_split"]) == ("test", "train+validation")


def test_validation_classes_cannot_be_trained_on_where_there_are_none():
    with pytest.raises(ValueError, match="train_split must be train for sinusoid, which keeps no"):
        learner(train_split="train+validation")
    with pytest.raises(ValueError, match=r"train_split must be one of .*, got 'all'"):
        learner(train_split="all")
