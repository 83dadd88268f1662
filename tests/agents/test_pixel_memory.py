"""Images that do not fit in memory are rejected in one sentence with the remedy."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "support"))

from pixel_families import MarkedSides

from metarl import devices
from metarl.agents import MAMLTRPO, RL2, MAMLTRPOConfig, RL2Config

NUMBERS = 32 * 32 * 3
MAML = MAMLTRPOConfig(meta_batch_size=2, num_episodes=4, hidden_sizes=(4,), cg_iterations=2)
TRIALS = RL2Config(meta_batch_size=8, num_minibatches=1, memory_size=4)


@pytest.fixture
def machine(monkeypatch):
    """Sets the memory of the machine, in images."""

    def set_memory(num_images: int) -> None:
        monkeypatch.setattr(devices, "_total_memory_bytes", lambda: float(num_images * NUMBERS))

    return set_memory


@pytest.mark.parametrize(
    ("agent_type", "config", "steps"), [(MAMLTRPO, MAML, 6), (RL2, TRIALS, 10)]
)
def test_too_many_images_are_rejected(agent_type, config, steps, machine):
    agent = agent_type(MarkedSides("one"), config)
    machine(8 * steps - 1)
    with pytest.raises(
        ValueError,
        match=rf"storing {steps} steps of 8 environments, 3072 numbers each, needs .*; use fewer "
        r"tasks or episodes at a time \(meta_batch_size, num_episodes\), shorter episodes, or s",
    ):
        agent.iterate()
    assert agent.num_iterations == 0


def test_too_many_inputs_of_a_memory_are_rejected(machine):
    machine(8 * 12)  # 5 steps of 8 images as bytes, but not as floats
    agent = RL2(MarkedSides("one"), TRIALS)
    with pytest.raises(ValueError, match=r"inputs of the memory for 40 steps, 3076 numbers each,"):
        agent.iterate()


def test_the_linear_baseline_of_images_names_the_projection(machine):
    machine(10_000)  # 31 MB; the features of 3072 numbers take much more
    agent = MAMLTRPO(MarkedSides("one"), replace(MAML, baseline="linear"))
    with pytest.raises(
        ValueError, match=r"the linear baseline of 6148 features needs .*; use baseline projection"
    ):
        agent.iterate()
    MAMLTRPO(MarkedSides("one"), MAML).iterate()
