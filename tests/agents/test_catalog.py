"""The registry of references, the families that each supports, and the script for them."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "support"))

import structured_families as own

from metarl.envs import make_family
from metarl.evaluation.evaluator import evaluate
from metarl.evaluation.protocol import EvaluationProtocol
from metarl.rl.registry import REFERENCES, fitting_references, make_reference

BANDIT_RULES = {
    "gittins",
    "finite-gittins",
    "thompson",
    "optimistic-thompson",
    "ucb1",
    "epsilon-greedy",
    "greedy",
}
FITTING = {
    "Bandit:n10-k5": BANDIT_RULES | {"bayes-optimal"},
    "Bandit:n100-k10": BANDIT_RULES,
    "Bandit:n500-k5": BANDIT_RULES - {"finite-gittins"},
    "DependentBandit:hard": BANDIT_RULES | {"bayes-optimal"},
    "ElevenArmBandit:wang16": {"bayes-optimal"},
    "TabularMDP:rl2": {
        "psrl",
        "optimistic-psrl",
        "ucrl2",
        "beb",
        "mdp-epsilon-greedy",
        "mdp-greedy",
        "informed-beb",
        "informed-greedy",
    },
    "GridNavigation:varibad": {"grid-search"},
    "DarkRoom:dpt": {"grid-search"},
    "DarkRoom:ad": {"grid-search"},
    "KeyToDoor:ad": set(),
    "Navigation2D:maml17": set(),
    "Bandit:n10-k5+task": set(),
}


@pytest.mark.parametrize("family_id", FITTING)
def test_each_family_gets_the_references_that_support_it(family_id):
    assert set(fitting_references(make_family(family_id))) == FITTING[family_id]


OF_USERS = {
    own.Lookalike: set(),
    own.OwnBandit: BANDIT_RULES | {"bayes-optimal"},
    own.MirroredBandit: BANDIT_RULES | {"bayes-optimal"},
    own.OtherBandit: BANDIT_RULES,
    own.SmallGrid: {"grid-search"},
    own.DiagonalGrid: set(),
}


@pytest.mark.parametrize("family", OF_USERS)
def test_a_family_of_a_user_gets_the_references_of_the_structure_that_it_declares(family):
    assert set(fitting_references(family())) == OF_USERS[family]


def test_the_spaces_of_a_bandit_do_not_imply_its_structure():
    with pytest.raises(
        ValueError, match=r"^UCB1 needs a Bernoulli bandit, but Own:plain declares no structure"
    ):
        make_reference("ucb1", own.Lookalike())
    message = r"known for arms with p ~ U\(0, 1\) and mirrored pairs, but Own:plain declares"
    with pytest.raises(ValueError, match=message):
        make_reference("bayes-optimal", own.OtherBandit())


def test_every_reference_checks_the_number_of_episodes():
    for family_id, names in FITTING.items():
        for name in names:
            assert make_reference(name, make_family(family_id), num_episodes=1).remembers
            with pytest.raises(ValueError, match="num_episodes must be 1 or more, got 0"):
                make_reference(name, make_family(family_id), num_episodes=0)


def test_the_search_of_a_grid_ends_before_goals_beyond_the_horizon():
    family = own.SmallGrid()
    family.horizon = 1
    assert len(make_reference("grid-search", family).search_paths) == 1


def test_every_reference_supports_a_family_and_has_a_memory():
    assert {entry.name for entry in REFERENCES} == set().union(*FITTING.values())
    for agent in fitting_references(make_family("Bandit:n10-k5")).values():
        assert agent.remembers


def test_a_reference_that_does_not_support_the_family_is_rejected():
    with pytest.raises(ValueError, match="PSRL needs a tabular Markov decision process"):
        make_reference("psrl", make_family("Bandit:n10-k5"))
    with pytest.raises(ValueError, match="did you mean 'ucb1'"):
        make_reference("ucb", make_family("Bandit:n10-k5"))
    with pytest.raises(TypeError, match="epsilon"):
        make_reference("greedy", make_family("Bandit:n10-k5"), epsilon=0.1)


@pytest.mark.parametrize(
    "family_id",
    ["Bandit:n10-k5", "ElevenArmBandit:wang16", "TabularMDP:rl2", "GridNavigation:varibad"],
)
def test_references_are_evaluated_reproducibly(family_id):
    family = make_family(family_id)
    protocol = EvaluationProtocol(
        num_tasks=3, adaptation_steps=0, exploration_episodes=1, evaluation_episodes=1
    )
    fitting = fitting_references(family)
    once, again = (
        evaluate({"run": next(iter(fitting.values()))}, family, protocol, references=groups)
        for groups in [{name: {name: agent} for name, agent in fitting.items()}] * 2
    )
    for name in fitting:
        assert once.references[name].returns.shape == (1, 3, 1)
        assert np.array_equal(once.references[name].returns, again.references[name].returns)


@pytest.fixture(scope="module")
def script():
    return importlib.import_module("metarl.scripts.publish.references")


def test_the_script_measures_every_case(script):
    cases = list(script.cases())
    assert len({(c.environment, c.num_episodes, c.reference) for c in cases}) == len(cases)
    for case in cases:
        if case.environment != "DependentBandit:independent":  # seconds of planning
            make_reference(case.reference, make_family(case.environment), **case.parameters)


def test_a_row_holds_the_case_and_its_interval(script):
    case = script.Case("ElevenArmBandit:wang16", 1, "bayes-optimal", {}, 50, 20.55)
    row = script.measure(case, 0)
    assert json.loads(json.dumps(row)) == row
    assert row["low"] <= row["mean"] <= row["high"]
    assert row["mean"] == pytest.approx(20.55, abs=0.3)
    assert (row["quantity"], row["known"], row["num_tasks"]) == ("return", 20.55, 50)
    sure = script.Case("DependentBandit:easy", 1, "bayes-optimal", {}, 200, 0.63, True)
    row = script.measure(sure, 0)
    assert row["quantity"] == "regret"
    assert row["mean"] == pytest.approx(0.63, abs=0.2)
