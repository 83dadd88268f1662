"""Moving pictures: frames side by side, and files and bytes of them."""

from __future__ import annotations

import importlib
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from matplotlib.font_manager import findfont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from metarl.storage.files import write_output
from metarl.validation import require_at_least

__all__ = ["FILM_SUFFIXES", "film_bytes", "film_strip", "image_bytes", "side_by_side", "write_film"]

Picture: TypeAlias = NDArray[np.uint8]

FILM_SUFFIXES = (".gif", ".webp", ".png", ".mp4")
_FORMATS = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG"}
_PAPER, _INK, _GAP = 255, 30, 8
_CAPTION_HEIGHT, _CAPTION_SIZE = 28, 17
_GIF_MS = 20  # players take shorter ones for 100
_QUALITY = 55  # of WebP: a page of films stays small


def side_by_side(films: Sequence[Sequence[Picture]], captions: Sequence[str]) -> list[Picture]:
    """Films of one height beside each other, a caption above each.

    Args:
        films: pictures [height, width, 3]; one that ends early waits at its last.
        captions: as many.

    Returns:
        Pictures of one shape, as many as the longest film has.

    Raises:
        ValueError: if there is no film, one without pictures, or not a caption for each.
    """
    if not films or not all(films) or len(captions) != len(films):
        raise ValueError(
            f"films must be one or more with pictures and a caption each, got {len(films)} "
            f"and {len(captions)} captions"
        )
    heads = [_caption(text, film[0].shape[1]) for film, text in zip(films, captions, strict=True)]
    length = max(map(len, films))
    frames = []
    for k in range(length):
        shown = [film[min(k, len(film) - 1)] for film in films]
        columns = [np.concatenate(pair) for pair in zip(heads, shown, strict=True)]
        frames.append(_joined(columns))
    return frames


def film_strip(frames: Sequence[Picture], *, num_frames: int = 3) -> Picture:
    """A still picture of a film: frames from the first to the last, one below the other.

    Raises:
        ValueError: if there is no frame, or a number is out of range.
    """
    require_at_least("num_frames", num_frames, 1)
    require_at_least("number of frames", len(frames), 1)
    chosen = np.linspace(0, len(frames) - 1, min(num_frames, len(frames))).round().astype(int)
    return np.concatenate([frames[k] for k in chosen])


def film_bytes(frames: Sequence[Picture], *, suffix: str, frames_per_second: float) -> bytes:
    """A film that begins anew when it has ended, for a file with this suffix.

    Args:
        frames: pictures of one shape, [height, width, 3].
        suffix: ".gif", ".webp" or ".png".
        frames_per_second: above 0; GIF has at most 50.

    Raises:
        ValueError: if there is no frame, the suffix is none of these, or the speed not positive.
    """
    if not frames or frames_per_second <= 0:
        raise ValueError(
            "a film must have a frame and a positive speed, "
            f"got {len(frames)} frames, {frames_per_second} a second"
        )
    if suffix not in _FORMATS:
        raise ValueError(f"suffix must be one of {', '.join(_FORMATS)}, got {suffix!r}")
    first, *rest = [Image.fromarray(frame) for frame in frames]
    buffer = io.BytesIO()
    first.save(
        buffer,
        format=_FORMATS[suffix],
        save_all=True,
        append_images=rest,
        duration=max(_GIF_MS if suffix == ".gif" else 1, round(1000 / frames_per_second)),
        loop=0,
        quality=_QUALITY,
    )
    return buffer.getvalue()


def image_bytes(picture: Picture) -> bytes:
    """A picture [height, width, 3] as WebP."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="WEBP", quality=_QUALITY)
    return buffer.getvalue()


def write_film(path: Path, frames: Sequence[Picture], *, frames_per_second: float) -> None:
    """Write a film, whole or not at all; its suffix, one of `FILM_SUFFIXES`, gives the format.

    Raises:
        ValueError: if the suffix is another, there is no frame or the speed is not positive.
        ImportError: for MP4, if imageio-ffmpeg is missing.
    """
    if path.suffix == ".mp4":
        content = _mp4_bytes(frames, frames_per_second)
    else:
        content = film_bytes(frames, suffix=path.suffix, frames_per_second=frames_per_second)
    write_output(path, content)


def _mp4_bytes(frames: Sequence[Picture], frames_per_second: float) -> bytes:
    try:
        imageio_ffmpeg = importlib.import_module("imageio_ffmpeg")  # it has no types
    except ImportError as error:
        raise ImportError(
            "MP4 needs the package imageio-ffmpeg; install it, or choose .gif, .webp or .png"
        ) from error
    height, width, _ = frames[0].shape
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "film.mp4"
        writer = imageio_ffmpeg.write_frames(
            str(file), (width, height), fps=frames_per_second, macro_block_size=2
        )
        writer.send(None)
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
        writer.close()
        return file.read_bytes()


def _caption(text: str, width: int) -> Picture:
    """A strip [28, width, 3] of paper with a line of text."""
    strip = Image.new("RGB", (width, _CAPTION_HEIGHT), (_PAPER,) * 3)
    font = ImageFont.truetype(findfont("DejaVu Sans"), _CAPTION_SIZE)
    ImageDraw.Draw(strip).text((4, 3), text, fill=(_INK,) * 3, font=font)
    return np.asarray(strip)


def _joined(columns: Sequence[Picture]) -> Picture:
    height = columns[0].shape[0]
    gap = np.full((height, _GAP, 3), _PAPER, np.uint8)
    parts = [part for column in columns for part in (gap, column)][1:]
    return np.concatenate(parts, axis=1)
