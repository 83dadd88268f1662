"""One program for a learner's meta-gradient: the same numbers, and the supported learners."""

from __future__ import annotations

import pytest
import torch
from fewshot_episodes import CURVES, episodes, make_learner, start
from torch import Tensor
from torch._inductor.exc import InvalidCxxCompiler

from metarl.fewshot import compiled
from metarl.fewshot.compiled import CompiledMetaGradient, require_compilable
from metarl.fewshot.contract.interface import TrainingContext
from metarl.fewshot.data.batches import FewShotBatch
from metarl.fewshot.datasets.curves import SinusoidTasks
from metarl.fewshot.learners.maml import MAMLConfig
from metarl.fewshot.training import FewShotTraining
from metarl.parameters import Params

NOW = TrainingContext(0, torch.Generator())
ONE_STEP = {"hidden_sizes": (5,), "num_inner_steps": 1}


def some_points(batch: FewShotBatch) -> FewShotBatch:
    """With masks under which the first point of each task does not count."""
    masked = []
    for part in batch:
        mask = torch.ones(part.inputs.shape[:2], dtype=torch.bool)
        mask[:, 0] = False
        masked.append(part._replace(mask=mask))
    return FewShotBatch(*masked)


def require_equal(one: tuple[Tensor, Params], other: tuple[Tensor, Params]) -> None:
    torch.testing.assert_close(one[0], other[0], rtol=1e-9, atol=1e-9)
    assert one[1].keys() == other[1].keys()
    for name, grad in one[1].items():
        torch.testing.assert_close(other[1][name], grad, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.slow  # compiles for several seconds
@pytest.mark.parametrize("masked", [False, True], ids=["all points", "some points"])
def test_a_program_gives_the_results_of_the_learner(masked: bool) -> None:
    learner = make_learner("maml", CURVES, **ONE_STEP)
    program, params = CompiledMetaGradient(learner), start(learner)
    for num_tasks, seed in ((3, 1), (3, 2), (2, 3)):  # other numbers, then another shape
        batch = episodes(CURVES, tasks=num_tasks, seed=seed)
        batch = some_points(batch) if masked else batch
        require_equal(learner.meta_gradient(params, batch, NOW), program(params, batch, NOW))


@pytest.mark.slow  # compiles for several seconds
def test_context_can_be_compiled() -> None:
    learner = make_learner("cavia", CURVES, **ONE_STEP)
    program, params, batch = CompiledMetaGradient(learner), start(learner), episodes(CURVES)
    require_equal(learner.meta_gradient(params, batch, NOW), program(params, batch, NOW))


@pytest.mark.slow  # compiles for several seconds
def test_training_with_a_program_is_training(tmp_path) -> None:
    plain, made = (
        FewShotTraining("maml", SinusoidTasks(), MAMLConfig(**ONE_STEP), seed=3, compile=wanted)
        for wanted in (False, True)
    )
    for _ in range(3):
        assert made.iterate() == pytest.approx(plain.iterate(), rel=1e-4)
    made.save(tmp_path / "checkpoint.safetensors")
    again = FewShotTraining.load(
        tmp_path / "checkpoint.safetensors", "maml", SinusoidTasks(), compile=True
    )
    assert again.iterate() == pytest.approx(plain.iterate(), rel=1e-4)
    for name, p in plain.params.items():
        torch.testing.assert_close(again.params[name], p, rtol=1e-4, atol=1e-5)


def test_learners_that_depend_on_more_are_rejected() -> None:
    with pytest.raises(ValueError, match="compile must be False for learner reptile: only maml"):
        FewShotTraining("reptile", SinusoidTasks(), compile=True)
    for settings in ({"first_order_iterations": 5}, {"multi_step_iterations": 5}):
        learner = make_learner("maml", CURVES, num_inner_steps=2, **settings)
        with pytest.raises(ValueError, match=f"compile must be False with {next(iter(settings))}"):
            require_compilable("maml", learner)


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_compiler(*_: object) -> None:
        raise InvalidCxxCompiler

    monkeypatch.setattr(compiled.torch, "compile", lambda *_, **__: without_compiler)
    learner = make_learner("maml", CURVES)
    with pytest.raises(RuntimeError, match=r"compile needs a C\+\+ compiler and found none"):
        CompiledMetaGradient(learner)(start(learner), episodes(CURVES), NOW)
