"""Images in a folder or a zip file, read into one array."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from metarl.fewshot.data.files import read_limited

__all__ = ["ImageFiles", "Preparation", "read_images", "resized"]

Preparation = Callable[[Image.Image], Image.Image]
"""Function applied to an image before its pixels are read."""

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")
_MAX_BYTES = 1 << 26  # bytes of one decompressed image
_MAX_THREADS = 8
_CHUNK = 64  # images that a thread reads at a time


class ImageFiles:
    """The images of a folder or a zip file, by their paths inside it.

    Raises:
        ValueError: if `source` is neither.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self._archive: zipfile.ZipFile | None = None
        if source.is_dir():
            found = (p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file())
        else:
            try:
                self._archive = zipfile.ZipFile(source)
            except (OSError, zipfile.BadZipFile) as error:
                raise ValueError(f"{source} must be a folder or a zip file: {error}") from error
            found = (name for name in self._archive.namelist() if not name.endswith("/"))
        self.names = sorted(name for name in found if _is_image(name))
        """Sorted paths with forward slashes; other files are ignored."""

    def __enter__(self) -> ImageFiles:
        return self

    def __exit__(self, *_: object) -> None:
        if self._archive is not None:
            self._archive.close()

    def read(self, name: str) -> bytes:
        """Return the bytes of one file; may be called from several threads.

        Raises:
            ValueError: if the file is too large, encrypted, or compressed by an unknown method.
        """
        if self._archive is None:
            with (self.source / name).open("rb") as file:
                return read_limited(file, name, _MAX_BYTES)
        try:
            with self._archive.open(name) as file:
                return read_limited(file, name, _MAX_BYTES)
        except (RuntimeError, NotImplementedError) as error:  # encrypted; Deflate64, for instance
            raise ValueError(f"{error}; extract the archive and name the folder") from error


def resized(side: int, mode: str, resampling: Image.Resampling) -> Preparation:
    """Convert to a mode ("L" grayscale, "RGB" color) and then resize to side × side."""

    def prepare(image: Image.Image) -> Image.Image:
        converted = image.convert(mode)
        if converted.size == (side, side):
            return converted
        return converted.resize((side, side), resampling)

    return prepare


def read_images(files: ImageFiles, names: Sequence[str], prepare: Preparation) -> NDArray[np.uint8]:
    """Read images as bytes, channels before rows.

    Args:
        files: folder or zip file of the images.
        names: paths to read, in this order.
        prepare: function that brings all images to one size and mode.

    Returns:
        Shape [images, channels · height · width]; binary images hold 0 and 1.

    Raises:
        ValueError: if an image cannot be read, with its name, or there are none.
    """

    def pixels(name: str) -> NDArray[np.uint8]:
        try:
            with Image.open(io.BytesIO(files.read(name))) as image:
                values = np.asarray(prepare(image)).astype(np.uint8)
        except (
            OSError, ValueError, SyntaxError, EOFError, zipfile.BadZipFile,
            Image.DecompressionBombError,
        ) as error:  # fmt: skip
            raise ValueError(
                f"image {name} of {files.source} cannot be read ({_reason(error)}); "
                "remove or replace it"
            ) from error
        return np.moveaxis(values, -1, 0).ravel() if values.ndim == 3 else values.ravel()

    if not names:
        raise ValueError(f"{files.source} must hold images, it holds none")
    first = pixels(names[0])
    result = np.empty((len(names), first.size), np.uint8)

    def fill(start: int) -> None:
        for index in range(start, min(start + _CHUNK, len(names))):
            result[index] = pixels(names[index])

    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as threads:
        for _ in threads.map(fill, range(0, len(names), _CHUNK)):
            pass
    return result


def _reason(error: Exception) -> str:
    """The reason for a failed read, without the object in memory that Pillow's message names."""
    return "unknown image format" if isinstance(error, UnidentifiedImageError) else str(error)


def _is_image(name: str) -> bool:
    hidden = name.startswith((".", "__MACOSX")) or "/." in name
    return name.lower().endswith(_SUFFIXES) and not hidden
