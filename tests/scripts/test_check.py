"""`metarl check`: output, exit codes, and a family of a user from end to end."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import pytest

sys.path.append(str(Path(__file__).parents[1] / "support"))

from broken_families import WalksAway
from sound_families import Plain, Walk

from metarl.envs import FAMILIES, make_family, register_family
from metarl.registry import Entry, PluginFailure, Registry
from metarl.runs.directory import RunDirectory
from metarl.scripts.check import main
from metarl.scripts.cli import dispatch
from metarl.scripts.command_line import import_named_modules
from metarl.soundness.check import iterate_checks
from metarl.soundness.promises import PROMISES
from metarl.storage.checkpoints import read_header


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A catalog of three toy families, restored after the test."""
    monkeypatch.setattr(FAMILIES, "_entries", {})
    before = set(gymnasium.registry)
    for toy in (Walk, Plain, WalksAway):
        register_family(toy.name, toy, description="a toy", variants=toy.variants)
    yield
    for env_id in set(gymnasium.registry) - before:
        del gymnasium.registry[env_id]


def checked(capsys: pytest.CaptureFixture[str], line: str) -> tuple[list[str], int]:
    """The lines that the command prints, and its exit code."""
    code = 0
    try:
        main(line.split())
    except SystemExit as stop:
        code = stop.code
    return capsys.readouterr().out.splitlines(), code


def test_each_promise_of_a_sound_family_is_a_line_with_the_tested_cases(capsys):
    lines, code = checked(capsys, "Walk:plain")
    assert code == 0
    assert lines[0] == "Walk:plain"
    assert [line[7:].partition(": ")[0] for line in lines[1:-1]] == list(PROMISES)
    assert {line[:7] for line in lines[1:-1]} == {"  ok   ", "  –    "}  # it has no structure
    assert (
        "  ok   splits share the declared tasks: 200 tasks of each of train, test, none shared"
        in lines
    )
    assert lines[-1] == "1 family is sound"


def test_promises_that_do_not_apply_are_marked(capsys):
    lines, code = checked(capsys, "Plain:plain")
    assert code == 0
    assert "  –    the oracle beats random actions: the family has no oracle" in lines


def test_a_broken_promise_shows_its_counterexample_and_ends_with_code_one(capsys):
    lines, code = checked(capsys, "Walk:plain WalksAway:plain")
    assert code == 1
    assert [line for line in lines if not line.startswith("  ")] == [
        "Walk:plain",
        "WalksAway:plain",
        "1 check failed",
    ]
    broken = [line for line in lines if "FAIL" in line]
    assert len(broken) == 1
    oracle = "  FAIL the oracle beats random actions: "
    shown = oracle + r"the oracle has mean return -[\d.]+, random actions -"
    assert re.match(shown, broken[0])


def test_sizes_and_the_seed_reach_the_check(capsys):
    lines, _ = checked(capsys, "Walk:plain --num-tasks 2 --num-envs 5 --seed 3")
    assert "  ok   spaces agree across tasks: 7 random steps of 2 tasks × 5" in lines


def test_all_checks_every_family_and_names_skipped_ones(capsys):
    del FAMILIES._entries["WalksAway"]
    FAMILIES.register(Entry("Gone", "no_such_module_of_ours:Gone", "not there", ("a",)))
    lines, code = checked(capsys, "--all")
    assert code == 0
    assert lines[0].startswith("Gone:a is skipped: Gone needs a module that is not installed")
    assert [line for line in lines if ":plain" in line] == ["Walk:plain", "Plain:plain"]
    assert lines[-1] == "2 families are sound"


def test_a_check_of_nothing_is_not_a_success(capsys):
    FAMILIES._entries.clear()
    FAMILIES.register(Entry("Gone", "no_such_module_of_ours:Gone", "not there", ("a",)))
    with pytest.raises(ValueError, match=r"^no family could be checked"):
        main(["--all"])
    assert capsys.readouterr().out.startswith("Gone:a is skipped: ")


def test_a_family_that_cannot_be_created_is_a_failure_and_the_others_are_checked(capsys):
    FAMILIES._entries.clear()
    register_family("Plain", Plain, description="a toy", variants=("plain",))
    register_family("Zero", lambda _: 1 // 0, description="a toy", variants=("a",))
    lines, code = checked(capsys, "--all")
    assert code == 1
    assert lines[0].startswith(
        "FAIL Zero:a: TypeError: the factory of Zero:a failed with ZeroDivisionError: "
    )
    assert lines[1] == "Plain:plain"
    assert not any("sound" in line for line in lines)


def test_of_several_named_families_those_that_can_be_made_are_checked(capsys):
    register_family("Zero", lambda _: 1 // 0, description="a toy", variants=("a",))
    lines, code = checked(capsys, "Zero:a Wlak:a Plain:plain")
    assert code == 1
    assert lines[0].startswith("FAIL Zero:a: TypeError: the factory of Zero:a failed with Zero")
    assert lines[1].startswith("FAIL Wlak:a: UnknownEntryError: environment must be one of ")
    assert lines[2] == "Plain:plain"
    assert "  ok   spaces agree across tasks" in "\n".join(lines)


def test_several_families_of_which_none_can_be_made_are_an_error(capsys):
    register_family("Zero", lambda _: 1 // 0, description="a toy", variants=("a", "b"))
    with pytest.raises(ValueError, match=r"^no family could be checked"):
        main(["Zero:a", "Zero:b"])
    assert capsys.readouterr().out.count("FAIL Zero:") == 2


def test_an_installed_package_that_cannot_be_loaded_is_a_failure(capsys, monkeypatch):
    del FAMILIES._entries["WalksAway"]
    failure = PluginFailure("broken-toys", "metarl.families", "SystemExit: 0")
    monkeypatch.setattr(Registry, "failures", (failure,))
    lines, code = checked(capsys, "--all")
    assert code == 1
    assert lines[0].startswith("FAIL package 'broken-toys' could not be loaded (SystemExit: 0)")


def test_each_promise_is_shown_before_its_test_and_its_result_at_once():
    announced: list[str] = []
    for number, check in enumerate(iterate_checks(Plain("plain"), starting=announced.append)):
        assert announced == list(PROMISES)[: number + 1]
        assert check.name == announced[-1]
    assert announced == list(PROMISES)


def test_an_error_of_many_lines_is_shown_by_its_first():
    class Lengthy(Plain):
        def sample_tasks(self, *_: object, **__: object) -> None:
            raise RuntimeError("too large\nframe #0: c10::Error")

    (check,) = iterate_checks(Lengthy("plain"))
    assert check.detail == "RuntimeError: too large"


def test_a_family_without_required_attributes_is_checked(capsys):
    del FAMILIES._entries["Walk"]
    register_family("Walk", lambda _: Nameless(), description="a toy", variants=("plain",))
    lines, code = checked(capsys, "Walk:plain")
    assert code == 1
    assert (
        lines[1] == "  FAIL the family describes itself: source must be a non-empty string, is None"
    )


class Nameless(Walk):
    source = None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "give either families or --all; metarl list envs"),
        ("Walk:plain --all", "give either families or --all; metarl list envs"),
        ("Wlak:plain", "environment must be one of .*, got 'Wlak'; did you mean 'Walk'"),
        ("Walk", "environment must name its variant, one of Walk:plain, got 'Walk'"),
        ("Walk:plain --num-tasks 1", "num_tasks must be 2 or more, got 1"),
        ("Walk:plain --num-envs 1", "num_envs must be 2 or more, got 1"),
        (
            "Walk:plain --num-tasks 5001",
            "num_tasks × num_envs must be 10,000 or less, got 5001 × 3",
        ),
        ("Walk:plain --seed -1", "seed must be 0 or more, got -1"),
        ("Walk:plain --tasks 3", "there is no option --tasks; did you mean --num-tasks"),
    ],
)
def test_a_mistake_is_one_sentence(line, message):
    with pytest.raises(ValueError, match=message) as caught:
        main(line.split())
    assert "\n" not in str(caught.value)


# A module of a user.

MY_MODULE = '''
import numpy as np
import torch
from gymnasium import spaces

from metarl.envs import TensorFamily, Transition, register_family
from metarl.tasks.family import uniform_tasks


class Lever(TensorFamily):
    """A lever is rewarded for being near the task's position."""

    name = "Lever"
    variants = ("short", "long")
    task_space = spaces.Box(-1.0, 1.0, (1,), np.float64)
    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    task_description = "place U(-1, 1)"
    observation_description = "where the lever is"
    source = "my lab"

    def __init__(self, variant):
        self.variant, self.horizon = variant, {"short": 5, "long": 50}[variant]

    def initial_states(self, parameters, shape, generator):
        return torch.zeros(*shape, 1)

    def transition(self, states, actions, parameters, generator):
        states = (states + 0.2 * actions).clamp(-1, 1)
        return Transition(states, -(states - parameters).abs().squeeze(-1))

    def _sample_tasks(self, num_tasks, split, rng):
        return uniform_tasks(self.task_space, num_tasks, rng)


register_family("Lever", Lever, description="a lever", variants=Lever.variants)
'''


@pytest.fixture
def my_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module in the working directory that is not imported yet."""
    (tmp_path / "my_levers.py").write_text(MY_MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_levers", raising=False)
    yield "my_levers"
    sys.modules.pop("my_levers", None)


TRAIN = (
    "train maml-trpo --env Lever:short --iterations 1 --out run --device cpu "
    "--meta-batch-size 2 --num-episodes 2 --hidden-sizes 4 --activation tanh"
)


def metarl(line: str) -> None:
    dispatch(import_named_modules(line.split()))


def test_a_family_of_a_user_is_checked_and_listed(my_module, capsys):
    metarl(f"--import {my_module} check Lever:short Lever:long")
    assert capsys.readouterr().out.endswith("2 families are sound\n")
    metarl("list envs")
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    text = "place U(-1, 1); 5 steps; observes where the lever is (1 number); my lab"
    assert f"Lever:short {text}" in lines


def test_a_family_of_a_user_is_trained_on_resumed_and_evaluated(my_module, tmp_path, capsys):
    metarl(f"{TRAIN} --import {my_module}")
    metarl("train maml-trpo --resume --iterations 2 --device cpu --out run")
    run = RunDirectory.open(tmp_path / "run")
    assert run.config()["environment"] == "Lever:short"
    assert read_header(run.newest_checkpoint())["counters"]["num_iterations"] == 2
    capsys.readouterr()
    metarl("evaluate run --num-tasks 2 --evaluation-episodes 2 --adaptation-steps 1 --device cpu")
    assert "Lever:short, maml-trpo: 2 test tasks, mean of 2 episodes" in capsys.readouterr().out


def test_without_its_module_the_family_of_a_run_is_unknown(my_module, tmp_path):
    metarl(f"{TRAIN} --import {my_module}")
    del FAMILIES._entries["Lever"]  # as in another process
    with pytest.raises(ValueError, match=r"environment must be one of .*, got 'Lever'"):
        metarl("evaluate run --num-tasks 2 --adaptation-steps 1 --device cpu")
    assert (tmp_path / "run").exists()


def test_gymnasium_creates_a_family_of_a_user(my_module):
    import_named_modules(["--import", my_module])
    assert make_family("Lever:long+task").observation_space.shape == (2,)
    env = gymnasium.make("metarl/Lever-v0", variant="short")
    assert env.reset(seed=0)[0].tolist() == [0]
    env.close()
