"""Memories: acting equals training, clearing is complete, and torch's modules as reference."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from metarl.nn.memories import GRU, LSTM, Memory, MemoryState, NoMemory, TransitionMemory, segments
from metarl.parameters import Params

INPUTS, SIZE, STEPS, BATCH = 3, 5, 7, 4
GATED = [GRU(INPUTS, SIZE, STEPS), LSTM(INPUTS, SIZE, STEPS)]
TRANSITIONS = TransitionMemory(LSTM(2 * INPUTS, SIZE, STEPS), INPUTS)
LASTING, IDS = [*GATED, TRANSITIONS], ["gru", "lstm", "transitions"]
gated = pytest.mark.parametrize("memory", LASTING, ids=IDS)
every = pytest.mark.parametrize("memory", [*LASTING, NoMemory(INPUTS)], ids=[*IDS, "no memory"])


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fresh(memory: Memory) -> Params:
    return {name: p.double() for name, p in memory.init(generator(0)).items()}


def input_sequence(*, seed: int = 1) -> Tensor:
    return torch.randn(STEPS, BATCH, INPUTS, generator=generator(seed), dtype=torch.float64)


def unsynchronized() -> Tensor:
    """Cleared at other steps in each trial: never, at the start, twice, in successive steps."""
    cleared = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    for step, trial in ((0, 1), (2, 2), (5, 2), (3, 3), (4, 3)):
        cleared[step, trial] = True
    return cleared


def started(memory: Memory, params: Params, seed: int | None = None) -> MemoryState:
    """The state at a trial's start, or another one."""
    state = memory.start(params, BATCH)
    if seed is None:
        return state
    return tuple(torch.randn(s.shape, generator=generator(seed), dtype=s.dtype) for s in state)


def stepwise(
    memory: Memory, params: Params, inputs: Tensor, state: MemoryState, cleared: Tensor | None
) -> tuple[Tensor, MemoryState]:
    outputs = []
    for t, now in enumerate(inputs):
        output, state = memory.step(params, now, state, None if cleared is None else cleared[t])
        outputs.append(output)
    return torch.stack(outputs), state


def assert_equal(one: Any, other: Any, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


# The two forms.


@every
@pytest.mark.parametrize("cleared", [None, unsynchronized()], ids=["lasting", "cleared"])
@pytest.mark.parametrize("seed", [None, 5], ids=["from the start", "from within"])
def test_a_sequence_is_its_steps(memory, cleared, seed):
    params = fresh(memory)
    state = started(memory, params, seed)
    together = memory.sequence(params, input_sequence(), state, cleared)
    one_by_one = stepwise(memory, params, input_sequence(), state, cleared)
    assert together[0].shape == (STEPS, BATCH, memory.output_size)
    assert_equal(together, one_by_one)


@every
@pytest.mark.parametrize("cut", [1, 3, 6])
def test_a_sequence_continues_from_the_state_of_another(memory, cut):
    params, cleared, inputs = fresh(memory), unsynchronized(), input_sequence()
    whole = memory.sequence(params, inputs, started(memory, params), cleared)
    first, state = memory.sequence(params, inputs[:cut], started(memory, params), cleared[:cut])
    second, end = memory.sequence(params, inputs[cut:], state, cleared[cut:])
    assert_equal((torch.cat([first, second]), end), whole)


@gated
def test_gradients_of_both_forms_agree_with_finite_differences(memory):
    names, tensors = zip(*fresh(memory).items(), strict=True)
    leaves = tuple(p.requires_grad_() for p in tensors)
    inputs, cleared = input_sequence()[:4, 1:3], unsynchronized()[:4, 1:3]

    def features(run: Any) -> Any:
        def function(*leaves: Tensor) -> Tensor:
            params = dict(zip(names, leaves, strict=True))
            return run(params, inputs, memory.start(params, 2), cleared)[0]

        return function

    def steps(*arguments: Any) -> Any:
        return stepwise(memory, *arguments)

    assert torch.autograd.gradcheck(features(memory.sequence), leaves, fast_mode=True)
    assert torch.autograd.gradcheck(features(steps), leaves, fast_mode=True)


@gated
def test_second_derivatives_go_through_both_forms(memory):
    params = {k: p.requires_grad_() for k, p in fresh(memory).items()}
    curved = []
    for run in (memory.sequence, lambda *arguments: stepwise(memory, *arguments)):
        features, _ = run(params, input_sequence(), memory.start(params, BATCH), unsynchronized())
        first = torch.autograd.grad(features.pow(3).sum(), list(params.values()), create_graph=True)
        slope = torch.stack([g.pow(2).sum() for g in first]).sum()
        curved.append(torch.autograd.grad(slope, list(params.values())))
    assert max(float(c.abs().max()) for c in curved[0]) > 0.1
    assert_equal(*curved, tolerance=1e-9)


# Forgetting.


@every
def test_a_cleared_trial_is_a_fresh_one_bitwise(memory):
    params = fresh(memory)
    state, inputs = started(memory, params, 5), input_sequence()[0]
    cleared = torch.tensor([True, False, True, False])
    output, after = memory.step(params, inputs, state, cleared)
    from_start, after_start = memory.step(params, inputs, started(memory, params))
    kept, after_kept = memory.step(params, inputs, state)
    for got, new, old in zip(
        (output, *after), (from_start, *after_start), (kept, *after_kept), strict=True
    ):
        assert torch.equal(got[cleared], new[cleared])
        assert torch.equal(got[~cleared], old[~cleared])
        if state and got is not inputs:  # which a memory of transitions keeps as they are
            assert (got[cleared] - old[cleared]).abs().min() > 1e-4


@gated
def test_clearing_removes_the_past_of_its_trial_only(memory):
    params, cleared = fresh(memory), unsynchronized()
    inputs, changed = input_sequence(), input_sequence()
    changed[0] += 3
    start = started(memory, params)
    one, other = (memory.sequence(params, x, start, cleared)[0] for x in (inputs, changed))
    for trial, forgets_at in enumerate((STEPS, STEPS, 2, 3)):  # a clearing at 0 comes too early
        assert torch.equal(one[forgets_at:, trial], other[forgets_at:, trial])
        assert ((one - other)[:forgets_at, trial].abs().amax(-1) > 1e-4).all()


@gated
def test_clearing_removes_values_that_are_not_finite(memory):
    params = fresh(memory)
    broken = tuple(torch.full_like(s, torch.nan) for s in started(memory, params))
    output, _ = memory.step(
        params, input_sequence()[0], broken, torch.ones(BATCH, dtype=torch.bool)
    )
    assert torch.equal(output, memory.step(params, input_sequence()[0], started(memory, params))[0])


@gated
def test_clearing_does_not_modify_arguments(memory):
    params, state, cleared = fresh(memory), started(memory, fresh(memory), 5), unsynchronized()
    before = tuple(s.clone() for s in state)
    memory.step(params, input_sequence()[0], state, cleared[2])
    memory.sequence(params, input_sequence(), state, cleared)
    assert all(torch.equal(s, b) for s, b in zip(state, before, strict=True))


@gated
@pytest.mark.parametrize("form", ["step", "sequence"])
def test_each_trial_of_a_batch_equals_the_trial_alone(memory, form):
    params, cleared, inputs = fresh(memory), unsynchronized(), input_sequence()
    run = memory.sequence if form == "sequence" else lambda *a: stepwise(memory, *a)
    together, end = run(params, inputs, started(memory, params), cleared)
    for trial in range(BATCH):
        only = slice(trial, trial + 1)
        alone, last = run(params, inputs[:, only], memory.start(params, 1), cleared[:, only])
        assert_equal(together[:, only], alone)
        assert_equal(tuple(s[only] for s in end), last)


def test_segments_start_at_every_clearing():
    cleared = torch.tensor([[True, False], [False, False], [True, True], [False, True]])
    assert list(segments(cleared, 4)) == [(0, 2), (2, 3), (3, 4)]
    assert list(segments(None, 4)) == [(0, 4)]
    assert list(segments(torch.zeros(4, 2, dtype=torch.bool), 4)) == [(0, 4)]


# What they compute.


def test_transitions_are_inputs_concatenated_with_the_previous_ones():
    memory, inputs = TransitionMemory(NoMemory(2 * INPUTS), INPUTS), input_sequence()
    state = memory.start({"any": torch.zeros(1, dtype=torch.float64)}, BATCH)
    seen, (last,) = memory.sequence({}, inputs, state, unsynchronized())
    assert torch.equal(seen[..., :INPUTS], inputs)
    assert torch.equal(last, inputs[-1])
    for step, trial in product(range(STEPS), range(BATCH)):
        begins = step == 0 or unsynchronized()[step, trial]
        before = torch.zeros(INPUTS).double() if begins else inputs[step - 1, trial]
        assert torch.equal(seen[step, trial, INPUTS:], before)


@pytest.mark.parametrize(
    ("memory", "module"),
    [(GATED[0], torch.nn.GRU(INPUTS, SIZE)), (GATED[1], torch.nn.LSTM(INPUTS, SIZE))],
    ids=["gru", "lstm"],
)
def test_gated_memories_are_torchs_modules(memory, module):
    params = fresh(memory)
    module = module.double()
    module.load_state_dict({f"{name}_l0": p for name, p in params.items()})
    state = started(memory, params, 5)
    given = tuple(s.unsqueeze(0) for s in state)
    expected, last = module(input_sequence(), given if len(given) == 2 else given[0])
    features, end = memory.sequence(params, input_sequence(), state)
    assert_equal(features, expected)
    assert_equal(torch.stack(end), torch.cat(last if len(given) == 2 else (last,)))


def gates(params: Params, kind: str, which: int) -> tuple[Tensor, Tensor]:
    """W and b of one gate, of the inputs ("ih") or of the hidden state ("hh")."""
    rows = slice(which * SIZE, (which + 1) * SIZE)
    return params[f"weight_{kind}"][rows], params[f"bias_{kind}"][rows]


def test_the_gru_is_the_recursion_of_its_docstring():
    memory = GATED[0]
    params = fresh(memory)
    state = started(memory, params, 5)
    expected = []
    for trial in range(BATCH):
        h = state[0][trial]
        for x in input_sequence()[:, trial]:
            seen = [w @ x + b for w, b in (gates(params, "ih", k) for k in range(3))]
            kept = [w @ h + b for w, b in (gates(params, "hh", k) for k in range(3))]
            r, z = torch.sigmoid(seen[0] + kept[0]), torch.sigmoid(seen[1] + kept[1])
            h = (1 - z) * torch.tanh(seen[2] + r * kept[2]) + z * h
            expected.append(h)
    features, _ = memory.sequence(params, input_sequence(), state)
    assert_equal(features, torch.stack(expected).view(BATCH, STEPS, SIZE).transpose(0, 1))


def test_the_lstm_is_the_recursion_of_its_docstring():
    memory = GATED[1]
    params = fresh(memory)
    state = started(memory, params, 5)
    expected = []
    for trial in range(BATCH):
        h, c = (s[trial] for s in state)
        for x in input_sequence()[:, trial]:
            sums = []
            for k in range(4):
                (seen, offset), (kept, other) = gates(params, "ih", k), gates(params, "hh", k)
                sums.append(seen @ x + offset + kept @ h + other)
            i, f, o = (torch.sigmoid(sums[k]) for k in (0, 1, 3))
            c = f * c + i * torch.tanh(sums[2])
            h = o * torch.tanh(c)
            expected.append(h)
    features, _ = memory.sequence(params, input_sequence(), state)
    assert_equal(features, torch.stack(expected).view(BATCH, STEPS, SIZE).transpose(0, 1))


def test_without_a_memory_features_are_the_inputs():
    memory = NoMemory(INPUTS)
    assert memory.init(generator(0)) == {}
    assert memory.output_size == INPUTS
    assert torch.equal(
        memory.sequence({}, input_sequence(), memory.start({}, BATCH))[0], input_sequence()
    )


# Initialization.


@gated
def test_recurrent_weights_are_orthogonal_and_the_others_within_torchs_bound(memory):
    params = memory.init(generator(0))
    for block in params["weight_hh"].split(SIZE):
        assert_equal(block @ block.T, torch.eye(SIZE), tolerance=1e-5)
    outputs = slice(2 * SIZE, None)  # biases of the other gates set the time scales
    for values in (params["weight_ih"], params["bias_ih"][outputs], params["bias_hh"][outputs]):
        assert values.abs().max() <= SIZE**-0.5
        assert values.abs().max() > 0.7 * SIZE**-0.5
        assert values.min() < 0 < values.max()
    assert memory.output_size == SIZE


@gated
def test_fresh_parameters_follow_the_generator(memory):
    first, again, other = (memory.init(generator(seed)) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


@gated
def test_a_memory_starts_empty(memory):
    for part in memory.start(fresh(memory), BATCH):
        assert part.shape in ((BATCH, SIZE), (BATCH, INPUTS))
        assert part.dtype == torch.float64
        assert not part.any()


@pytest.mark.parametrize("kind", [GRU, LSTM])
def test_units_forget_within_times_spread_over_the_trial(kind):
    length, size = 101, 4000
    memory = kind(1, size, length)
    params = memory.init(generator(0))
    silent = {name: p if "bias" in name else torch.zeros_like(p) for name, p in params.items()}
    state = tuple(torch.full((1, size), 1e6) for _ in memory.start(silent, 1))
    _, after = memory.step(silent, torch.zeros(1, 1), state)
    kept = after[-1][0] / 1e6  # the cell, if there is one; 1e6 dominates what is written
    steps = kept / (1 - kept)
    assert steps.min() >= 0.99
    assert steps.max() <= length
    quantiles = torch.quantile(steps, torch.tensor([0.1, 0.5, 0.9]))
    torch.testing.assert_close(quantiles, torch.tensor([10.9, 50.5, 90.1]), rtol=0, atol=2)


def test_an_lstm_writes_as_much_as_it_forgets():
    size = 8
    params = LSTM(1, size, 50).init(generator(0))
    bias = params["bias_ih"] + params["bias_hh"]
    assert torch.equal(bias[:size], -bias[size : 2 * size])
    assert bias[size : 2 * size].min() > 0
