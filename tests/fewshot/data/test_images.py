"""Images from folders and zip files: order, channels, and files that cannot be read."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metarl.fewshot.data.images import ImageFiles, read_images, resized

NEAREST = Image.Resampling.NEAREST


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def image(shade: int) -> np.ndarray:
    """2×2 RGB: pixel (row, column), channel c holds shade + 6·row + 3·column + c."""
    return (shade + np.arange(12).reshape(2, 2, 3)).astype(np.uint8)


FILES = {
    "b/2.png": png(image(40)),
    "a/10.png": png(image(20)),
    "a/1.PNG": png(image(0)),
    "a/notes.txt": b"no image",
    "a/.hidden.png": b"",
    "__MACOSX/a/1.png": b"",
}


@pytest.fixture(params=["folder", "zip"])
def source(request, tmp_path: Path) -> Path:
    if request.param == "folder":
        for name, content in FILES.items():
            path = tmp_path / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return tmp_path / "set"
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a/", "")
        for name, content in FILES.items():
            archive.writestr(name, content)
    return tmp_path / "set.zip"


def test_only_images_are_found_in_sorted_order(source):
    with ImageFiles(source) as files:
        assert files.names == ["a/1.PNG", "a/10.png", "b/2.png"]


def test_channels_come_before_rows(source):
    with ImageFiles(source) as files:
        pixels = read_images(files, ["b/2.png", "a/1.PNG"], resized(2, "RGB", NEAREST))
    assert pixels.dtype == np.uint8
    assert pixels[1].tolist() == [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]
    assert pixels[0].tolist() == (40 + pixels[1]).tolist()


def test_many_images_come_in_the_order_of_their_names(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for shade in range(200):
            archive.writestr(f"{shade:03}.png", png(np.full((2, 2), shade, np.uint8)))
    with ImageFiles(tmp_path / "set.zip") as files:
        pixels = read_images(files, files.names[::-1], resized(2, "L", NEAREST))
    assert pixels[:, 0].tolist() == list(range(199, -1, -1))


def test_images_are_converted_before_they_are_resized(tmp_path):
    pixels = np.zeros((4, 4), bool)
    pixels[:, ::2] = True
    (tmp_path / "x.png").write_bytes(png(pixels))
    with ImageFiles(tmp_path) as files:
        gray = read_images(files, files.names, resized(2, "L", Image.Resampling.BOX))
        binary = read_images(files, files.names, resized(2, "1", NEAREST))
    assert gray.tolist() == [[128, 128, 128, 128]]
    assert set(binary.ravel().tolist()) <= {0, 1}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no image", "unknown image format"),
        (b"", "unknown image format"),
        (FILES["b/2.png"][:50], ".*truncated.*"),
    ],
    ids=["text", "empty", "truncated"],
)
def test_an_image_that_cannot_be_read_is_named(tmp_path, content, reason):
    (tmp_path / "good.png").write_bytes(FILES["b/2.png"])
    (tmp_path / "worse.png").write_bytes(content)
    message = rf"image worse.png of .* cannot be read \({reason}\); remove or replace it"
    with ImageFiles(tmp_path) as files, pytest.raises(ValueError, match=message):
        read_images(files, files.names, resized(2, "RGB", NEAREST))


def test_a_source_without_images_is_rejected(tmp_path):
    (tmp_path / "set.zip").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"set.zip must be a folder or a zip file"):
        ImageFiles(tmp_path / "set.zip")
    with pytest.raises(ValueError, match="absent must be a folder or a zip file"):
        ImageFiles(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with (
        ImageFiles(tmp_path / "empty") as files,
        pytest.raises(ValueError, match="must hold images, it holds none"),
    ):
        read_images(files, files.names, resized(2, "RGB", NEAREST))


def archive_with(path: Path, content: bytes, **entry: int) -> Path:
    """A zip file of one image whose directory entry is then changed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.png", content)
    whole = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = whole.index(signature) + flags
        whole[start] |= entry.get("flag_bits", 0)
        whole[start + 2] = entry.get("method", whole[start + 2])
    path.write_bytes(whole)
    return path


@pytest.mark.parametrize(
    ("entry", "reason"),
    [({"flag_bits": 1}, "encrypted"), ({"method": 9}, "compression method is not supported")],
    ids=["encrypted", "deflate64"],
)
def test_an_archive_that_cannot_be_decompressed_is_one_sentence(tmp_path, entry, reason):
    source = archive_with(tmp_path / "set.zip", png(image(0)), **entry)
    message = rf"^image a/1.png of {source} cannot be read \(.*{reason}.*; extract the archive"
    with ImageFiles(source) as files, pytest.raises(ValueError, match=message) as caught:
        read_images(files, files.names, resized(2, "RGB", NEAREST))
    assert "\n" not in str(caught.value)


def test_an_image_of_many_zeros_is_not_decompressed_to_its_end(tmp_path):
    source = archive_with(tmp_path / "set.zip", bytes(1 << 28))
    assert source.stat().st_size < 1 << 20
    tracemalloc.start()
    try:
        with ImageFiles(source) as files, pytest.raises(ValueError, match="67,108,864 bytes or"):
            read_images(files, files.names, resized(2, "RGB", NEAREST))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 28


def test_cyclic_links_are_ignored(tmp_path):
    (tmp_path / "1.png").write_bytes(png(image(0)))
    (tmp_path / "2.png").symlink_to("2.png")
    (tmp_path / "again").symlink_to(tmp_path)
    with ImageFiles(tmp_path) as files:
        assert files.names == ["1.png"]
