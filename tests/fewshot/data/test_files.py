"""Downloads from a local server: complete, damaged, interrupted, missing, and no network.

The cache of packed data: reused, recomputed if something changed, and optional.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from metarl.fewshot.data.files import (
    DataPlace,
    OfficialFile,
    cache_dir,
    cached,
    locate,
    locate_all,
    read_limited,
)

CONTENT = bytes(range(256)) * 3000
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
MD5 = f"md5:{hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()}"


class Handler(BaseHTTPRequestHandler):
    """Serves /file whole, /cut with half of what its header promises, /once cut the first time.

    /endless does not announce its length.
    """

    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.requests.append(self.path)
        if self.path not in ("/file", "/cut", "/once", "/endless"):
            self.send_error(404)
            return
        self.send_response(200)
        if self.path != "/endless":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        cut = self.path == "/cut" or self.requests.count("/once") == 1
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if cut else CONTENT)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    served = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.fixture(autouse=True)
def _waits_are_short(monkeypatch):
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
    Handler.requests.clear()


@pytest.mark.parametrize("checksum", [SHA256, MD5, ""])
def test_a_file_is_fetched_to_its_place_and_only_once(server, tmp_path, checksum):
    file = OfficialFile("some/set.bin", f"{server}/file", checksum)
    place = DataPlace(tmp_path / "data")
    found = locate("set", file, place)
    assert found == tmp_path / "data" / "some" / "set.bin"
    assert found.read_bytes() == CONTENT
    assert [path.name for path in found.parent.iterdir()] == ["set.bin"]
    gone = OfficialFile("some/set.bin", f"{server}/elsewhere", checksum)
    assert locate("set", gone, place) == found


@pytest.mark.parametrize(
    ("path", "checksum", "reason"),
    [
        ("/file", f"sha256:{'0' * 64}", "must have the checksum sha256:0000"),
        ("/file", f"md5:{'0' * 32}", "must have the checksum md5:0000"),
        ("/cut", SHA256, "must have 768000 bytes, the connection ended early"),
        ("/nothing", SHA256, "404 Client Error"),
    ],
)
def test_a_damaged_download_is_not_kept_and_one_sentence_states_the_remedy(
    server, tmp_path, path, checksum, reason
):
    file = OfficialFile("set.bin", server + path, checksum)
    with pytest.raises(FileNotFoundError) as caught:
        locate("numbers", file, DataPlace(tmp_path))
    sentence = str(caught.value)
    assert sentence.startswith(
        f"data set numbers needs the file {tmp_path / 'set.bin'}; fetch {server}{path} and put it "
        "there, or name another folder as data_dir (the download failed: "
    )
    assert reason in sentence
    assert "\n" not in sentence
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_download_is_tried_again(server, tmp_path):
    file = OfficialFile("set.bin", f"{server}/once", SHA256)
    assert locate("set", file, DataPlace(tmp_path)).read_bytes() == CONTENT
    assert Handler.requests == ["/once", "/once"]


def test_a_file_that_does_not_exist_is_requested_once(server, tmp_path):
    with pytest.raises(FileNotFoundError, match="404"):
        locate("set", OfficialFile("set.bin", f"{server}/nothing"), DataPlace(tmp_path))
    assert Handler.requests == ["/nothing"]


@pytest.mark.parametrize("path", ["/file", "/endless"])
def test_a_file_that_is_too_large_is_not_kept(server, tmp_path, path):
    file = OfficialFile("set.bin", server + path, max_bytes=500_000)
    with pytest.raises(FileNotFoundError, match=f"{path} must have 500,000 bytes or fewer"):
        locate("set", file, DataPlace(tmp_path))
    assert Handler.requests == [path]
    assert list(tmp_path.iterdir()) == []


def test_others_may_read_a_file_in_a_folder_that_they_may_read(server, tmp_path):
    tmp_path.chmod(0o755)
    found = locate("set", OfficialFile("set.bin", f"{server}/file"), DataPlace(tmp_path))
    assert found.stat().st_mode & 0o777 == 0o644


def test_a_stream_of_too_many_bytes_is_rejected_before_it_is_read():
    assert read_limited(io.BytesIO(b"1234"), "some.csv", 4) == b"1234"
    with pytest.raises(ValueError, match=r"^some.csv must hold 4 bytes or fewer$"):
        read_limited(io.BytesIO(b"12345"), "some.csv", 4)


def test_without_a_network_the_error_is_the_same(tmp_path):
    nobody = OfficialFile("set.bin", "http://127.0.0.1:9/set.bin")
    with pytest.raises(FileNotFoundError, match=r"needs the file .* failed: .*refused"):
        locate("numbers", nobody, DataPlace(tmp_path))


def test_nothing_is_fetched_when_downloads_are_off(server, tmp_path):
    file = OfficialFile("set.bin", f"{server}/file")
    with pytest.raises(FileNotFoundError, match=r"data_dir \(downloads are off\)"):
        locate("numbers", file, DataPlace(tmp_path, download=False))


def test_an_extracted_archive_is_accepted(tmp_path):
    (tmp_path / "set").mkdir()
    file = OfficialFile("set.zip", "http://127.0.0.1:9/set.zip", extracted="set")
    assert locate("set", file, DataPlace(tmp_path)) == tmp_path / "set"


def test_all_missing_files_are_named_with_the_folders_that_are_accepted(tmp_path):
    files = [OfficialFile(f"{n}.zip", f"http://x/{n}", extracted=n) for n in ("a", "b", "c")]
    (tmp_path / "b").mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        locate_all("letters", files, DataPlace(tmp_path, download=False))
    assert str(caught.value) == (
        f"data set letters needs the files {tmp_path / 'a.zip'} (or the folder {tmp_path / 'a'}) "
        f"and {tmp_path / 'c.zip'} (or the folder {tmp_path / 'c'}); fetch http://x/a and "
        "http://x/c and put them there, or name another folder as data_dir (downloads are off)"
    )


def test_fetched_files_are_kept_and_not_named_as_missing(server, tmp_path):
    files = [OfficialFile("a", f"{server}/file"), OfficialFile("b", f"{server}/nothing")]
    with pytest.raises(
        FileNotFoundError, match=f"needs the file {tmp_path / 'b'}; .* 404 Client Error"
    ):
        locate_all("letters", files, DataPlace(tmp_path))
    files[1] = OfficialFile("b", f"{server}/file")
    assert locate_all("letters", files, DataPlace(tmp_path)) == [tmp_path / "a", tmp_path / "b"]


def test_a_download_reports_its_progress(server, tmp_path):
    updates: list[tuple[str, int, int]] = []
    place = DataPlace(tmp_path, progress=lambda *news: updates.append(news))
    locate("numbers", OfficialFile("set.bin", f"{server}/file"), place)
    assert {doing for doing, _, _ in updates} == {"downloading set.bin (kB)"}
    assert updates[-1][1:] == (768, 768)


def test_the_cache_is_in_the_folder_of_the_environment_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("METARL_CACHE_DIR", str(tmp_path / "chosen"))
    assert cache_dir() == tmp_path / "chosen"
    assert DataPlace().folder == tmp_path / "chosen" / "data"
    assert DataPlace(Path("here")).folder == Path("here")
    monkeypatch.delenv("METARL_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "metarl"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "metarl"


class Maker:
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Tensor:
        self.calls += 1
        return torch.tensor([[1, 2], [3, 250]], dtype=torch.uint8)


@pytest.fixture
def source(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("METARL_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "set.zip").write_bytes(b"images")
    return tmp_path / "set.zip"


def files(source: Path) -> list[Path]:
    return sorted((source.parent / "cache" / "packed").iterdir())


def test_a_cached_result_is_not_computed_again(source):
    make = Maker()
    first, second = (cached("set", [source], "28", make) for _ in range(2))
    assert make.calls == 1
    assert second.equal(first)
    assert second.dtype == torch.uint8
    assert len(files(source)) == 1


def test_other_settings_or_a_changed_source_are_computed_again(source):
    make = Maker()
    cached("set", [source], "28", make)
    cached("set", [source], "32", make)
    assert make.calls == 2
    source.write_bytes(b"more images")
    cached("set", [source], "28", make)
    assert make.calls == 3
    os.utime(source, ns=(1, 1))
    cached("set", [source], "28", make)
    assert make.calls == 4


def test_a_damaged_cache_is_computed_again(source):
    make = Maker()
    cached("set", [source], "28", make)
    (file,) = files(source)
    for content in (b"", file.read_bytes()[:-1], b"x" * 100):
        file.write_bytes(content)
        assert cached("set", [source], "28", make).tolist() == [[1, 2], [3, 250]]
    assert make.calls == 4


def test_a_cache_that_cannot_be_written_is_not_needed(source, monkeypatch):
    monkeypatch.setenv("METARL_CACHE_DIR", str(source))  # a file, not a folder
    make = Maker()
    assert cached("set", [source], "28", make).tolist() == [[1, 2], [3, 250]]
    assert make.calls == 1


def test_folders_are_not_cached(source):
    make = Maker()
    for _ in range(2):
        cached("set", [source.parent], "28", make)
    assert make.calls == 2
