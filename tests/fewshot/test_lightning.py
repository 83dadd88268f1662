"""Few-shot learners under a Lightning Trainer: the same bits, its checkpoints, its callbacks."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning")

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from metarl.fewshot import LEARNERS, FewShotTraining, SinusoidTasks, evaluate_fewshot, recipe
from metarl.fewshot.datasets.glyphs import GlyphTasks
from metarl.fewshot.lightning import FewShotModule

# Lightning asks torch for what torch has renamed since.
pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.:FutureWarning")

GLYPHS, CURVES = GlyphTasks(), SinusoidTasks()
ON_GLYPHS: dict[str, Any] = {
    "filters": (2, 2), "meta_batch_size": 2, "ways": 3, "train_ways": None, "decay_iterations": 20,
}  # fmt: skip
FEW_STEPS: dict[str, dict[str, Any]] = {
    "reptile": {"num_inner_steps": 2, "num_test_steps": 2},
    "imaml": {"num_inner_steps": 2},
    "maml++": {"num_inner_steps": 2},
}
NAMES = [entry.name for entry in LEARNERS]
SCHEDULED: dict[str, Any] = {"schedule": "cosine", "decay_iterations": 5, "clip_gradient": 1e-2}


def on_glyphs(name: str, **settings: Any) -> FewShotTraining:
    config = recipe(name, "glyphs", **{**ON_GLYPHS, **FEW_STEPS.get(name, {}), **settings})
    return FewShotTraining(name, GLYPHS, config, seed=3)


def on_curves(**settings: Any) -> FewShotTraining:
    small = {"shots": 6, "meta_batch_size": 3, "hidden_sizes": (8,), **settings}
    return FewShotTraining("maml", CURVES, recipe("maml", "sinusoid", **small), seed=3)


def iterated(training: FewShotTraining, count: int) -> FewShotTraining:
    for _ in range(count):
        training.iterate()
    return training


def trainer(max_steps: int, *callbacks: Callback, **settings: Any) -> Trainer:
    """A trainer that writes nothing by default."""
    quiet: dict[str, Any] = {
        "accelerator": "cpu", "logger": False, "enable_progress_bar": False,
        "enable_model_summary": False, "enable_checkpointing": False, "limit_val_batches": 0,
    }  # fmt: skip
    if any(isinstance(callback, ModelCheckpoint) for callback in callbacks):
        quiet["enable_checkpointing"] = True
    return Trainer(max_steps=max_steps, callbacks=list(callbacks), **{**quiet, **settings})


def fitted(training: FewShotTraining, count: int) -> FewShotTraining:
    trainer(count).fit(FewShotModule(training, iterations_per_epoch=3))
    return training


def assert_same(one: FewShotTraining, other: FewShotTraining) -> None:
    """Counters, parameters, running statistics and the optimizer's moments, bitwise."""
    assert one.num_iterations == other.num_iterations
    groups = [
        {
            "params": training.params,
            "running": training.running,
            "optimizer": training._optimizer.tensors(),
        }
        for training in (one, other)
    ]
    assert groups[0].keys() == groups[1].keys()
    for name, tensors in groups[0].items():
        assert tensors.keys() == groups[1][name].keys()
        for key, tensor in tensors.items():
            assert torch.equal(tensor, groups[1][name][key]), f"{name} {key}"


# The same bits.


@pytest.mark.parametrize("name", NAMES)
def test_steps_under_lightning_equal_iterations_bitwise(name):
    under_lightning = fitted(on_glyphs(name), 4)
    assert_same(under_lightning, iterated(on_glyphs(name), 4))
    untrained = on_glyphs(name)
    assert any(
        not torch.equal(p, untrained.params[key]) for key, p in under_lightning.params.items()
    )


@pytest.mark.parametrize("settings", [{}, SCHEDULED, {"optimizer": "sgd", **SCHEDULED}])
def test_regression_schedules_and_clipping_are_those_of_the_settings(settings):
    assert_same(fitted(on_curves(**settings), 4), iterated(on_curves(**settings), 4))


def test_a_trained_learner_continues_with_its_moments():
    training = fitted(fitted(iterated(on_curves(), 2), 2), 1)
    assert_same(iterated(training, 2), iterated(on_curves(), 7))


# Checkpoints.


# Lightning warns about every folder in which a run is resumed.
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning")
@pytest.mark.parametrize("stopped_after", [2, 3, 4])  # epochs end after 3 and 6
@pytest.mark.parametrize("name", ["maml", "protonet", "reptile"])
def test_a_run_resumed_from_a_lightning_checkpoint_continues_bitwise(
    name, stopped_after, tmp_path: Path
):
    saving = ModelCheckpoint(tmp_path, every_n_train_steps=stopped_after, save_top_k=-1)
    trainer(stopped_after, saving).fit(FewShotModule(on_glyphs(name), iterations_per_epoch=3))
    same = ModelCheckpoint(tmp_path, every_n_train_steps=stopped_after, save_top_k=-1)
    resumed, again = on_glyphs(name), trainer(7, same)
    module = FewShotModule(resumed, iterations_per_epoch=3)
    again.fit(module, ckpt_path=saving.best_model_path, weights_only=True)
    assert (again.global_step, resumed.num_iterations) == (7, 7)
    assert_same(resumed, iterated(on_glyphs(name), 7))


def test_the_module_of_a_checkpoint_is_evaluated_as_the_one_that_was_trained(tmp_path: Path):
    training = on_glyphs("protonet")
    run = trainer(3, ModelCheckpoint(tmp_path, filename="last"))
    run.fit(FewShotModule(training, iterations_per_epoch=3))
    loaded = FewShotModule.load_from_checkpoint(
        tmp_path / "last.ckpt", fewshot=on_glyphs("protonet")
    )
    first, second = (evaluate_fewshot(one, num_tasks=10) for one in (training, loaded.fewshot))
    assert first.to_json() == second.to_json()
    assert second.protocol["iterations"] == 3


def test_a_metarl_checkpoint_of_a_learner_trained_by_lightning_continues(tmp_path: Path):
    training = fitted(on_curves(), 3)
    training.save(tmp_path / "own")
    loaded = FewShotTraining.load(tmp_path / "own", "maml", CURVES)
    assert_same(iterated(loaded, 2), iterated(on_curves(), 5))


def test_the_checkpoint_of_another_learner_or_other_settings_is_rejected(tmp_path: Path):
    path = tmp_path / "maml.ckpt"
    run = trainer(1, ModelCheckpoint(tmp_path, filename="maml", every_n_train_steps=1))
    run.fit(FewShotModule(on_curves()))
    with pytest.raises(
        ValueError, match=r"must have dataset 'glyphs' like the module, got 'sinusoid'"
    ):
        trainer(2).fit(FewShotModule(on_glyphs("maml")), ckpt_path=path)
    other = FewShotModule(on_curves(inner_lr=0.02))
    with pytest.raises(ValueError, match=r"must have inner_lr 0\.02 like the module, got 0\.0"):
        trainer(2).fit(other, ckpt_path=path)
    assert other.fewshot.num_iterations == 0
    with pytest.raises(ValueError, match="must be one of a FewShotModule"):
        other.on_load_checkpoint({"state_dict": {}})


# Callbacks, loggers and users.


def test_parameters_and_statistics_are_the_module_s_own_and_it_moves_with_the_learner():
    training = iterated(on_glyphs("protonet"), 1)
    module = FewShotModule(training)
    names = {name for name, _ in module.named_parameters()}
    assert names == {f"params.{name}" for name in training.params}
    assert {name for name, _ in module.named_buffers()} == {
        f"running/{name}" for name in training.running
    }
    for moved in (module, module.double(), copy.deepcopy(module)):
        learner = moved.fewshot
        assert all(p is learner.params[name] for name, p in moved.params.items())
        assert all(moved.get_buffer(f"running/{k}") is v for k, v in learner.running.items())
        (group,) = learner.optimizer.param_groups
        assert [id(p) for p in group["params"]] == [id(p) for p in moved.parameters()]
    assert next(iter(training.params.values())).dtype == torch.float64
    assert module.hparams["learner"] == "protonet"
    assert module.hparams["meta_lr"] == training.config.meta_lr


def test_the_best_checkpoint_is_the_one_of_the_highest_validation_accuracy(tmp_path: Path):
    training = on_glyphs("protonet")
    best = ModelCheckpoint(
        tmp_path, monitor="validation/accuracy", mode="max", filename="{step}",
        auto_insert_metric_name=False,
    )  # fmt: skip
    trainer(6, best, limit_val_batches=1).fit(FewShotModule(training, iterations_per_epoch=2))
    shares = {}
    for count in (2, 4, 6):
        shares[count] = iterated(on_glyphs("protonet"), count).validate()["validation/accuracy"]
    assert best.best_model_score == pytest.approx(max(shares.values()), abs=1e-6)
    assert shares[int(Path(best.best_model_path).stem)] == max(shares.values())


def test_early_stopping_stops_where_the_accuracy_no_longer_rises():
    stopping = EarlyStopping("validation/accuracy", mode="max", patience=1, min_delta=1.0)
    training = on_glyphs("protonet")
    trainer(100, stopping, limit_val_batches=1).fit(FewShotModule(training, iterations_per_epoch=2))
    assert training.num_iterations == 4  # the first sets the mark, the second is no better by 1


def test_hooks_before_a_step_see_the_meta_gradient():
    class Watch(Callback):
        def __init__(self) -> None:
            self.seen: list[dict[str, torch.Tensor]] = []

        def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:  # noqa: ARG002
            self.seen.append({n: p.grad.clone() for n, p in pl_module.params.items()})

    watch, expected = Watch(), on_curves()
    trainer(2, watch).fit(FewShotModule(on_curves()))
    for grads in watch.seen:
        expected.iterate()
        assert all(torch.equal(p.grad, grads[name]) for name, p in expected.params.items())
    assert len(watch.seen) == 2


def test_loggers_get_the_loss_of_each_step_and_the_scheduled_rate(tmp_path: Path):
    logger = CSVLogger(tmp_path, name="", version="")
    run = trainer(3, LearningRateMonitor("step"), logger=logger, log_every_n_steps=1)
    run.fit(FewShotModule(on_curves(**SCHEDULED), iterations_per_epoch=3))
    rows = [line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines()]
    columns = {name: [row[i] for row in rows[1:]] for i, name in enumerate(rows[0])}
    expected = on_curves(**SCHEDULED)
    losses = [expected.iterate()["meta/query_mse"] for _ in range(3)]
    logged = [float(value) for value in columns["meta/query_mse"] if value]
    assert logged == pytest.approx(losses, rel=1e-6)
    rates = [float(value) for value in columns["lr-Adam"] if value]
    assert rates[-1] == pytest.approx(1e-3 * (0.01 + 0.99 * (1 + math.cos(math.pi / 5)) / 2))
    assert (tmp_path / "hparams.yaml").read_text().count("inner_lr: ") == 1


@pytest.mark.parametrize("name", ["maml", "protonet"])
def test_validation_alone_gives_the_learner_s_own_accuracy(name):
    module = FewShotModule(on_glyphs(name))
    (measured,) = trainer(1, limit_val_batches=1).validate(module, verbose=False)
    assert measured == pytest.approx(on_glyphs(name).validate(), abs=1e-6)


def test_a_trainer_s_own_clipping_bounds_the_norm_of_the_meta_gradient():
    training, plain = on_curves(), iterated(on_curves(), 1)
    trainer(1, gradient_clip_val=1e-3).fit(FewShotModule(training))
    norms = [
        float(torch.cat([p.grad.flatten() for p in one.params.values()]).norm())
        for one in (training, plain)
    ]
    assert norms[0] == pytest.approx(1e-3, rel=1e-3)
    assert norms[1] > 0.1


# Invalid settings.


def test_a_loss_that_is_not_finite_ends_training_and_leaves_the_parameters():
    training, before = on_curves(inner_lr=1e30), on_curves(inner_lr=1e30)
    with pytest.raises(FloatingPointError, match="iteration 1: query loss of task 0 must be fin"):
        fitted(training, 2)
    assert_same(training, before)


def test_a_checkpoint_with_a_number_that_is_not_finite_is_rejected(tmp_path: Path):
    path = tmp_path / "one.ckpt"
    run = trainer(1)
    run.fit(FewShotModule(on_curves()))
    run.save_checkpoint(path)
    stored = torch.load(path, weights_only=False)
    stored["state_dict"]["params.bias_0"][0] = math.nan
    torch.save(stored, path)
    training, before = on_curves(), on_curves()
    message = r"Lightning checkpoint must hold finite numbers only, params.bias_0 does not"
    with pytest.raises(ValueError, match=message):
        trainer(2).fit(FewShotModule(training), ckpt_path=path)
    assert_same(training, before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "bf16-mixed"}, "precision of the Trainer must be '32-true' .*'bf16-mixed'"),
        ({"precision": "64-true"}, "precision of the Trainer must be '32-true' .*got '64-true'"),
        ({"accumulate_grad_batches": 2}, "accumulate_grad_batches .* must be 1 .*meta_batch_size"),
    ],
)
def test_trainer_settings_that_would_change_results_are_rejected(settings, message):
    training = on_curves()
    with pytest.raises(ValueError, match=message):
        trainer(1, **settings).fit(FewShotModule(training))
    assert training.num_iterations == 0


def test_several_devices_are_rejected():
    module, run = FewShotModule(on_curves()), trainer(1)
    several: Any = type("Several", (), {"world_size": 2, "precision": run.precision})()
    several.accumulate_grad_batches = 1
    module._trainer = several
    with pytest.raises(ValueError, match=r"devices of the Trainer must be 1 for .* got 2"):
        module.setup("fit")


def test_an_epoch_without_iterations_is_rejected():
    with pytest.raises(ValueError, match="iterations_per_epoch must be 1 or more, got 0"):
        FewShotModule(on_curves(), iterations_per_epoch=0)


def test_without_lightning_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    monkeypatch.delitem(sys.modules, "metarl.fewshot.lightning")
    with pytest.raises(ImportError, match=r"needs Lightning: pip install 'lightning>=2\.4'"):
        import metarl.fewshot.lightning  # noqa: F401


def test_the_package_does_not_import_lightning():
    code = (
        "import sys, metarl.fewshot, metarl.scripts.cli; "
        "print([n for n in sys.modules if n.split('.')[0] in ('lightning', 'transformers')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
