"""Adam: torch's, by name, with a state that survives.

The outer optimiser: schedules, clipping, layouts in memory.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from metarl.fewshot import MAMLConfig
from metarl.optim.optimizer import Adam, OuterOptimizer
from metarl.optim.schedules import scheduled_rate

Named = dict[str, Tensor]


def params() -> Named:
    chance = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(shape, generator=chance).requires_grad_()
        for name, shape in (("weight", (4, 3)), ("bias", (4,)))
    }


def gradients(step: int) -> Named:
    chance = torch.Generator().manual_seed(100 + step)
    return {name: torch.randn(p.shape, generator=chance) for name, p in params().items()}


def equal(one: Named, other: Named) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def flat(adam: Adam) -> Named:
    return {
        f"{group}/{k}": t.clone() for group, ts in adam.tensors().items() for k, t in ts.items()
    }


def stepped(adam: Adam, steps: range) -> None:
    for step in steps:
        adam.step(gradients(step), learning_rate=0.1 / (step + 1))


def test_steps_are_those_of_torch():
    mine, theirs = params(), params()
    stepped(Adam(mine, epsilon=1e-3), range(5))
    reference = torch.optim.Adam(list(theirs.values()), lr=1.0, eps=1e-3)
    for step in range(5):
        reference.param_groups[0]["lr"] = 0.1 / (step + 1)
        for name, p in theirs.items():
            p.grad = gradients(step)[name]
        reference.step()
    for name, p in theirs.items():
        torch.testing.assert_close(mine[name], p, rtol=0, atol=1e-6)


def test_gradients_may_lie_in_memory_otherwise_than_their_parameters():
    """The fused kernel would read a transposed one in the wrong order."""
    mine, other = params(), params()
    given = gradients(0)
    transposed = {name: g.mT.contiguous().mT if g.dim() > 1 else g for name, g in given.items()}
    assert transposed["weight"].stride() != mine["weight"].stride()
    Adam(mine).step(given, learning_rate=0.1)
    Adam(other).step(transposed, learning_rate=0.1)
    assert equal(mine, other)


def test_the_first_step_moves_each_number_by_the_learning_rate():
    """m̂ / √v̂ is the sign of the gradient: worked out by hand."""
    mine, before = params(), params()
    Adam(mine, epsilon=1e-12).step(gradients(0), learning_rate=0.25)
    for name, p in mine.items():
        expected = before[name] - 0.25 * gradients(0)[name].sign()
        torch.testing.assert_close(p, expected, rtol=0, atol=1e-6)


def test_parameters_without_a_gradient_stay_and_their_moments_too():
    mine = params()
    adam = Adam(mine)
    stepped(adam, range(2))
    before, state = mine["bias"].clone(), flat(adam)
    adam.step({"weight": gradients(2)["weight"]}, learning_rate=0.1)
    assert torch.equal(mine["bias"], before)
    after = flat(adam)
    changed = {name for name in state if not torch.equal(state[name], after[name])}
    assert changed == {f"optimizer/{kind}/weight" for kind in ("step", "exp_avg", "exp_avg_sq")}


@pytest.mark.parametrize("first", [0, 1, 3])
def test_a_restored_optimiser_goes_on_to_the_same_bit(first):
    straight = params()
    stepped(Adam(straight), range(6))
    begun = params()
    adam = Adam(begun)
    stepped(adam, range(first))
    kept = flat(adam)
    resumed = {name: p.detach().clone().requires_grad_() for name, p in begun.items()}
    other = Adam(resumed)
    other.restore(Path("kept"), kept)
    stepped(other, range(first, 6))
    assert equal(resumed, straight)


def test_before_the_first_step_the_state_is_zero():
    state = flat(Adam(params()))
    assert len(state) == 6
    assert not any(bool(t.any()) for t in state.values())


def test_the_state_of_other_parameters_is_refused():
    state = flat(Adam(params()))
    other = Adam({"weight": torch.zeros(4, 2), "bias": torch.zeros(4)})
    message = r"checkpoint kept must hold optimizer/exp_avg/weight as torch.float32 \[4, 2\]"
    with pytest.raises(ValueError, match=message):
        other.restore(Path("kept"), state)
    del state["optimizer/step/bias"]
    with pytest.raises(ValueError, match=r"must hold optimizer/step/bias .* it holds nothing"):
        Adam(params()).restore(Path("kept"), state)


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
def test_gradients_may_lie_in_memory_otherwise_than_their_parameters_outer_optimizer(optimizer):
    config, found = MAMLConfig(optimizer=optimizer, meta_lr=0.5), []
    grad = torch.arange(6.0).view(2, 3) - 2.5
    for given in (grad, grad.mT.contiguous().mT):
        params = {"w": torch.zeros(2, 3)}
        OuterOptimizer(params, config).step({"w": given}, 0)
        found.append(params["w"])
    torch.testing.assert_close(found[0].sign(), -grad.sign())
    assert torch.equal(*found)
