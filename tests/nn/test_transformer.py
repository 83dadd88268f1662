"""The transformer: acting with its cache equals training without one, and attention is causal."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from metarl.nn.memories import Memory, TransitionMemory
from metarl.nn.transformer import Transformer
from metarl.parameters import Params

INPUTS, STEPS, BATCH = 3, 6, 4
MEMORY = Transformer(INPUTS, 8, length=STEPS + 2, num_layers=2, num_heads=2)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fresh(memory: Memory = MEMORY, *, dtype: torch.dtype = torch.float64) -> Params:
    """Parameters of which none is 0 or 1, so that each counts."""
    sampled = memory.init(generator(0))
    return {
        name: (p + 0.3 * torch.randn(p.shape, generator=generator(1))).to(dtype)
        for name, p in sampled.items()
    }


def input_sequence(*, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(STEPS, BATCH, INPUTS, generator=generator(2), dtype=torch.float64).to(dtype)


def unsynchronized() -> Tensor:
    """Never cleared; at the start; in the middle and later; in two steps on end."""
    cleared = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    for step, trial in ((0, 1), (2, 2), (5, 2), (3, 3), (4, 3)):
        cleared[step, trial] = True
    return cleared


def trained(
    params: Params, inputs: Tensor, cleared: Tensor | None = None, memory: Memory = MEMORY
) -> Tensor:
    """Features of the training path."""
    return memory.sequence(params, inputs, memory.start(params, inputs.shape[1]), cleared)[0]


def acted(
    params: Params, inputs: Tensor, cleared: Tensor | None = None, memory: Memory = MEMORY
) -> Tensor:
    """Features step by step."""
    state, features = memory.start(params, inputs.shape[1]), []
    for t, now in enumerate(inputs):
        one, state = memory.step(params, now, state, None if cleared is None else cleared[t])
        features.append(one)
    return torch.stack(features)


both = pytest.mark.parametrize("path", [trained, acted])
clearings = pytest.mark.parametrize("cleared", [None, unsynchronized()], ids=["lasting", "cleared"])


# Against a loop written from the formula, one trial, one time step, one head at a time.


def normed(params: Params, x: Tensor, name: str) -> Tensor:
    centered = x - x.mean()
    scaled = centered / (centered.square().mean() + 1e-5).sqrt()
    return scaled * params[f"{name}_scale"] + params[f"{name}_offset"]


def by_the_formula(params: Params, inputs: Tensor) -> Tensor:
    """Features [T, size] of one trial that is never cleared."""
    size, heads = MEMORY.size, MEMORY.num_heads
    d = size // heads
    rows = [params["embed"] @ x + params["positions"][t] for t, x in enumerate(inputs)]
    for k in range(MEMORY.num_layers):
        joint = [params[f"query_key_value_{k}"] @ normed(params, x, f"attention_{k}") for x in rows]
        new = []
        for t, x in enumerate(rows):
            mixed = []
            for head in range(heads):
                part = slice(head * d, (head + 1) * d)
                query = joint[t][:size][part]
                keys = [joint[s][size : 2 * size][part] for s in range(t + 1)]
                values = [joint[s][2 * size :][part] for s in range(t + 1)]
                weights = torch.stack([query @ key / math.sqrt(d) for key in keys]).exp()
                weights = weights / weights.sum()
                mixed.append(sum(w * v for w, v in zip(weights, values, strict=True)))
            middle = x + params[f"output_{k}"] @ torch.cat(mixed)
            hidden = params[f"up_{k}"] @ normed(params, middle, f"perceptron_{k}")
            gelu = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))
            new.append(middle + params[f"down_{k}"] @ gelu)
        rows = new
    return torch.stack([normed(params, x, "last") for x in rows])


@both
def test_features_are_those_of_the_formula(path):
    params, inputs = fresh(), input_sequence()
    features = path(params, inputs)
    for trial in range(BATCH):
        expected = by_the_formula(params, inputs[:, trial])
        torch.testing.assert_close(features[:, trial], expected, rtol=0, atol=1e-10)


@both
def test_a_cleared_memory_is_a_fresh_one(path):
    """Its segments equal separate trials, including positions."""
    params, inputs, cleared = fresh(), input_sequence(), unsynchronized()
    features = path(params, inputs, cleared)
    for trial in range(BATCH):
        begins = sorted({0, *cleared[:, trial].nonzero().flatten().tolist()})
        for first, end in zip(begins, [*begins[1:], STEPS], strict=True):
            expected = by_the_formula(params, inputs[first:end, trial])
            got = features[first:end, trial]
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)


# The two paths.


@clearings
def test_acting_is_training(cleared):
    params, inputs = fresh(dtype=torch.float32), input_sequence(dtype=torch.float32)
    one, other = trained(params, inputs, cleared), acted(params, inputs, cleared)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@clearings
def test_acting_is_training_with_transitions(cleared):
    memory = TransitionMemory(Transformer(2 * INPUTS, 8, length=STEPS + 2, num_heads=2), INPUTS)
    params, inputs = fresh(memory), input_sequence()
    one, other = (path(params, inputs, cleared, memory) for path in (trained, acted))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    before = inputs.clone()
    before[2] += 1
    assert not torch.equal(trained(params, before, cleared, memory)[3, 0], one[3, 0])


def test_acting_is_training_in_a_long_trial_of_default_size():
    memory = Transformer(7, 128, length=200)
    params = memory.init(generator(0))
    inputs = torch.randn(200, 3, 7, generator=generator(1))
    one, other = (path(params, inputs, None, memory) for path in (trained, acted))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_a_clearing_lasts_when_later_steps_clear_nothing():
    params, inputs = fresh(), input_sequence()
    cleared = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    cleared[2, 1] = True
    state = MEMORY.start(params, BATCH)
    for t, now in enumerate(inputs):
        features, state = MEMORY.step(params, now, state, cleared[t] if t == 2 else None)
    torch.testing.assert_close(features, trained(params, inputs, cleared)[-1])


def test_gradients_go_through_the_training_path():
    names, tensors = zip(*fresh().items(), strict=True)
    inputs, cleared = input_sequence()[:, 2:], unsynchronized()[:, 2:]

    def features(*leaves: Tensor) -> Tensor:
        return trained(dict(zip(names, leaves, strict=True)), inputs, cleared)

    leaves = tuple(p.requires_grad_() for p in tensors)
    assert torch.autograd.gradcheck(features, leaves, fast_mode=True)


# Visibility.


@both
@clearings
@pytest.mark.parametrize("changed", range(STEPS))
def test_a_later_step_changes_nothing_before_it(path, cleared, changed):
    params, inputs, other = fresh(), input_sequence(), input_sequence()
    other[changed] += 1
    one, two = path(params, inputs, cleared), path(params, other, cleared)
    assert torch.equal(one[:changed], two[:changed])
    assert ((one[changed] - two[changed]).abs().amax(-1) > 1e-3).all()


@both
def test_every_step_is_visible_to_all_later_ones(path):
    params, inputs, other = fresh(), input_sequence(), input_sequence()
    other[0] += 1
    difference = (path(params, inputs) - path(params, other)).abs().amax(-1)
    assert difference.min() > 1e-5


@both
def test_cleared_steps_are_not_visible(path):
    params, cleared, inputs, other = fresh(), unsynchronized(), input_sequence(), input_sequence()
    other[:2] += 1
    one, two = path(params, inputs, cleared), path(params, other, cleared)
    assert torch.equal(one[2:, 2], two[2:, 2])
    assert torch.equal(one[3:, 3], two[3:, 3])
    assert ((one - two)[2:, :2].abs().amax(-1) > 1e-5).all()


@both
@clearings
def test_each_trial_of_a_batch_equals_the_trial_alone(path, cleared):
    params, inputs = fresh(), input_sequence()
    together = path(params, inputs, cleared)
    for trial in range(BATCH):
        only = slice(trial, trial + 1)
        alone = path(params, inputs[:, only], None if cleared is None else cleared[:, only])
        torch.testing.assert_close(together[:, only], alone, rtol=0, atol=1e-12)


# Length.


def test_a_trial_that_is_too_long_is_rejected():
    params, message = fresh(), "trial must have at most 8 steps.* got 9"
    state = MEMORY.start(params, 1)
    for _ in range(8):
        _, state = MEMORY.step(params, torch.zeros(1, INPUTS).double(), state)
    with pytest.raises(ValueError, match=message):
        MEMORY.step(params, torch.zeros(1, INPUTS).double(), state)
    with pytest.raises(ValueError, match=message):
        trained(params, torch.zeros(9, 1, INPUTS).double())


def test_a_sequence_begins_at_the_start_and_nothing_follows_it():
    params, inputs = fresh(), input_sequence()
    _, later = MEMORY.step(params, inputs[0], MEMORY.start(params, BATCH))
    _, ended = MEMORY.sequence(params, inputs, MEMORY.start(params, BATCH))
    for state in (later, ended):
        with pytest.raises(ValueError, match="sequence must begin at the start of the trial"):
            MEMORY.sequence(params, inputs, state)
    with pytest.raises(ValueError, match="state must come from `start` or `step`"):
        MEMORY.step(params, inputs[0], ended)


def test_a_number_of_heads_that_does_not_divide_the_size_is_rejected():
    message = "num_heads must divide the size 10 of the memory, got 4"
    with pytest.raises(ValueError, match=message):
        Transformer(INPUTS, 10, length=5)


def test_fresh_parameters_follow_the_generator_and_give_features_of_unit_size():
    memory = Transformer(INPUTS, 64, length=STEPS)
    first, again, other = (memory.init(generator(seed)) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    sampled = [name for name in first if not name.endswith(("_scale", "_offset"))]
    assert not any(torch.equal(first[name], other[name]) for name in sampled)
    features = trained(first, input_sequence(dtype=torch.float32), None, memory)
    assert memory.output_size == features.shape[-1] == 64
    assert features.square().mean(-1).sub(1).abs().max() < 1e-3
