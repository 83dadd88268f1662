"""An agent of a user, in one file: trained, resumed, evaluated and reported by the commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from metarl.registry import Entry
from metarl.rl.registry import AGENTS
from metarl.runs.directory import RunDirectory
from metarl.runs.metrics import read_metrics
from metarl.scripts.cli import dispatch
from metarl.scripts.command_line import import_named_modules

OWN = '''
from dataclasses import dataclass

import torch

from metarl.registry import Entry
from metarl.rl.agent import Agent, Iteration
from metarl.rl.players import StatelessPlayer
from metarl.registry import Entry
from metarl.rl.registry import AGENTS
from metarl.rollouts.episodes import collect
from metarl.seeding import torch_generator


@dataclass(frozen=True)
class HillConfig:
    meta_batch_size: int = 4
    """Tasks of an iteration."""
    noise: float = 0.1
    """Standard deviation of the search."""


class HillClimber(Agent[HillConfig]):
    name, config_type = "hill", HillConfig
    metrics = {"search/best_reward": "highest mean return so far"}

    def __init__(self, family, config=None, **settings):
        super().__init__(family, config, **settings)
        self.params = {"action": torch.zeros(2), "best": torch.tensor(-1000.0)}

    def _iterate(self, tasks):
        noise = torch_generator(self.seed, "noise", self.num_iterations)
        tried = self.params["action"] + self.config.noise * torch.randn(2, generator=noise)
        with self._training_envs(tasks, num_envs=1) as env:
            episodes = collect(env, lambda o: tried.expand(*o.shape[:2], 2), noise)
        if episodes.returns.mean() > self.params["best"]:
            self.params = {"action": tried, "best": episodes.returns.mean()}
        return Iteration({"search/best_reward": float(self.params["best"])}, episodes.num_steps)

    def play(self, num_tasks, num_envs, generator):
        return StatelessPlayer(lambda o: self.params["action"].expand(*o.shape[:2], 2))


AGENTS.register(Entry("hill", HillClimber, "random search for one action"))
'''


@pytest.fixture
def own_agent(tmp_path: Path, monkeypatch):
    """The module `own_hill` in the working directory, imported as `--import` does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "own_hill.py").write_text(OWN)
    import_named_modules(["--import", "own_hill"])
    yield
    AGENTS._entries.pop("hill")
    sys.modules.pop("own_hill")


def metarl(line: str) -> None:
    dispatch(line.split())


@pytest.mark.usefixtures("own_agent")
def test_an_agent_of_a_few_lines_is_trained_resumed_evaluated_and_reported(capsys):
    train = "train hill --env Navigation2D:maml17 --device cpu --tracker none --seed 1 --out"
    metarl(f"{train} whole --iterations 4 --noise 0.2")
    metarl(f"{train} run --iterations 2 --noise 0.2")
    metarl("train hill --resume --out run --iterations 4 --device cpu --tracker none")
    whole, resumed = (RunDirectory.open(Path(name)) for name in ("whole", "run"))
    rows, again = ([{k: v for k, v in row.items() if not k.startswith("time/")}
                    for row in read_metrics(run)] for run in (whole, resumed))  # fmt: skip
    assert rows == again
    assert [row["iteration"] for row in rows] == [1, 2, 3, 4]
    assert list(rows[0])[1:] == ["search/best_reward"]
    assert whole.best_checkpoint.exists()
    agents = [AGENTS.load("hill").load(run.newest_checkpoint(), make()) for run in (whole, resumed)]
    assert torch.equal(*(agent.params["action"] for agent in agents))
    assert agents[0].config.noise == 0.2

    metarl("evaluate run --num-tasks 3 --adaptation-steps 1 --device cpu")
    (evaluation,) = json.loads(Path("run/evaluation.json").read_text())["evaluations"]
    assert evaluation["agent"] == "hill"
    metarl("report run --out page.html --device cpu")
    page = Path("page.html").read_text()
    assert "best reward from" in page
    assert "hill" in page
    metarl("report run whole --out both.html --device cpu")
    capsys.readouterr()


def make():
    from metarl.envs import make_family

    return make_family("Navigation2D:maml17")


@pytest.mark.usefixtures("own_agent")
def test_an_entry_that_is_not_an_agent_of_its_name_is_rejected(monkeypatch):
    train = "train wrong --env Navigation2D:maml17 --out run"
    entry = Entry("wrong", AGENTS.load("hill"), "registered under another name")
    monkeypatch.setitem(AGENTS._entries, "wrong", entry)
    with pytest.raises(
        ValueError, match=r"name of HillClimber must be 'wrong', as it is registered, got 'hill'"
    ):
        metarl(train)
    monkeypatch.setitem(AGENTS._entries, "wrong", Entry("wrong", dict, "not an agent"))
    with pytest.raises(
        TypeError, match=r"agent 'wrong' must be a subclass of metarl\.rl\.agent\.Agent, got <"
    ):
        metarl(train)
