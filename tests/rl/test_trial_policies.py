"""Policies with a memory: acting equals training, and each part has its effect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional

from metarl.nn.hypernetwork import Hypernetwork
from metarl.nn.memories import GRU, LSTM, Memory, NoMemory
from metarl.nn.mlp import mlp
from metarl.nn.transformer import Transformer
from metarl.parameters import Params, select_part
from metarl.rl.action_heads import ActionHead
from metarl.rl.trial_policies import TrialPolicy

INPUTS, OBSERVATION, STEPS, BATCH, ENCODED, TOLD, TASK = 6, 2, 5, 3, 7, 2, 4
BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)
MEMORIES: dict[str, Any] = {
    "gru": lambda size: GRU(size, 8),
    "lstm": lambda size: LSTM(size, 8),
    "transformer": lambda size: Transformer(size, 8, length=STEPS, num_heads=2),
    "none": NoMemory,
}
memories = pytest.mark.parametrize("memory", MEMORIES)
heads = pytest.mark.parametrize("hypernetwork", [False, True], ids=["mlp", "hypernetwork"])


def make_generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=make_generator(seed), dtype=torch.float64)


def policy(memory: str = "gru", **settings: Any) -> TrialPolicy:
    encoder = settings.setdefault("encoder_sizes", (5, ENCODED))
    made: Memory = MEMORIES[memory](encoder[-1] if encoder else INPUTS)
    given = {"hidden_sizes": (4,), "value_hidden_sizes": (3,), "progress_size": TOLD, **settings}
    given.setdefault("task_size", TASK)
    return TrialPolicy(INPUTS, OBSERVATION, made, ActionHead(spaces.Discrete(4)), **given)


def fresh(made: TrialPolicy) -> Params:
    """Parameters of which none is 0, so that each counts."""
    sampled = made.init(make_generator(0))
    return {k: p.double() + 0.3 * randn(*p.shape, seed=9) for k, p in sampled.items()}


INPUT, KNOWN = randn(STEPS, BATCH, INPUTS, seed=1), randn(STEPS, BATCH, TOLD, seed=2)
TASKS = randn(1, BATCH, TASK, seed=3)
CLEARED = torch.zeros(STEPS, BATCH, dtype=torch.bool)
CLEARED[2, 1] = CLEARED[3, 2] = True


@memories
@heads
@pytest.mark.parametrize("cleared", [None, CLEARED], ids=["lasting", "cleared"])
@pytest.mark.parametrize("encoder_sizes", [(), (5, ENCODED)])
def test_acting_is_training(memory, hypernetwork, cleared, encoder_sizes):
    made = policy(memory, hypernetwork=hypernetwork, encoder_sizes=encoder_sizes)
    params = fresh(made)
    together, features, _ = made.sequence(params, INPUT, made.start(params, BATCH), cleared)
    assert features.shape == (STEPS, BATCH, made.memory.output_size)
    state = made.start(params, BATCH)
    for t, now in enumerate(INPUT):
        here = None if cleared is None else cleared[t]
        distribution, state = made.step(params, now, state, here)
        torch.testing.assert_close(
            distribution.outputs[0], together.outputs[0][t], rtol=0, atol=1e-10
        )


@heads
def test_a_policy_is_encoder_memory_and_head_in_a_row(hypernetwork):
    made = policy(hypernetwork=hypernetwork, activation="relu")
    params = fresh(made)
    distribution, features, _ = made.sequence(params, INPUT, made.start(params, BATCH))
    hidden = functional.linear(
        INPUT, params["policy.encoder.weight_0"], params["policy.encoder.bias_0"]
    ).relu()
    encoded = functional.linear(
        hidden, params["policy.encoder.weight_1"], params["policy.encoder.bias_1"]
    ).relu()  # also the last layer's, since a memory follows
    expected, _ = made.memory.sequence(
        select_part(params, "policy.memory"), encoded, made.start(params, BATCH)
    )
    torch.testing.assert_close(features, expected)
    head = select_part(params, "policy.head")
    if hypernetwork:
        network = Hypernetwork(8, (OBSERVATION, 4, 4))
        logits = network.outputs(head, features, INPUT[..., :OBSERVATION], torch.relu)
    else:
        logits = mlp(head, features.flatten(0, 1), torch.relu).unflatten(0, (STEPS, BATCH))
    torch.testing.assert_close(distribution.outputs[0], logits)


@pytest.mark.parametrize("separate", [False, True], ids=["one memory", "two memories"])
@pytest.mark.parametrize("hidden_sizes", [(), (3,), (3, 2)], ids=["linear", "one", "two"])
@pytest.mark.parametrize("task_size", [0, TASK])
def test_values_depend_on_the_memory_progress_and_task(separate, hidden_sizes, task_size):
    made = policy(separate_value=separate, value_hidden_sizes=hidden_sizes, task_size=task_size)
    tasks = TASKS[..., :task_size]
    params = fresh(made)
    _, features, _ = made.sequence(params, INPUT, made.start(params, BATCH), CLEARED)
    values = made.values(params, INPUT, features, KNOWN, tasks=tasks, cleared=CLEARED)
    if separate:
        encoder = {k.replace("value.", "policy."): p for k, p in params.items() if "value.enc" in k}
        memory = {k.replace("value.", "policy."): p for k, p in params.items() if "value.mem" in k}
        own = {**params, **encoder, **memory}
        _, features, _ = made.sequence(own, INPUT, made.start(own, BATCH), CLEARED)
    known = torch.cat([features, KNOWN, tasks.expand(STEPS, -1, -1)], -1).flatten(0, 1)
    expected = mlp(select_part(params, "value.head"), known, torch.tanh).view(STEPS, BATCH)
    torch.testing.assert_close(values, expected)


def parts_with_gradient(made: TrialPolicy, of: str) -> set[str]:
    params = {k: p.requires_grad_() for k, p in fresh(made).items()}
    distribution, features, _ = made.sequence(params, INPUT, made.start(params, BATCH))
    values = made.values(params, INPUT, features, KNOWN, tasks=TASKS)
    wanted = values if of == "values" else distribution.outputs[0]
    found = torch.autograd.grad(wanted.pow(2).sum(), list(params.values()), allow_unused=True)
    pairs = zip(params, found, strict=True)
    return {".".join(name.split(".")[:2]) for name, g in pairs if g is not None and g.any()}


def test_a_separate_critic_does_not_affect_the_policy_and_a_shared_one_does():
    trunk = {"policy.encoder", "policy.memory"}
    for separate in (False, True):
        made = policy(separate_value=separate)
        assert parts_with_gradient(made, "actions") == trunk | {"policy.head"}
    assert parts_with_gradient(policy(), "values") == trunk | {"value.head"}
    own = {"value.encoder", "value.memory", "value.head"}
    assert parts_with_gradient(policy(separate_value=True), "values") == own


def test_values_need_no_progress_or_task_by_default():
    made = policy(progress_size=0, task_size=0)
    params = fresh(made)
    _, features, _ = made.sequence(params, INPUT, made.start(params, BATCH))
    values = made.values(params, INPUT, features, KNOWN, tasks=TASKS)
    assert torch.equal(values, made.values(params, INPUT, features, KNOWN + 1, tasks=TASKS + 1))
    assert values.shape == (STEPS, BATCH)


@memories
@heads
def test_each_trial_of_a_batch_equals_the_trial_alone(memory, hypernetwork):
    made = policy(memory, hypernetwork=hypernetwork, separate_value=True)
    params = fresh(made)

    def run(rows: slice) -> tuple[Tensor, Tensor]:
        inputs, cleared = INPUT[:, rows], CLEARED[:, rows]
        start = made.start(params, inputs.shape[1])
        distribution, features, _ = made.sequence(params, inputs, start, cleared)
        return distribution.outputs[0], made.values(
            params, inputs, features, KNOWN[:, rows], tasks=TASKS[:, rows], cleared=cleared
        )

    together = run(slice(None))
    for trial in range(BATCH):
        for whole, alone in zip(together, run(slice(trial, trial + 1)), strict=True):
            torch.testing.assert_close(whole[:, trial : trial + 1], alone, rtol=0, atol=1e-12)


def test_the_initial_policy_is_nearly_uniform_and_for_a_box_nearly_centered():
    made = policy(encoder_sizes=())
    params = made.init(make_generator(0))
    start = made.start(params, BATCH)
    distribution, _, _ = made.sequence(params, INPUT.float(), start)
    probs = distribution.outputs[0].softmax(-1)
    assert 0 < (probs - 0.25).abs().max() < 0.01
    box = TrialPolicy(INPUTS, OBSERVATION, GRU(INPUTS, 8), ActionHead(BOX, initial_std=0.5))
    params = box.init(make_generator(0))
    distribution, _, _ = box.sequence(params, INPUT.float(), box.start(params, BATCH))
    mean, log_std = distribution.outputs
    assert 0 < mean.abs().max() < 0.02
    torch.testing.assert_close(log_std.exp(), torch.full_like(mean, 0.5))
    assert params["policy.log_std"].shape == (2,)


def test_fresh_parameters_follow_the_generator_and_are_named_by_their_part():
    made = policy(separate_value=True)
    first, again, other = (made.init(make_generator(seed)) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["value.memory.weight_ih"], other["value.memory.weight_ih"])
    assert not torch.equal(first["value.memory.weight_ih"], first["policy.memory.weight_ih"])
    assert {".".join(name.split(".")[:2]) for name in first} == {
        *(f"{whose}.{what}" for whose in ("policy", "value") for what in ("encoder", "memory")),
        "policy.head",
        "value.head",
    }
