"""Tox21 and SIDER from small tables: assays as pairs, unknown labels, molecules listed twice."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch

from metarl.fewshot.data import files as downloads
from metarl.fewshot.data.batches import EpisodeShape
from metarl.fewshot.data.features import hashed_counts, smiles_grams
from metarl.fewshot.data.files import DataPlace
from metarl.fewshot.data.packed import ClassData
from metarl.fewshot.datasets.molecules import sider_tasks, tox21_tasks

ASSAYS = [f"NR-{letter}" for letter in "ABCDEFGHIJKL"]
MOLECULES = ["C" * length for length in range(1, 31)]


def labels() -> list[list[str]]:
    """Molecule m is active in assay a where m mod (a + 2) = 0; every seventh is unknown there."""
    return [
        ["" if (m + a) % 7 == 0 else str(int(m % (a + 2) == 0)) for a in range(12)]
        for m in range(30)
    ]


def write(path: Path, header: list[str], rows: list[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(",".join(row) for row in [header, *rows]) + "\n"
    path.write_bytes(gzip.compress(text.encode()))


@pytest.fixture
def place(tmp_path: Path, monkeypatch) -> DataPlace:
    monkeypatch.setenv("METARL_CACHE_DIR", str(tmp_path / "cache"))
    rows = [[*known, f"TOX{m}", MOLECULES[m]] for m, known in enumerate(labels())]
    write(tmp_path / "molecules" / "tox21.csv.gz", [*ASSAYS, "mol_id", "smiles"], rows)
    return DataPlace(tmp_path, download=False)


def members(data: ClassData, name: str) -> set[int]:
    """Molecules of a class, identified by their number of atoms less one."""
    index = data.class_names.index(name)
    rows = data.members[data.starts[index] :][: data.counts[index]]
    known = hashed_counts(MOLECULES, smiles_grams, 1024)
    return {int((known == point).all(1).nonzero()[0, 0]) for point in data.points[rows]}


def test_the_first_assays_train_and_the_last_test(place):
    tasks = tox21_tasks(place)
    assert tasks.splits == ("train", "test")
    expected = [f"{assay}, {word}" for assay in ASSAYS for word in ("inactive", "active")]
    assert tasks.data("train").class_names == tuple(expected[:18])
    assert tasks.data("test").class_names == tuple(expected[18:])
    assert tasks.protocol["split"] == "assays in the file's order: 9 train, 3 test"


def test_molecules_are_in_the_class_of_their_label_and_nowhere_without_one(place):
    data = tox21_tasks(place).data("train")
    for column, assay in ((0, "NR-A"), (3, "NR-D")):
        for value, word in (("0", "inactive"), ("1", "active")):
            expected = {m for m, known in enumerate(labels()) if known[column] == value}
            assert members(data, f"{assay}, {word}") == expected


def test_a_task_is_an_assay_with_inactive_before_active(place):
    tasks = tox21_tasks(place)
    generator = torch.Generator().manual_seed(0)
    batch = tasks.sample(20, EpisodeShape(2, 1, 1), split="train", generator=generator)
    assert batch.support.targets.tolist() == 20 * [[0, 1]]
    with pytest.raises(ValueError, match=r"ways must be 2 for tox21, .* got 5"):
        tasks.sample(1, EpisodeShape(5, 1, 1), split="train", generator=generator)


def test_a_molecule_listed_twice_counts_once_and_not_where_its_labels_differ(place, tmp_path):
    rows = [[*known, f"TOX{m}", MOLECULES[m]] for m, known in enumerate(labels())]
    again = list(rows[1])
    assert rows[1][:3] == ["0", "0", "0"]
    again[0], again[1], again[2] = "1", "", "0"
    write(tmp_path / "molecules" / "tox21.csv.gz", [*ASSAYS, "mol_id", "smiles"], [*rows, again])
    data = tox21_tasks(place).data("train")
    assert 1 not in members(data, "NR-A, inactive") | members(data, "NR-A, active")
    for assay in ("NR-B", "NR-C"):
        index = data.class_names.index(f"{assay}, inactive")
        once = [m for m, known in enumerate(labels()) if known[ASSAYS.index(assay)] == "0"]
        assert int(data.counts[index]) == len(once)


def test_side_effects_have_names_with_commas(tmp_path, monkeypatch):
    monkeypatch.setenv("METARL_CACHE_DIR", str(tmp_path / "cache"))
    effects = [f'"effect {i}, with more"' for i in range(27)]
    rows = [[MOLECULES[m], *[str(int((m + e) % 2)) for e in range(27)]] for m in range(30)]
    write(tmp_path / "molecules" / "sider.csv.gz", ["smiles", *effects], rows)
    tasks = sider_tasks(DataPlace(tmp_path))
    assert [tasks.num_classes(split) for split in tasks.splits] == [42, 12]
    assert tasks.data("test").class_names[0] == "effect 21, with more, inactive"


def _zipped(content: bytes) -> bytes:
    """Compressed without a time stamp, so that tests have the same names in every process."""
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no gzip", r"tox21.csv.gz is damaged \(.*\); fetch it again"),
        (_zipped(b""), "is damaged"),
        (_zipped(b"a,smiles\n2,C\n"), "is damaged .a label must be 0, 1 or empty, got '2'"),
        (_zipped(b"a,smiles\n1\n"), "is damaged"),
        (_zipped(b"a,smiles\n1,C\n"), "tox21.csv.gz must have 12 assays, it has 1"),
        (_zipped(b"a,smiles\n" + b"1,C\n" * 50)[:-9], "is damaged"),
        (_zipped(b"smiles,a\nC\n"), "is damaged"),
        (_zipped(bytes(range(256)) * 4)[:10] + b"\xff" * 40, "is damaged"),
    ],
)
def test_a_damaged_table_is_rejected(place, tmp_path, content, message):
    (tmp_path / "molecules" / "tox21.csv.gz").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        tox21_tasks(place)


def test_a_missing_table_is_named(place):
    with pytest.raises(FileNotFoundError, match=r"data set sider needs the file .*sider.csv.gz"):
        sider_tasks(place)


@pytest.mark.parametrize(
    ("make", "checksum"), [(tox21_tasks, "md5:2882d69e"), (sider_tasks, "sha256:4cc7ccb2")]
)
def test_a_downloaded_file_with_another_checksum_is_rejected(tmp_path, monkeypatch, make, checksum):
    def fetch(url: str, output: str, *_: object) -> None:  # noqa: ARG001 - nothing is downloaded
        Path(output).write_bytes(_zipped(b"a,smiles\n1,C\n"))

    monkeypatch.setattr(downloads, "_fetch", fetch)
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
    message = f"download failed: .* must have the checksum {checksum}"
    with pytest.raises(FileNotFoundError, match=message):
        make(DataPlace(tmp_path))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_file_that_decompresses_to_too_much_is_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr("metarl.fewshot.datasets.molecules._MAX_BYTES", 1000)
    (tmp_path / "molecules").mkdir()
    (tmp_path / "molecules" / "sider.csv.gz").write_bytes(_zipped(bytes(1001)))
    with pytest.raises(ValueError, match=r"is damaged \(sider.csv.gz must hold 1,000 bytes or"):
        sider_tasks(DataPlace(tmp_path))
