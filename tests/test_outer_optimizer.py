"""The outer optimiser: schedules, clipping, layouts in memory."""

from __future__ import annotations

import math

import pytest
import torch

from metarl.fewshot import MAMLConfig
from metarl.fewshot.outer_optimizer import OuterOptimizer, scheduled_rate


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [0.2, 0.2, 0.2, 0.2]),
        ("linear", [0.2, 0.15, 0.0, 0.0]),
        ("cosine", [0.2, 0.002 + 0.099 * (1 + math.sqrt(0.5)), 0.002, 0.002]),
        ("halving", [0.2, 0.2, 0.1, 0.05]),
    ],
)
def test_schedules_by_hand(schedule, rates):
    found = [scheduled_rate(schedule, 0.2, t, 8) for t in (0, 2, 8, 16)]
    assert found == pytest.approx(rates)


def test_gradients_are_clipped_entry_by_entry():
    params = {"w": torch.zeros(3)}
    config = MAMLConfig(optimizer="sgd", meta_lr=0.5, clip_gradient=2.0)
    OuterOptimizer(params, config).step({"w": torch.tensor([3.0, -5.0, 1.0])}, 0)
    torch.testing.assert_close(params["w"], torch.tensor([-1.0, 1.0, -0.5]))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_gradients_may_lie_in_memory_otherwise_than_their_parameters(optimizer):
    config, found = MAMLConfig(optimizer=optimizer, meta_lr=0.5), []
    grad = torch.arange(6.0).view(2, 3) - 2.5
    for given in (grad, grad.mT.contiguous().mT):
        params = {"w": torch.zeros(2, 3)}
        OuterOptimizer(params, config).step({"w": given}, 0)
        found.append(params["w"])
    torch.testing.assert_close(found[0].sign(), -grad.sign())
    assert torch.equal(*found)
