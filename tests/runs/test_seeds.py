"""Directories of several seeds: content, names of runs, and errors of single seeds."""

from __future__ import annotations

import json

import pytest

from metarl.runs.loop import TrainingStopped
from metarl.runs.seeds import (
    create_seeds,
    existing_seeds,
    expanded,
    holds_seeds,
    run_names,
    train_seeds,
)
from metarl.storage.files import locked


@pytest.fixture
def seeds(tmp_path):
    create_seeds(tmp_path / "seeds", {"seed": 2, "iterations": 5})
    return tmp_path / "seeds"


def test_a_directory_expands_to_its_runs_in_the_order_of_their_seeds(seeds):
    with pytest.raises(ValueError, match="has no seed that has started"):
        expanded(str(seeds))
    for seed in (10, 9):
        (seeds / f"seed_{seed}").mkdir()
        (seeds / f"seed_{seed}" / "config.json").touch()
    (seeds / "seed_8").mkdir()  # not started
    assert expanded(str(seeds)) == [str(seeds / "seed_9"), str(seeds / "seed_10")]
    assert expanded(str(seeds / "seed_9")) == [str(seeds / "seed_9")]


def test_names_are_paths_relative_to_the_common_folder(seeds, tmp_path):
    (tmp_path / "other" / "seed_1").mkdir(parents=True)
    (seeds / "seed_1").mkdir()
    both = [str(seeds / "seed_1"), str(tmp_path / "other" / "seed_1")]
    assert run_names(both) == ["seeds/seed_1", "other/seed_1"]
    assert run_names(both[:1]) == ["seed_1"]
    assert run_names(["module:agent"]) == ["module:agent"]


def test_each_seed_is_trained_and_stopped_ones_are_named_at_the_end(seeds):
    turns = []

    def train_one(seed, path):
        turns.append((seed, path))
        if seed != 3:
            raise TrainingStopped(f"loss {seed} is nan", 1)

    with pytest.raises(TrainingStopped, match=r"^seed 2: loss 2 is nan \| seed 4: loss 4") as stop:
        train_seeds(seeds, range(2, 5), train_one)
    assert stop.value.exit_code == 1
    assert turns == [(seed, seeds / f"seed_{seed}") for seed in (2, 3, 4)]


def test_a_signal_ends_all_of_them(seeds):
    turns = []

    def train_one(seed, path):  # noqa: ARG001 - the first does not come to write
        turns.append(seed)
        raise TrainingStopped("stopped by Ctrl-C", 130)

    with pytest.raises(TrainingStopped, match=r"^stopped by Ctrl-C$"):
        train_seeds(seeds, range(2, 5), train_one)
    assert turns == [2]


def test_changes_are_stored_and_the_directory_is_locked(seeds):
    def train_one(seed, path):  # noqa: ARG001 - looks at the directory only
        content = json.loads((seeds / "seeds.json").read_text(encoding="utf-8"))
        assert content == {"seed": 2, "iterations": 7}
        with pytest.raises(ValueError, match="is being written by another process"), locked(seeds):
            pass

    train_seeds(seeds, [2], train_one, changes={"iterations": 7})


def test_other_directories_than_several_seeds_are_rejected(seeds, tmp_path):
    assert existing_seeds(seeds) == seeds / "seeds.json"
    assert not holds_seeds(tmp_path)
    with pytest.raises(ValueError, match=r"have several seeds, but there is no .*; omit --seeds"):
        existing_seeds(tmp_path)
    with pytest.raises(ValueError, match="out must be a new directory"):
        create_seeds(seeds, {})


def test_a_damaged_seed_does_not_stop_the_others(seeds):
    turns = []

    def train_one(seed, path):  # noqa: ARG001 - nothing is written
        turns.append(seed)
        if seed == 2:
            raise ValueError("checkpoint is damaged")

    with pytest.raises(TrainingStopped, match=r"^seed 2: checkpoint is damaged$"):
        train_seeds(seeds, range(2, 5), train_one)
    assert turns == [2, 3, 4]


def test_an_error_of_all_seeds_is_shown_once(seeds):
    def train_one(seed, path):  # noqa: ARG001 - nothing is written
        raise ValueError("shots must be 1 or more, got 0")

    with pytest.raises(ValueError, match=r"^shots must be 1 or more, got 0$"):
        train_seeds(seeds, range(2, 5), train_one)
