"""Golden traces: equal code gives equal traces, and any other number is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metarl.scripts.publish import golden_traces

CASE = "agent/maml-trpo/PointRobot:pearl/--num-inner-steps 0"


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["golden_traces.py", *words, "--only", CASE])
    return golden_traces.main()


@pytest.fixture
def traces(monkeypatch, tmp_path: Path) -> Path:
    assert run(monkeypatch, "record", "--out", str(tmp_path / "traces.json")) == 0
    return tmp_path / "traces.json"


def test_the_same_code_gives_the_same_trace(monkeypatch, traces, capsys):
    assert run(monkeypatch, "compare", str(traces)) == 0
    assert f"{CASE}: equal" in capsys.readouterr().out


@pytest.mark.parametrize("section", ["metrics", "tensors", "evaluation"])
def test_another_number_is_found(monkeypatch, traces, capsys, section):
    content = json.loads(traces.read_text())
    name, value = next(iter(content["cases"][CASE][section].items()))
    other = value[:-1] + ("1" if value[-1] != "1" else "2")
    content["cases"][CASE][section][name] = other
    traces.write_text(json.dumps(content))
    assert run(monkeypatch, "compare", str(traces)) == 1
    assert f"{section}: {name}: " in capsys.readouterr().out


def test_a_value_under_a_new_name_is_a_renaming(monkeypatch, traces, capsys):
    content = json.loads(traces.read_text())
    tensors = content["cases"][CASE]["tensors"]
    name = next(iter(tensors))
    tensors["former name"] = tensors.pop(name)
    traces.write_text(json.dumps(content))
    assert run(monkeypatch, "compare", str(traces)) == 0
    assert f"{CASE}: 1 renamed" in capsys.readouterr().out
