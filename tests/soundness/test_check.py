"""Every promise of a task family, broken on purpose: the check reports it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

sys.path.append(str(Path(__file__).parents[1] / "support"))

import broken_families as families
import sound_families as sound
import structured_families as structured
from tiny_environments import Dies

from metarl.envs import make_family
from metarl.envs.simulators import worker_batch
from metarl.soundness.check import Check, check_family, require_sound
from metarl.soundness.promises import PROMISES
from metarl.tasks.family import TaskFamily


def failures(family: TaskFamily, **sizes: int) -> dict[str, str]:
    return {c.name: c.detail for c in check_family(family, **sizes) if c.outcome == "failed"}


# Families with one fault each, which exactly one promise detects.


BROKEN = {
    "spaces agree across tasks": {
        families.SmallSpace: "observation after .* lies outside Box",
        families.DoubleRewards: r"rewards of step 0 must be torch\.float32",
        families.OneMoreNumber: r"of shape \(4, 3, 1\), got .*\(4, 3, 2\)",
    },
    "worker processes agree": {
        families.OtherInWorkers: "observations differ in worker processes: .*|at time 1 of",
    },
    "policies can reach the actions": {
        families.FarActions: r"action component 0 is in \[9, 11\]",
    },
    "a seed determines the tasks": {
        families.IgnoresTheSeed: "seeds 0 and 1 of split train gave the same",
    },
    "global generators are not used": {
        families.SeedsTheGlobalGenerator: "generator of NumPy was used",
    },
    "splits share the declared tasks": {
        families.IgnoresTheSplit: r"splits train and test share task \[-?0\.\d+\], but shared_tas",
        families.OnlySaysAll: "0 of 200 tasks of test are training tasks, but shared_tasks is all",
        families.OnlySaysSome: "0 of 200 tasks of test are training tasks, but shared_tasks is so",
        families.SaysSomeOfAll: "3 of 3 tasks of test are training tasks, but shared_tasks is some",
    },
    "invalid tasks are rejected": {
        families.TakesAnyTask: r"task \[2\.0\] did not raise a ValueError",
    },
    "runs are deterministic": {
        families.Warm: "at time 0 of task 0, environment 0 differ in the second run",
    },
    "environments are independent": {
        families.Crowded: "with different actions in task 0, environment 0",
    },
    "resets do not leak": {
        families.Forgetful: "a run with a reset of no environment at time 3",
        families.IncompleteReset: "a run in which all environments reset",
    },
    "a single environment agrees": {
        families.FasterAlone: "in the last environment of 4 tasks × 3",
        families.Squeezed: r"shapes of rewards at time 1 .*\(\) and \(1, 1\)",
    },
    "different tasks differ": {
        families.ContextNeverArrives: "no two of 12 tasks differed in observation",
    },
    "pickling keeps the tasks": {
        families.LosesItsStepSize: "differ in the unpickled family's run: ",
        families.LosesItsTasks: "the unpickled family samples different tasks",
        families.Unpicklable: "(?i)(pickl|local object)",
    },
    "other tasks can be set": {
        families.IgnoresNewTasks: "differ in a used batch in which the tasks were set",
    },
    "episodes end at the horizon": {
        families.Late: "is 7 steps old and was not truncated at horizon 7",
        families.OneClock: "1 is 60 steps old and was not truncated at horizon 60",
        families.NotFiniteInTheEnd: "reward at time 61 is not finite",
    },
    "the declared structure is true": {
        structured.NotABandit: r"action_space must be Discrete\(3\), is Box",
    },
    "the oracle beats random actions": {
        families.WalksAway: "the oracle has mean return -.*, random actions -",
    },
    "expected rewards are means": {
        families.ExpectsTooMuch: "task 0 differ from expected_rewards by -0.[45].* on average over",
    },
    "images can be rendered": {
        families.StillImage: "the image stayed the same for 7 steps",
        families.GrayImage: r"uint8 \[height, width, 3\], is uint8 of shape \(8,",
    },
}


CASES = [(*case, promise) for promise, cases in BROKEN.items() for case in cases.items()]


@pytest.mark.parametrize(
    ("family", "counterexample", "promise"), CASES, ids=[case[0].__name__ for case in CASES]
)
def test_the_one_broken_promise_is_found_and_shown(family, counterexample, promise):
    found = failures(family())
    assert list(found) == [promise]
    assert re.search(counterexample, found[promise])


ATTRIBUTES = [
    ({"source": ""}, "the family describes itself", "source must be a non-empty string, is ''"),
    (
        {"task_description": None},
        "the family describes itself",
        "must be a non-empty string, is None",
    ),
    ({"variant": 3}, "the family describes itself", "variant must be a non-empty string, is 3"),
    ({"action_divisor": 0.0}, "the family describes itself", "must be None or above 0, is 0.0"),
    ({"ood_splits": ("far",)}, "the family describes itself", r"got \['far'\] in addition"),
    (
        {"observation_space": spaces.Box(-10, 10, (1,), np.float64)},
        "spaces agree across tasks",
        r"must be a flat Box of float32 or uint8, is Box\(-10\.0, 10\.0, \(1,\), float64",
    ),
    (
        {"action_space": spaces.Text(3)},
        "spaces agree across tasks",
        "action_space must be built from Box, Discrete, MultiDiscrete and MultiBinary, got Text",
    ),
    (
        {"task_space": spaces.Box(-1, 1, (1, 1), np.float64)},
        "tasks can be sampled",
        "TypeError: task_space must be a flat Box, Discrete or MultiDiscrete",
    ),
]


@pytest.mark.parametrize(("changes", "promise", "counterexample"), ATTRIBUTES)
def test_an_attribute_that_does_not_fit_is_named(changes, promise, counterexample):
    family = sound.Walk()
    vars(family).update(changes)
    assert re.search(counterexample, failures(family)[promise])


def test_an_episode_that_is_truncated_early_is_found():
    family = sound.Walk()
    batch = family.make_batch(family.sample_tasks(2, seed=0), num_envs=2)
    batch.horizon = 6  # the family's is 7
    family.make_batch = lambda *_, **__: batch
    found = failures(family, num_tasks=2, num_envs=2)
    assert (
        found["spaces agree across tasks"]
        == "horizon must be the same in family and batch, is 7 and 6"
    )
    shown = "the episode of task 0, environment 1 is 6 steps old and was truncated before 7"
    assert found["episodes end at the horizon"] == shown


def test_every_promise_has_a_family_that_breaks_it():
    assert {"the family describes itself", *BROKEN} == set(PROMISES)


# Faults of published code, which break several promises at once.


FAULTS = [
    (families.Pearl, {"global generators are not used", "a seed determines the tasks"}),
    (families.Pearl, {"splits share the declared tasks"}),
    (families.BatchSamplesTasks, {"global generators are not used", "runs are deterministic"}),
    (families.ResetsAll, {"resets do not leak", "episodes end at the horizon"}),
    (
        families.StepsUseTheGlobalGenerator,
        {"global generators are not used", "runs are deterministic"},
    ),
    (families.Counts, {"runs are deterministic", "environments are independent"}),
]


@pytest.mark.parametrize(
    ("family", "promises"), FAULTS, ids=[family.__name__ for family, _ in FAULTS]
)
def test_faults_of_published_code_are_found(family, promises):
    assert promises <= set(failures(family()))


def test_a_partial_reset_that_resets_all_is_found():
    shown = failures(families.ResetsAll())["resets do not leak"]
    assert shown == "a reset at time 3 changed other environments"


# Results for a sound family.


def test_a_sound_family_keeps_every_promise_in_a_fixed_order():
    checks = check_family(sound.Walk())
    assert [c.name for c in checks] == list(PROMISES)
    skipped = {c.name for c in checks if c.outcome != "passed"}
    assert skipped == {"the declared structure is true", "worker processes agree"}  # it has none
    tried = {c.name: c.detail for c in checks}
    assert tried["runs are deterministic"] == "three runs of 7 steps, one in a new batch"
    shared = "200 tasks of each of train, test, none shared"
    assert tried["splits share the declared tasks"] == shared
    assert tried["different tasks differ"].startswith("12 of 12 tasks differ")
    assert tried["a single environment agrees"].endswith("random numbers differ in larger ones")
    assert tried["the oracle beats random actions"].startswith("mean return -")


def test_a_deterministic_family_is_compared_with_a_larger_batch():
    family = sound.Walk()
    family.start_width = 0.0
    checks = {c.name: c for c in check_family(family)}
    detail = "7 steps in a batch of one and in one of 4 tasks × 3"
    assert checks["a single environment agrees"] == Check(
        "a single environment agrees", "passed", detail
    )


def test_promises_that_do_not_apply_are_skipped_with_the_reason():
    skipped = {c.name: c.detail for c in check_family(sound.Plain()) if c.outcome == "skipped"}
    assert skipped == {
        "the oracle beats random actions": "the family has no oracle",
        "expected rewards are means": "the family does not provide expected rewards",
        "the declared structure is true": "the family declares no structure",
        "worker processes agree": "the family starts no worker processes",
        "images can be rendered": "the family renders no images",
    }
    assert failures(sound.Plain()) == {}


def test_an_image_that_this_machine_cannot_render_is_skipped():
    check = check_family(sound.CannotRender())[-1]
    assert check == Check("images can be rendered", "skipped", "no screen here")


@pytest.mark.parametrize(
    ("family", "kind"), [(sound.OracleGate, "oracle"), (sound.SwingGate, "sinusoidal")]
)
def test_tasks_that_differ_only_far_from_the_start_are_distinguished(family, kind):
    checks = {c.name: c for c in check_family(family(), seed=1)}
    assert checks["different tasks differ"].outcome == "passed"
    assert checks["different tasks differ"].detail.endswith(
        f"from the next one with {kind} actions"
    )


def test_worker_processes_start_once_for_a_family(monkeypatch):
    started = []
    start = worker_batch.WorkerPool.__init__

    def counted(self: Any, *arguments: Any, **options: Any) -> None:
        started.append(self)
        start(self, *arguments, **options)

    monkeypatch.setattr(worker_batch.WorkerPool, "__init__", counted)
    family = make_family("CartPoleMass:rllib")
    family.num_workers = 2
    checks = check_family(family)
    assert len(started) == 1
    assert not [c for c in checks if c.outcome == "failed"]
    assert {c.name for c in checks if c.outcome == "passed"} >= {"worker processes agree"}


def test_an_environment_that_ends_its_process_ends_the_check_not_the_program():
    last = check_family(Dies(num_workers=1))[-1]
    assert last.name == "worker processes agree"
    assert last.outcome == "failed"
    assert re.fullmatch(
        r"_?\w+: worker 0 died \(exit code 7\) .*; the other promises were not tested", last.detail
    )


def test_a_family_of_one_task_is_not_sound():
    assert (
        failures(families.OneTask())["different tasks differ"]
        == "12 sampled tasks were all the same"
    )


def test_the_check_does_not_change_global_generators():
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    check_family(sound.Walk())
    assert np.array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


# Errors of the family's own, and of the caller's.


def test_a_family_that_cannot_sample_tasks_has_no_other_results():
    detail = "ValueError: split must be one of easy, hard, got 'train'"
    assert check_family(families.NoTrainSplit()) == [
        Check("tasks can be sampled", "failed", detail)
    ]


def test_an_error_of_the_family_is_a_broken_promise_and_the_others_are_tested():
    checks = {c.name: c for c in check_family(families.Raises())}
    assert len(checks) == len(PROMISES)
    broken = checks["the oracle beats random actions"]
    assert broken[1:] == ("failed", "ZeroDivisionError: in my oracle")
    assert checks["episodes end at the horizon"].outcome == "passed"


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"num_tasks": 1}, "num_tasks must be 2 or more, got 1"),
        ({"num_envs": 1}, "num_envs must be 2 or more, got 1"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
    ],
)
def test_sizes_out_of_range_are_rejected(sizes, message):
    with pytest.raises(ValueError, match=message):
        check_family(sound.Walk(), **sizes)


@pytest.mark.parametrize(("num_tasks", "num_envs", "seed"), [(2, 2, 0), (7, 2, 3), (3, 5, 11)])
def test_other_sizes_and_seeds_find_the_same(num_tasks, num_envs, seed):
    sizes = {"num_tasks": num_tasks, "num_envs": num_envs, "seed": seed}
    assert failures(sound.Walk(), **sizes) == {}
    assert list(failures(families.Crowded(), **sizes)) == ["environments are independent"]


def test_require_sound_accepts_a_sound_family_and_names_broken_promises():
    require_sound(sound.Walk())
    require_sound(sound.Plain())
    both = families.WalksAway()
    both.source = ""
    message = (
        "^WalksAway:plain is not sound: the family describes itself: source must be a non-empty "
        "string, is ''; "
        "the oracle beats random actions: the oracle has mean return "
    )
    with pytest.raises(AssertionError, match=message):
        require_sound(both)
