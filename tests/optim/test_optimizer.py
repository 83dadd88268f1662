"""The optimizer by name: torch's steps, a state that survives, schedules, clipping, layouts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from metarl.optim.optimizer import NamedOptimizer
from metarl.optim.schedules import scheduled_rate

Named = dict[str, Tensor]


def params() -> Named:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(shape, generator=generator).requires_grad_()
        for name, shape in (("weight", (4, 3)), ("bias", (4,)))
    }


def gradients(step: int) -> Named:
    generator = torch.Generator().manual_seed(100 + step)
    return {name: torch.randn(p.shape, generator=generator) for name, p in params().items()}


def equal(one: Named, other: Named) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def copied(optimizer: NamedOptimizer) -> Named:
    return {name: t.clone() for name, t in optimizer.tensors().items()}


def adam(tensors: Named, epsilon: float = 1e-8) -> NamedOptimizer:
    return NamedOptimizer(tensors, rate=1.0, epsilon=epsilon)


def take_steps(optimizer: NamedOptimizer, steps: range) -> None:
    for step in steps:
        optimizer.step(gradients(step), learning_rate=0.1 / (step + 1))


def test_steps_are_those_of_torch():
    mine, theirs = params(), params()
    take_steps(adam(mine, 1e-3), range(5))
    reference = torch.optim.Adam(list(theirs.values()), lr=1.0, eps=1e-3)
    for step in range(5):
        reference.param_groups[0]["lr"] = 0.1 / (step + 1)
        for name, p in theirs.items():
            p.grad = gradients(step)[name]
        reference.step()
    for name, p in theirs.items():
        torch.testing.assert_close(mine[name], p, rtol=0, atol=1e-6)


def test_the_first_step_moves_each_number_by_the_learning_rate():
    """m̂ / √v̂ is the sign of the gradient, computed by hand."""
    mine, before = params(), params()
    adam(mine, 1e-12).step(gradients(0), learning_rate=0.25)
    for name, p in mine.items():
        expected = before[name] - 0.25 * gradients(0)[name].sign()
        torch.testing.assert_close(p, expected, rtol=0, atol=1e-6)


def test_parameters_without_a_gradient_stay_and_their_moments_too():
    mine = params()
    optimizer = adam(mine)
    take_steps(optimizer, range(2))
    before, state = mine["bias"].clone(), copied(optimizer)
    optimizer.step({"weight": gradients(2)["weight"]}, learning_rate=0.1)
    assert torch.equal(mine["bias"], before)
    after = copied(optimizer)
    changed = {name for name in state if not torch.equal(state[name], after[name])}
    assert changed == {f"{kind}/weight" for kind in ("step", "exp_avg", "exp_avg_sq")}


@pytest.mark.parametrize("first", [0, 1, 3])
def test_a_restored_optimizer_continues_bitwise_identically(first):
    straight = params()
    take_steps(adam(straight), range(6))
    begun = params()
    optimizer = adam(begun)
    take_steps(optimizer, range(first))
    kept = copied(optimizer)
    resumed = {name: p.detach().clone().requires_grad_() for name, p in begun.items()}
    other, given = adam(resumed), {name: t.clone() for name, t in kept.items()}
    other.restore(given)
    take_steps(other, range(first, 6))
    assert equal(resumed, straight)
    assert equal(given, kept)  # steps change the optimizer's copies


def test_before_the_first_step_the_state_is_zero():
    state = copied(adam(params()))
    assert len(state) == 6
    assert not any(bool(t.any()) for t in state.values())
    assert NamedOptimizer(params(), "sgd", rate=0.1).tensors() == {}


def test_the_state_of_other_parameters_is_rejected_by_name():
    state = copied(adam(params()))
    del state["step/bias"]
    with pytest.raises(KeyError, match="step/bias"):
        adam(params()).restore(state)


def test_moments_follow_replaced_parameters_by_name():
    straight, begun = params(), params()
    take_steps(adam(straight), range(4))
    optimizer = adam(begun)
    take_steps(optimizer, range(2))
    moved = {name: p.detach().clone().requires_grad_() for name, p in begun.items()}
    optimizer.set_params(moved)
    take_steps(optimizer, range(2, 4))
    assert equal(moved, straight)


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


@pytest.mark.parametrize("schedule", ["linear", "cosine", "halving"])
def test_steps_use_the_rate_of_the_schedule(schedule):
    mine = {"w": torch.zeros(1)}
    optimizer = NamedOptimizer(mine, "sgd", rate=0.5, schedule=schedule, decay_iterations=3)
    total = 0.0
    for iteration in range(5):
        optimizer.step({"w": torch.ones(1)}, iteration)
        total += scheduled_rate(schedule, 0.5, iteration, 3)
    assert float(mine["w"]) == pytest.approx(-total)
    assert total < 5 * 0.5


def test_a_schedule_without_an_end_is_rejected_before_anything_changes():
    mine = params()
    optimizer = NamedOptimizer(mine, "sgd", rate=0.5, schedule="cosine")
    message = "decay_iterations must be given for the schedule 'cosine', got None"
    with pytest.raises(ValueError, match=message):
        optimizer.step(gradients(0))
    assert equal(mine, params())


def test_gradients_are_clipped_entry_by_entry():
    mine = {"w": torch.zeros(3)}
    optimizer = NamedOptimizer(mine, "sgd", rate=0.5, clip=2.0)
    optimizer.step({"w": torch.tensor([3.0, -5.0, 1.0])})
    torch.testing.assert_close(mine["w"], torch.tensor([-1.0, 1.0, -0.5]))


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_gradients_of_another_memory_layout_give_the_same_step(name):
    """The fused kernel would read a transposed gradient in the wrong order."""
    found = []
    grad = torch.arange(6.0).view(2, 3) - 2.5
    for given in (grad, grad.mT.contiguous().mT):
        mine = {"w": torch.zeros(2, 3)}
        NamedOptimizer(mine, name, rate=0.5).step({"w": given})
        found.append(mine["w"])
    torch.testing.assert_close(found[0].sign(), -grad.sign())
    assert torch.equal(*found)
