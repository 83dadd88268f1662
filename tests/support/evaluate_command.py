"""The command `metarl evaluate` from one line, and agents of a user."""

from __future__ import annotations

from pathlib import Path

import pytest

from metarl.envs import make_family
from metarl.evaluation.files import read_evaluations
from metarl.evaluation.results import Evaluation
from metarl.scripts.cli import dispatch

SMALL = "--num-tasks 3 --exploration-episodes 2 --evaluation-episodes 2 --adaptation-steps 2"
FAMILY = make_family("Navigation2D:maml17")


def metarl(line: str, *paths: Path | str) -> None:
    """The command `metarl`; each path replaces one OUT in the line."""
    rest = iter(paths)
    dispatch([str(next(rest)) if word == "OUT" else word for word in line.split()])


def read(file: Path) -> Evaluation:
    """The only evaluation of a file."""
    (only,) = read_evaluations(file)
    return only


MODULE = """
import torch

class Still:
    def __init__(self, family):
        self.size, self.num_adapted = family.action_space.shape[0], 0
    def act(self, observations):
        return torch.full((*observations.shape[:2], self.size), 0.05 * self.num_adapted)
    def adapt(self, episodes):
        self.num_adapted += 1

def factory(family):
    return lambda num_tasks, num_envs: Still(family)

class Sweeping:
    remembers = True
    def __init__(self, family):
        self.num_arms = family.action_space.n
    def play(self, num_tasks, num_envs, generator):
        self.time = -1
        return self
    def act(self, actor_input):
        self.time += 1
        return torch.full(actor_input.observations.shape[:2], self.time % int(self.num_arms))

def broken(family):
    raise KeyError(family.id)

def odd(family):
    return 3

number = 4
"""


def write_module(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A module of a user, in the working directory."""
    (folder / f"{name}.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
