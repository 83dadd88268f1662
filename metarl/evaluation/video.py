"""Videos: frames side by side, and their encoding as bytes and files."""

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

__all__ = [
    "VIDEO_SUFFIXES",
    "Frame",
    "image_bytes",
    "resized",
    "side_by_side",
    "still_image",
    "video_bytes",
    "write_video",
]

Frame: TypeAlias = NDArray[np.uint8]

VIDEO_SUFFIXES = (".gif", ".webp", ".png", ".mp4")
_FORMATS = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG"}
_BACKGROUND, _TEXT, _GAP = 255, 30, 8
_CAPTION_HEIGHT, _CAPTION_SIZE, _MIN_CAPTION_SIZE = 28, 17, 6
_CAPTION_MARGIN = 4
_MIN_GIF_MS = 20  # players show frames with a shorter duration for 100 ms
_QUALITY = 55  # WebP quality; keeps pages with many videos small
_GIF_COLORS, _PALETTE_FRAMES = 64, 8


def side_by_side(videos: Sequence[Sequence[Frame]], captions: Sequence[str]) -> list[Frame]:
    """The frames of several videos of equal height side by side, each with a caption above.

    Args:
        videos: frames [height, width, 3] of each video; a shorter video repeats its last frame.
        captions: one for each video.

    Returns:
        Frames of one shape, as many as the longest video has.

    Raises:
        ValueError: if there is no video, a video has no frames, or the number of captions differs.
    """
    if not videos or not all(videos) or len(captions) != len(videos):
        raise ValueError(
            "videos must be one or more, each with frames and a caption, "
            f"got {len(videos)} and {len(captions)} captions"
        )
    heads = [_caption(text, one[0].shape[1]) for one, text in zip(videos, captions, strict=True)]
    length = max(map(len, videos))
    frames = []
    for k in range(length):
        shown = [one[min(k, len(one) - 1)] for one in videos]
        columns = [np.concatenate(pair) for pair in zip(heads, shown, strict=True)]
        frames.append(_joined(columns))
    return frames


def resized(frames: Sequence[Frame], width: int) -> list[Frame]:
    """Images [height, width, 3] with another width and the same proportions.

    Raises:
        ValueError: if `width` is below 1.
    """
    require_at_least("width", width, 1)
    sizes = [(width, max(1, round(width * frame.shape[0] / frame.shape[1]))) for frame in frames]
    return [
        np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))
        for frame, size in zip(frames, sizes, strict=True)
    ]


def still_image(frames: Sequence[Frame], *, num_frames: int = 3) -> Frame:
    """A still image of a video: frames from the first to the last, one below the other.

    Raises:
        ValueError: if there is no frame, or a number is out of range.
    """
    require_at_least("num_frames", num_frames, 1)
    require_at_least("number of frames", len(frames), 1)
    chosen = np.linspace(0, len(frames) - 1, min(num_frames, len(frames))).round().astype(int)
    return np.concatenate([frames[k] for k in chosen])


def video_bytes(frames: Sequence[Frame], *, suffix: str, frames_per_second: float) -> bytes:
    """A looping video, encoded for a file with this suffix.

    Args:
        frames: images of one shape, [height, width, 3].
        suffix: ".gif", ".webp" or ".png".
        frames_per_second: above 0; GIF allows at most 50.

    Raises:
        ValueError: if there is no frame, the suffix is unknown, or the speed is not positive.
    """
    if not frames or frames_per_second <= 0:
        raise ValueError(
            "a video must have a frame and a positive speed, "
            f"got {len(frames)} frames, {frames_per_second} a second"
        )
    if suffix not in _FORMATS:
        raise ValueError(f"suffix must be one of {', '.join(_FORMATS)}, got {suffix!r}")
    images = [Image.fromarray(frame) for frame in frames]
    first, *rest = _with_common_palette(images) if suffix == ".gif" else images
    buffer = io.BytesIO()
    first.save(
        buffer,
        format=_FORMATS[suffix],
        save_all=True,
        append_images=rest,
        duration=max(_MIN_GIF_MS if suffix == ".gif" else 1, round(1000 / frames_per_second)),
        loop=0,
        quality=_QUALITY,
    )
    return buffer.getvalue()


def _with_common_palette(images: Sequence[Image.Image]) -> list[Image.Image]:
    """Images with the same few colors and no dithering, which makes a GIF several times smaller."""
    every = -(-len(images) // _PALETTE_FRAMES)
    sample = Image.fromarray(np.concatenate([np.asarray(image) for image in images[::every]]))
    palette = sample.quantize(_GIF_COLORS, method=Image.Quantize.MEDIANCUT, kmeans=2)
    return [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]


def image_bytes(image: Frame) -> bytes:
    """An image [height, width, 3], encoded as WebP."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="WEBP", quality=_QUALITY)
    return buffer.getvalue()


def write_video(path: Path, frames: Sequence[Frame], *, frames_per_second: float) -> None:
    """Write a video in one step; its suffix, one of `VIDEO_SUFFIXES`, selects the format.

    Raises:
        ValueError: if the suffix is unknown, there is no frame, or the speed is not positive.
        ImportError: for MP4, if imageio-ffmpeg is missing.
    """
    if path.suffix == ".mp4":
        content = _mp4_bytes(frames, frames_per_second)
    else:
        content = video_bytes(frames, suffix=path.suffix, frames_per_second=frames_per_second)
    write_output(path, content)


def _mp4_bytes(frames: Sequence[Frame], frames_per_second: float) -> bytes:
    try:
        imageio_ffmpeg = importlib.import_module("imageio_ffmpeg")  # it has no types
    except ImportError as error:
        raise ImportError(
            "MP4 needs the package imageio-ffmpeg; install it, or choose .gif, .webp or .png"
        ) from error
    height, width, _ = frames[0].shape
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "video.mp4"
        writer = imageio_ffmpeg.write_frames(
            str(file), (width, height), fps=frames_per_second, macro_block_size=2
        )
        writer.send(None)
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
        writer.close()
        return file.read_bytes()


def _caption(text: str, width: int) -> Frame:
    """An image [28, width, 3] with a line of text, in smaller letters if it is long."""
    strip = Image.new("RGB", (width, _CAPTION_HEIGHT), (_BACKGROUND,) * 3)
    draw, file, size = ImageDraw.Draw(strip), findfont("DejaVu Sans"), _CAPTION_SIZE
    font = ImageFont.truetype(file, size)
    while size > _MIN_CAPTION_SIZE and _CAPTION_MARGIN + draw.textlength(text, font=font) > width:
        size -= 1
        font = ImageFont.truetype(file, size)
    middle = _CAPTION_HEIGHT / 2
    draw.text((_CAPTION_MARGIN, middle), text, fill=(_TEXT,) * 3, font=font, anchor="lm")
    return np.asarray(strip)


def _joined(columns: Sequence[Frame]) -> Frame:
    height = columns[0].shape[0]
    gap = np.full((height, _GAP, 3), _BACKGROUND, np.uint8)
    parts = [part for column in columns for part in (gap, column)][1:]
    return np.concatenate(parts, axis=1)
