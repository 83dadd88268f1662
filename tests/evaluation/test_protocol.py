"""The protocol of an evaluation: derived numbers, presets, and errors."""

from dataclasses import replace

import pytest

from metarl.evaluation.protocol import PRESETS, EvaluationProtocol, preset


def test_the_presets_follow_the_literature():
    """maml: 1 to 3 steps on 20 episodes; pearl: last of 3; varibad: each episode in turn."""
    described = {name: one.describe() for name, one in PRESETS.items()}
    assert described == {
        "maml": "40 test tasks, mean of 20 episodes with sampled actions, "
        "20 episodes of data per step, seed 0",
        "pearl": "30 test tasks, 1 episode with most likely actions, "
        "2 episodes of data per step, seed 0",
        "rl2": "40 test tasks, 1 episode with sampled actions, 1 episode of data per step, seed 0",
        "varibad": "40 test tasks, 1 episode with most likely actions, "
        "1 episode of data per step, seed 0",
        "metaworld": "50 test tasks, mean of 3 episodes with most likely actions (sampled in "
        "exploration), 10 episodes of data per step, seed 0",
    }
    stages = {name: one.num_stages for name, one in PRESETS.items()}
    assert stages == {"maml": 4, "pearl": 2, "rl2": 2, "varibad": 2, "metaworld": 2}


def test_a_preset_is_found_by_its_name():
    assert preset("pearl") is PRESETS["pearl"]
    assert preset("maml") == EvaluationProtocol()
    with pytest.raises(ValueError, match=r"preset must be one of maml, .* did you mean 'pearl'\?"):
        preset("perl")


@pytest.mark.parametrize(("name", "shares"), [("maml", True), ("rl2", True), ("pearl", False)])
def test_episodes_are_shared_if_evaluation_and_exploration_are_identical(name, shares):
    protocol = preset(name)
    assert protocol.shares_episodes is shares
    for deterministic in ("evaluation", "always"):
        assert not replace(protocol, deterministic=deterministic).shares_episodes
    more = protocol.evaluation_episodes + 3
    assert not replace(protocol, exploration_episodes=more).shares_episodes
    assert replace(protocol, exploration_episodes=more, evaluation_episodes=more,
                   deterministic="never").shares_episodes  # fmt: skip


def test_episodes_before_a_stage_include_all_earlier_steps():
    protocol = EvaluationProtocol(exploration_episodes=7, adaptation_steps=2)
    assert [protocol.episodes_before(s) for s in range(protocol.num_stages)] == [0, 7, 14]


def test_the_description_states_the_scored_episodes():
    protocol = EvaluationProtocol(
        num_tasks=3, split="train", evaluation_episodes=4, task_score="last", seed=8
    )
    assert protocol.describe() == (
        "3 train tasks, last of 4 episodes with sampled actions, "
        "20 episodes of data per step, seed 8"
    )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_tasks": 0}, "num_tasks must be 1 or more, got 0"),
        ({"exploration_episodes": 0}, "exploration_episodes must be 1 or more, got 0"),
        ({"evaluation_episodes": 0}, "evaluation_episodes must be 1 or more, got 0"),
        ({"adaptation_steps": -1}, "adaptation_steps must be 0 or more, got -1"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"task_score": "first"}, "task_score must be one of mean, last, got 'first'"),
    ],
)
def test_numbers_out_of_range_are_rejected(setting, message):
    with pytest.raises(ValueError, match=message):
        EvaluationProtocol(**setting)
