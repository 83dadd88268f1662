"""The benchmark's table: every row names existing cases with valid options."""

from __future__ import annotations

import inspect

import pytest
import torch

from metarl.envs.simulators.tensor import TensorBatch
from metarl.fewshot import EpisodeShape, FewShotTraining, SinusoidTasks
from metarl.fewshot.contract.interface import TrainingContext
from metarl.fewshot.data.batches import FewShotBatch
from metarl.scripts.benchmark.environments import ENVIRONMENT_CASES
from metarl.scripts.benchmark.fewshot import FEWSHOT_CASES, Peer, looped_task_loss, one_by_one
from metarl.scripts.benchmark.learning import LEARNING_CASES
from metarl.scripts.benchmark.padding import PADDING_CASES
from metarl.scripts.benchmark.photographs import PHOTOGRAPH_CASES, Photographs
from metarl.scripts.benchmark.run import BenchmarkConfig
from metarl.scripts.benchmark.sections import SECTIONS, Comparison
from metarl.scripts.benchmark.trials import TRIAL_CASES
from metarl.seeding import torch_generator

KINDS = (
    *(ENVIRONMENT_CASES, LEARNING_CASES, TRIAL_CASES, FEWSHOT_CASES, PADDING_CASES),
    PHOTOGRAPH_CASES,
)
CASES = {name: case for kind in KINDS for name, case in kind.items()}
LATER = {"envpool": {"python": "python"}}  # options that come from the command line


def sides() -> list[tuple[str, dict[str, object]]]:
    """Case and options of all measurements."""
    found = []
    for entry in (entry for section in SECTIONS.values() for entry in section):
        if isinstance(entry, Comparison):
            found.append((entry.ours, entry.ours_options))
            found.append((entry.peer, entry.peer_options))
        else:
            found.append((entry.case, entry.options))
    return found


def test_every_case_takes_the_options_that_its_rows_give_it():
    for name, options in sides():
        case = CASES[name]
        given = {
            **options,
            **LATER.get(name, {}),
            **({"device": "cpu"} if case.takes_device else {}),
        }
        inspect.signature(case.set_up).bind(**given)
        assert case.amount(options) > 0


def test_every_case_is_in_a_row_and_no_two_have_one_name():
    assert {name for name, _ in sides()} == set(CASES)
    assert len(CASES) == sum(len(kind) for kind in KINDS)


@pytest.mark.parametrize("name", ["rl2 iteration", "recurrent ppo iteration"])
def test_both_sides_of_the_memory_rows_train_on_the_steps_they_count(name):
    options = {"env": "Bandit:n10-k5", "num_episodes": 2, "num_trials": 4}
    case = TRIAL_CASES[name]
    assert case.amount(options) == 4 * 2 * 10
    case.set_up(**options)()


def test_sizes_of_both_networks_are_equal(monkeypatch):
    from sb3_contrib import RecurrentPPO

    from metarl.agents import RL2

    made: dict[str, int] = {}

    def count(self: RL2) -> dict[str, float]:
        made["ours"] = sum(p.numel() for p in self.params.values())
        return {}

    def count_theirs(self: RecurrentPPO, *_: object, **__: object) -> None:
        made["theirs"] = sum(p.numel() for p in self.policy.parameters())

    monkeypatch.setattr(RL2, "iterate", count)
    monkeypatch.setattr(RecurrentPPO, "learn", count_theirs)
    options = {"env": "HalfCheetahVel:varibad", "num_episodes": 2, "num_trials": 4}
    for name in ("rl2 iteration", "recurrent ppo iteration"):
        TRIAL_CASES[name].set_up(**options)()
    assert made["ours"] - made["theirs"] == 64  # our values get the progress of the trial


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_an_unavailable_device_is_rejected():
    with pytest.raises(ValueError, match="device is cuda, but this torch finds no CUDA device"):
        BenchmarkConfig(device="cuda")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pairs": 0}, "pairs must be 1 or more, got 0"),
        ({"repeats": 0}, "repeats must be 1 or more, got 0"),
        ({"threads": 0}, "threads must be 1 or more, got 0"),
        ({"sections": ("rl3",)}, "section .*'rl3'.*rl2"),
    ],
)
def test_settings_out_of_range_are_rejected(settings, message):
    with pytest.raises(ValueError, match=message):
        BenchmarkConfig(**settings)


def test_the_loop_over_tasks_computes_our_gradient():
    """Sinusoid: the same parameters and episodes give the same sum of gradients."""
    peer = Peer("sinusoid")
    ours = FewShotTraining("maml", SinusoidTasks())
    names = [f"{kind}_{layer}" for layer in range(3) for kind in ("weight", "bias")]
    with torch.no_grad():
        for name, p in zip(names, peer.net.parameters(), strict=True):
            p.copy_(ours.params[name].view(p.shape))
    batch = ours.tasks.sample(
        25, EpisodeShape(1, 10, 10), split="train", generator=torch_generator(3, "tasks")
    )
    task_loss = looped_task_loss(peer)
    seen = torch.stack([task_loss(*task) for task in one_by_one(batch)])
    seen.mean().backward()
    losses, grads = ours.learner.meta_gradient(
        ours.params, batch, TrainingContext(0, torch.Generator())
    )
    torch.testing.assert_close(seen.detach(), losses)
    for name, p in zip(names, peer.net.parameters(), strict=True):
        assert p.grad is not None
        torch.testing.assert_close(p.grad.view(grads[name].shape), grads[name])


@pytest.mark.parametrize("learner", ["maml", "fomaml"])
def test_the_loop_on_photographs_computes_our_gradient(learner):
    photographs = Photographs(learner, 2, (3, 16, 16))
    photographs.params = {name: p.double() for name, p in photographs.params.items()}
    parts = (part._replace(inputs=part.inputs.double()) for part in photographs.batch)
    photographs.batch = FewShotBatch(*parts)
    ours, looped = photographs.ours(), photographs.looped()
    assert ours.keys() == looped.keys()
    for name, grad in ours.items():
        torch.testing.assert_close(looped[name], grad, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("agent", ["maml-trpo", "rl2"])
def test_both_sides_of_the_padding_rows_take_the_same_steps(agent, monkeypatch):
    counts = []
    step = TensorBatch.step

    def counted(batch, actions):
        counts[-1] += 1
        return step(batch, actions)

    monkeypatch.setattr(TensorBatch, "step", counted)
    for horizon in (10, 1000):
        run = PADDING_CASES["short iterations"].set_up(agent=agent, horizon=horizon)
        counts.append(0)
        run()
    assert counts == [20, 20]
