"""Declared structures: true ones pass, each false one is shown by a counterexample."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "support"))

import structured_families as families
from sound_families import Walk

from metarl.envs import make_family
from metarl.soundness.probe import BrokenPromiseError, NotApplicableError, Probe
from metarl.soundness.structures import structure_is_true
from metarl.tasks.family import TaskFamily
from metarl.tasks.structure import InformativeArm, TabularMDP


def tried(family: TaskFamily, seed: int = 0) -> str:
    return structure_is_true(Probe(family, 3, seed, family.sample_tasks(4, seed=seed)))


BUILT_IN = [
    "Bandit:n10-k5",
    "Bandit:n100-k50",
    "DependentBandit:independent",
    "DependentBandit:uniform",
    "DependentBandit:easy",
    "ElevenArmBandit:wang16",
    "TabularMDP:rl2",
    "GridNavigation:varibad",
    "DarkRoom:dpt",
    "DarkRoom:ad",
]


@pytest.mark.parametrize("family_id", BUILT_IN)
def test_declarations_of_built_in_families_are_true(family_id):
    for seed in range(5):
        assert "random steps of 4 tasks" in tried(make_family(family_id), seed)


@pytest.mark.parametrize(
    "family",
    [families.OwnBandit(), families.MirroredBandit(), families.OtherBandit(), families.SmallGrid()],
)
def test_declarations_of_families_of_a_user_are_true(family):
    for seed in range(5):
        tried(family, seed)


FALSE = {
    families.NotABandit: r"action_space must be Discrete\(3\), is Box",
    families.DecayingBandit: "late in an episode and .* otherwise",
    families.SatiatedBandit: "(late in an episode|after many rewards) and .* otherwise",
    families.SwappedBandit: "the reward of arm . in task . is .*, but .* in the structure",
    families.ObservedBandit: "observations of a bandit must be constant",
    families.LargeRewards: "rewards of a Bernoulli bandit must be 0 or 1",
    families.NotMirrored: "the sum of both arms of task . is .*, but 1 in the structure",
    families.NotInformative: r"action_space must be Discrete\(3\)",
    families.NotTabular: r"task_space must have shape \(4,\), has \(2,\)",
    families.UnrewardedGrid: "rewards must be above 0 on the goal's cell and only there",
    families.OtherGoals: "rewards must be above 0 on the goal's cell and only there",
    families.TurnedGrid: "a move leads to another cell",
    families.MovedStart: r"episodes must start at \(0, 0\)",
}


@pytest.mark.parametrize(("family", "message"), FALSE.items())
def test_a_false_declaration_is_shown(family, message):
    made = family("plain") if family is families.NotABandit else family()
    with pytest.raises(BrokenPromiseError, match=message):
        tried(made)


def test_a_family_without_a_structure_is_skipped():
    with pytest.raises(NotApplicableError, match="declares no structure"):
        tried(Walk())


def test_a_wrong_informative_arm_is_shown():
    family = make_family("ElevenArmBandit:wang16")
    family.structure = InformativeArm(10, 0.2)
    with pytest.raises(BrokenPromiseError, match="the last arm of task 0 gives"):
        tried(family)


class ShuffledTransitions(type(make_family("TabularMDP:rl2"))):
    """Pairs have the transitions of other pairs than in the task."""

    def prepare(self, tasks):
        return super().prepare(torch.cat([tasks[:, :50], tasks[:, 50:].roll(100, dims=1)], dim=1))


class HigherRewards(type(make_family("TabularMDP:rl2"))):
    def prepare(self, tasks):
        return super().prepare(torch.cat([tasks[:, :50] + 0.3, tasks[:, 50:]], dim=1))


def test_wrong_transitions_and_rewards_of_a_tabular_process_are_shown():
    with pytest.raises(BrokenPromiseError, match=r"reaches state \d from pair .* in the struct"):
        tried(ShuffledTransitions("rl2"))
    with pytest.raises(BrokenPromiseError, match="reward noise of task 0 is "):
        tried(HigherRewards("rl2"))
    family = make_family("TabularMDP:rl2")
    family.structure = TabularMDP(9, 5)
    with pytest.raises(BrokenPromiseError, match=r"task_space must have shape \(450,\)"):
        tried(family)
