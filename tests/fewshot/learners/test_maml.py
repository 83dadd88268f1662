"""MAML++: weights of the losses of all steps, and batch norm per step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fewshot_episodes import IMAGES, context, episodes, make_learner, start, task_of
from torch import Tensor
from torch.nn import functional

from metarl.fewshot.learners.catalog import read_learner, recipe
from metarl.fewshot.learners.maml import MAMLPlusPlusConfig
from metarl.parameters import Params

NUM_STEPS = 3
SETTINGS: dict[str, Any] = {"num_inner_steps": NUM_STEPS, "batch_norm": "per-step"}
NORM = ("scale", "offset")


def test_no_loss_counts_less_than_three_hundredths_of_its_first_weight() -> None:
    """As in the authors' code, until only the last loss counts."""
    config = MAMLPlusPlusConfig(num_inner_steps=4, multi_step_iterations=100)
    wanted = {0: 0.25, 50: 0.125, 96: 0.01, 97: 0.0075, 99: 0.0075}
    for iteration, early in wanted.items():
        steps, weights = zip(*config.step_weights(iteration), strict=True)
        assert steps == (1, 2, 3, 4)
        assert weights == pytest.approx((early, early, early, 1 - 3 * early))
    assert config.step_weights(100) == [(4, 1.0)]


def looped_loss(learner: Any, params: Params, batch: Any, slots: tuple[int, ...]) -> Tensor:
    """Mean query loss by plain autograd, with a slot for each step and one for the query."""
    total = torch.zeros((), dtype=torch.float64)
    rates = {n.removeprefix("rate/"): p for n, p in params.items() if n.startswith("rate/")}
    for k in range(3):
        (inputs, targets, _), (query, wanted, _) = task_of(batch, k)
        net = {n: p for n, p in params.items() if not n.startswith("rate/")}
        for step, slot in enumerate(slots[:-1]):
            logits = learner.backbone.logits(in_slot(net, slot), inputs)[0]
            loss = functional.cross_entropy(logits, targets[0])
            moved = [n for n in net if not n.startswith(NORM)]
            grads = torch.autograd.grad(loss, [net[n] for n in moved], create_graph=True)
            net |= {n: net[n] - rates[n][step] * g for n, g in zip(moved, grads, strict=True)}
        logits = learner.backbone.logits(in_slot(net, slots[-1]), query)[0]
        total = total + functional.cross_entropy(logits, wanted[0]) / 3
    return total


def in_slot(net: Params, slot: int) -> Params:
    return {n: p[slot : slot + 1] if n.startswith(NORM) else p for n, p in net.items()}


@pytest.mark.parametrize("differentiation", ["unrolled", "recurrence"])
@pytest.mark.parametrize(("query_slot", "slots"), [("own", (0, 1, 2, 2)), ("next", (0, 1, 2, 3))])
def test_the_query_has_the_norm_of_its_step(differentiation, query_slot, slots):
    learner: Any = make_learner(
        "maml++", IMAGES, **SETTINGS, query_slot=query_slot, differentiation=differentiation
    )
    params, batch = start(learner), episodes(IMAGES)
    for name in ("scale_0", "offset_0", "scale_1", "offset_1"):
        assert params[name].shape[0] == max(slots) + 1
    losses, grads = learner.meta_gradient(params, batch, context())
    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    wanted = looped_loss(learner, leaves, batch, slots)
    torch.testing.assert_close(losses.mean(), wanted.detach())
    for name, grad in zip(leaves, torch.autograd.grad(wanted, list(leaves.values())), strict=True):
        torch.testing.assert_close(grads[name], grad, rtol=1e-9, atol=1e-12)
        assert (grad.flatten(1).abs().amax(-1) > 0).all() if name.startswith(NORM) else True


@pytest.mark.parametrize(
    ("query_slot", "rows"), [("own", (0, 0, 1, 2, 2, 2)), ("next", (0, 1, 2, 3, 3, 3))]
)
def test_predictions_have_the_norm_of_the_last_step(query_slot, rows):
    learner: Any = make_learner("maml++", IMAGES, **SETTINGS, query_slot=query_slot)
    params, batch = start(learner), episodes(IMAGES)
    numbered = {
        name: torch.arange(float(len(p)), dtype=p.dtype).unsqueeze(-1).expand(p.shape).clone()
        if name.startswith("scale_")
        else p
        for name, p in params.items()
    }
    states = learner.trajectory(numbered, batch.support, 5)
    assert [int(one.params["scale_0"][0, 0, 0]) for one in states] == list(rows)


def test_stored_runs_without_the_setting_keep_a_separate_norm_after_the_last_step():
    stored = {"batch_norm": "per-step", "backbone": "conv", "num_inner_steps": 2}
    for name in ("maml", "maml++"):
        settings: Any = read_learner(name, stored, source="here").settings
        assert settings.query_slot == "next"
    assert recipe("maml++", "omniglot").query_slot == "own"  # type: ignore[attr-defined]


def test_the_slot_of_the_query_needs_slots():
    with pytest.raises(ValueError, match="query_slot must be own unless batch_norm is per-step"):
        MAMLPlusPlusConfig(query_slot="next")


# Large images.


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("maml", {"num_inner_steps": 2}),
        ("maml", {"num_inner_steps": 2, "differentiation": "recurrence"}),
        ("maml", {"batch_norm": "support"}),
        ("fomaml", {"num_inner_steps": 2}),
        ("maml++", SETTINGS),
        ("boil", {"rates": "momentum"}),
        ("imaml", {}),
        ("reptile", {}),
    ],
)
def test_a_loop_over_tasks_in_the_net_changes_no_meta_gradient(monkeypatch, name, settings):
    learner: Any = make_learner(name, IMAGES, **settings)
    params, batch = start(learner), episodes(IMAGES)
    found = []
    for smallest in (10**12, 0):
        monkeypatch.setattr("metarl.nn.conv_net._LOOP_FROM", smallest)
        found.append(learner.meta_gradient(params, batch, context()))
    torch.testing.assert_close(found[0][0], found[1][0])
    for key in params:
        torch.testing.assert_close(found[0][1][key], found[1][1][key], rtol=1e-8, atol=1e-11)
