"""Checkpoints: saved data are loaded unchanged, and other files are rejected.

Checkpoints without the optimizer: they predict the same, and training from them is rejected.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import random
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from metarl.agents import MAMLTRPO
from metarl.envs import make_family
from metarl.fewshot import FewShotTraining, evaluate_fewshot, make_tasks, recipe
from metarl.storage.checkpoints import (
    FORMAT_VERSION,
    copy_without_optimizer,
    holds_optimizer,
    load_checkpoint,
    read_counter,
    read_header,
    save_checkpoint,
    select_tensors,
)
from metarl.storage.files import write_atomically
from metarl.storage.provenance import library_versions

HEADER = {
    "agent": "maml-trpo",
    "environment": "Navigation2D:maml17",
    "seed": 3,
    "config": {"gamma": 0.99},
    "counters": {"num_iterations": 3},
}
DAMAGED = r"^checkpoint \S+ is damaged or (not a metarl checkpoint|was changed: its checksum .*)$"


def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "weight": torch.randn(4, 3, generator=generator),
        "exact": torch.randn(5, generator=generator, dtype=torch.float64),
        "count": torch.tensor(2**40 + 1),
        "mask": torch.tensor([True, False]),
        "empty": torch.zeros(0, 2),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A saved checkpoint."""
    save_checkpoint(tmp_path / "agent.safetensors", tensors(), HEADER)
    return tmp_path / "agent.safetensors"


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    return load_checkpoint(path, agent="maml-trpo", environment="Navigation2D:maml17")


def test_tensors_are_loaded_bitwise(path):
    loaded, _ = load(path)
    assert set(loaded) == set(tensors())
    for name, value in tensors().items():
        assert loaded[name].dtype == value.dtype
        assert torch.equal(loaded[name], value)


def test_the_header_is_loaded_with_the_format_version(path):
    expected = {"format_version": FORMAT_VERSION, **HEADER, "versions": library_versions()}
    assert load(path)[1] == expected
    assert read_header(path) == expected


def test_parameters_with_a_graph_or_shared_memory_can_be_saved(tmp_path):
    weight = torch.arange(6.0).view(2, 3).requires_grad_()
    given = {"weight": weight, "transposed": weight.T, "row": weight[1]}
    save_checkpoint(tmp_path / "agent", given, HEADER)
    loaded, _ = load(tmp_path / "agent")
    for name, value in given.items():
        assert torch.equal(loaded[name], value)
        assert not loaded[name].requires_grad


def test_a_checkpoint_of_another_agent_is_rejected(path):
    message = "must be of agent 'rl2', it is of 'maml-trpo'"
    with pytest.raises(ValueError, match=message):
        load_checkpoint(path, agent="rl2", environment="Navigation2D:maml17")


def test_a_checkpoint_of_another_environment_is_rejected(path):
    message = "must be of environment 'HalfCheetahVel:promp', it is of 'Navigation2D:maml17'"
    with pytest.raises(ValueError, match=message):
        load_checkpoint(path, agent="maml-trpo", environment="HalfCheetahVel:promp")


def test_a_missing_file_is_named(tmp_path):
    for missing in (tmp_path / "agent.safetensors", tmp_path):
        message = re.escape(f"checkpoint must be a file, there is none at {missing}")
        with pytest.raises(ValueError, match=message):
            read_header(missing)


@pytest.mark.parametrize("kept", [0, 4, 40, -1])
def test_a_truncated_file_is_rejected(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=DAMAGED):
        load(path)


def test_every_flipped_bit_and_every_truncation_is_detected(path):
    content = path.read_bytes()
    load(path)
    rng = random.Random(0)
    places = rng.sample(range(8 * len(content)), 200)
    for place in places:
        altered = bytearray(content)
        altered[place // 8] ^= 1 << place % 8
        path.write_bytes(altered)
        with pytest.raises(ValueError, match=r"^checkpoint \S+ (is damaged|has format)"):
            load(path)
    for length in rng.sample(range(len(content)), 50):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=DAMAGED):
            load(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(ValueError, match=DAMAGED):
        load(path)


def test_a_header_that_was_edited_is_rejected(path):
    content = path.read_bytes()
    assert content.count(b"0.99") == 1
    path.write_bytes(content.replace(b"0.99", b"0.98"))
    with pytest.raises(ValueError, match="its checksum does not match its content"):
        load(path)


def test_a_checkpoint_without_a_checksum_is_rejected(path):
    path.write_bytes(save(tensors(), metadata={"metarl": json.dumps({"format_version": 2})}))
    with pytest.raises(ValueError, match="its checksum does not match its content"):
        load(path)


def test_saving_the_same_gives_the_same_bytes(path, tmp_path):
    save_checkpoint(tmp_path / "again", tensors(), HEADER)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_a_loaded_header_can_be_saved_again(path, tmp_path):
    loaded, header = load(path)
    save_checkpoint(tmp_path / "again", loaded, header)
    assert load(tmp_path / "again")[1] == header


@pytest.mark.parametrize("missing", ["seed", "config", "counters"])
def test_a_header_without_required_entries_is_rejected(path, missing):
    save_checkpoint(path, tensors(), {k: v for k, v in HEADER.items() if k != missing})
    with pytest.raises(ValueError, match=f"has no {missing}, so it cannot be used"):
        load(path)


@pytest.mark.parametrize("count", [None, -1, True, 2.5, "3"])
def test_an_invalid_counter_is_rejected(path, count):
    header = {"counters": {"num_iterations": count}}
    with pytest.raises(
        ValueError, match=f"have a whole number num_iterations in counters, got {count!r}"
    ):
        read_counter(path, header, "num_iterations")


def test_tensors_of_a_group_are_selected_by_name():
    found = {"parameters/a": torch.ones(2), "optimizer/a": torch.zeros(2)}
    selected = select_tensors(Path("x"), found, "parameters", {"a": torch.zeros(2)})
    assert list(selected) == ["a"]
    assert selected["a"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("found", "held"),
    [
        ({}, "nothing"),
        ({"parameters/a": torch.ones(3)}, r"torch.float32 \[3\]"),
        ({"parameters/a": torch.ones(2, dtype=torch.float64)}, r"torch.float64 \[2\]"),
    ],
)
def test_tensors_of_another_shape_or_type_are_rejected(found, held):
    message = rf"checkpoint x must hold parameters/a as torch.float32 \[2\], it holds {held}"
    with pytest.raises(ValueError, match=message):
        select_tensors(Path("x"), found, "parameters", {"a": torch.zeros(2)})


# Earlier versions.

ROOT = Path(__file__).parents[2]
OLD = ROOT / "tests" / "data" / "checkpoint_v1.safetensors"


def test_a_checkpoint_of_format_1_is_still_loaded():
    loaded, header = load_checkpoint(OLD, agent="maml-trpo", environment="Navigation2D:maml17")
    assert header["format_version"] == 1
    assert {name.split("/")[0] for name in loaded} == {"parameters"}
    agent = MAMLTRPO.load(OLD, make_family("Navigation2D:maml17"))
    assert (agent.num_iterations, agent.seed) == (2, 5)
    assert torch.equal(agent.params["weight_0"], loaded["parameters/weight_0"])


@pytest.mark.parametrize("result", sorted(ROOT.glob("results/*/maml-trpo/checkpoint.safetensors")))
def test_published_checkpoints_can_be_loaded(result):
    header = read_header(result)
    agent = MAMLTRPO.load(result, make_family(header["environment"]))
    assert agent.num_iterations == header["counters"]["num_iterations"] > 0


@pytest.mark.parametrize("content", [b"garbage", b"\xff" * 100, b"\x00" * 100])
def test_a_file_of_garbage_is_rejected(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=DAMAGED):
        load(path)


@pytest.mark.parametrize(
    "metadata", [None, {"other": "{}"}, {"metarl": "no json"}, {"metarl": "[1]"}]
)
def test_a_safetensors_file_of_another_program_is_rejected(path, metadata):
    path.write_bytes(save(tensors(), metadata=metadata))
    with pytest.raises(ValueError, match=DAMAGED):
        load(path)


@pytest.mark.parametrize("metadata", ['{"agent": "maml-trpo"}', '{"format_version": 999}'])
def test_another_format_version_is_rejected(path, metadata):
    path.write_bytes(save(tensors(), metadata={"metarl": metadata}))
    message = rf"checkpoint .* has format (None|999), this version reads 1 and {FORMAT_VERSION}"
    with pytest.raises(ValueError, match=message):
        read_header(path)


class Trap:
    """Unpickling this creates a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_a_pickle_is_rejected_without_running_its_code(path, tmp_path):
    trap = Trap(tmp_path / "sprung")
    for write in (pickle.dump, torch.save):
        with path.open("wb") as file:
            write(trap, file)
        with pytest.raises(ValueError, match=r"is a pickle, as torch\.save writes; .* rejected"):
            load(path)
    assert not trap.folder.exists()


def failing(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(path, monkeypatch, call):
    before = path.read_bytes()
    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), failing)
    with pytest.raises(OSError, match=f"No space left on device: .*{path.name}"):
        save_checkpoint(path, {"weight": torch.zeros(100)}, HEADER)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_new_file_appears_complete_and_last(path, monkeypatch):
    before, seen = path.read_bytes(), []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        seen.append((target.read_bytes(), self.read_bytes()))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    write_atomically(path, b"new")
    assert seen == [(before, b"new")]
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_a_header_that_json_cannot_hold_leaves_the_old_file(path):
    before = path.read_bytes()
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_checkpoint(path, tensors(), {**HEADER, "generator": torch.Generator()})
    assert path.read_bytes() == before


TASKS = make_tasks("glyphs")


@pytest.fixture
def trained() -> FewShotTraining:
    settings = recipe(
        "protonet", "glyphs", decay_iterations=2, filters=(4, 4), ways=3, train_ways=4
    )
    training = FewShotTraining("protonet", TASKS, settings)
    for _ in range(2):
        training.iterate()
    return training


def test_a_small_checkpoint_predicts_the_same_and_is_a_third_of_the_size(trained, tmp_path):
    trained.save(tmp_path / "whole.safetensors")
    copy_without_optimizer(tmp_path / "whole.safetensors", tmp_path / "small.safetensors")
    tensors, header = load_checkpoint(
        tmp_path / "small.safetensors", agent="fewshot-protonet", environment="glyphs"
    )
    assert {name.split("/")[0] for name in tensors} == {"parameters", "running"}
    assert header["counters"] == {"num_iterations": 2}
    whole = read_header(tmp_path / "whole.safetensors")
    assert (holds_optimizer(whole), holds_optimizer(header)) == (True, False)
    loaded = FewShotTraining.load(tmp_path / "small.safetensors", "protonet", TASKS)
    for name, values in trained.evaluation_params.items():
        assert torch.equal(loaded.evaluation_params[name], values)
    expected, found = (
        evaluate_fewshot(training, num_tasks=4).scores for training in (trained, loaded)
    )
    assert (expected == found).all()


def test_an_unmarked_checkpoint_without_an_optimizer_is_rejected(trained, tmp_path):
    path = tmp_path / "whole.safetensors"
    trained.save(path)
    tensors, header = load_checkpoint(path, agent="fewshot-protonet", environment="glyphs")
    kept = {name: t for name, t in tensors.items() if not name.startswith("optimizer/")}
    save_checkpoint(path, kept, header)
    with pytest.raises(ValueError, match="must hold optimizer/step/"):
        FewShotTraining.load(path, "protonet", TASKS)


def test_checkpoints_of_format_1_hold_no_optimizer():
    assert not holds_optimizer({"format_version": 1})
