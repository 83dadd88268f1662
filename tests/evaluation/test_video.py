"""Videos: frames side by side, and files that hold them."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from metarl.evaluation.video import (
    image_bytes,
    resized,
    side_by_side,
    still_image,
    video_bytes,
    write_video,
)


def video(length: int, *, height: int = 20, width: int = 30) -> list[np.ndarray]:
    """Frame k is all of brightness 40 k."""
    return [np.full((height, width, 3), 40 * k, np.uint8) for k in range(length)]


def test_videos_are_side_by_side_and_the_shorter_repeats_its_last_frame():
    frames = side_by_side([video(2), video(4)], ["left", "right"])
    assert len(frames) == 4
    assert {frame.shape for frame in frames} == {(28 + 20, 30 + 8 + 30, 3)}
    for k, frame in enumerate(frames):
        assert (frame[28:, :30] == 40 * min(k, 1)).all()
        assert (frame[28:, 30:38] == 255).all()
        assert (frame[28:, 38:] == 40 * k).all()


def test_captions_are_written_above_each():
    named, unnamed = (side_by_side([video(1)], [text])[0] for text in ("before", ""))
    assert (unnamed[:28] == 255).all()
    assert (named[:28] < 128).any()
    np.testing.assert_array_equal(named[28:], unnamed[28:])


def test_a_long_caption_gets_smaller_letters_instead_of_being_cut_off():
    text = "after 3 steps: return −114"
    (long,) = side_by_side([video(1, width=160)], [text])
    (cut,) = side_by_side([video(1, width=160)], [text + " and more"])
    ink = long[:28].min(axis=(0, 2)) < 128
    assert ink[:156].any()
    assert not ink[157:].any()  # the last letters lie inside
    assert (long[:28] != cut[:28]).any()


def test_frames_are_resized_in_proportion():
    (frame,) = resized(video(3, height=20, width=30)[2:], 15)
    assert frame.shape == (10, 15, 3)
    assert (frame == 80).all()
    with pytest.raises(ValueError, match="width must be 1 or more, got 0"):
        resized(video(1), 0)


def test_a_gif_has_few_colors_and_keeps_those_of_small_marks():
    rng = np.random.default_rng(0)
    frames = [rng.integers(100, 130, (60, 80, 3)).astype(np.uint8) for _ in range(3)]
    for k, frame in enumerate(frames):
        frame[20:30, 10 * k : 10 * k + 10] = (214, 39, 40)
    content = video_bytes(frames, suffix=".gif", frames_per_second=10)
    with Image.open(io.BytesIO(content)) as image:
        for k in range(3):
            image.seek(k)
            shown = np.asarray(image.convert("RGB"))
            assert len(np.unique(shown.reshape(-1, 3), axis=0)) <= 64
            assert np.abs(shown[25, 10 * k + 5].astype(int) - (214, 39, 40)).max() < 20


@pytest.mark.parametrize(("videos", "captions"), [([], []), ([[]], ["a"]), ([video(1)], [])])
def test_videos_without_frames_or_captions_are_rejected(videos, captions):
    with pytest.raises(
        ValueError, match="videos must be one or more, each with frames and a caption"
    ):
        side_by_side(videos, captions)


def test_a_strip_holds_frames_from_the_first_to_the_last():
    strip = still_image(video(7), num_frames=3)
    assert strip.shape == (60, 30, 3)
    assert [int(strip[20 * k, 0, 0]) for k in range(3)] == [0, 120, 240]
    assert still_image(video(2), num_frames=5).shape == (40, 30, 3)
    with pytest.raises(ValueError, match="number of frames must be 1 or more, got 0"):
        still_image([])


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_a_video_reads_back_with_all_its_frames_and_loops(suffix):
    content = video_bytes(video(5), suffix=suffix, frames_per_second=10)
    with Image.open(io.BytesIO(content)) as image:
        assert image.n_frames == 5
        assert image.info["loop"] == 0
        for k in range(5):
            image.seek(k)
            image.load()
            assert image.info["duration"] == 100
            brightness = np.asarray(image.convert("RGB")).mean()
            assert brightness == pytest.approx(40 * k, abs=3)


@pytest.mark.parametrize(("suffix", "speed", "duration"), [(".gif", 500, 20), (".webp", 500, 2)])
def test_a_gif_is_no_faster_than_players_play_it(suffix, speed, duration):
    content = video_bytes(video(2), suffix=suffix, frames_per_second=speed)
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        assert image.info["duration"] == duration


def test_an_image_reads_back():
    with Image.open(io.BytesIO(image_bytes(video(3)[2]))) as image:
        assert (image.format, image.size) == ("WEBP", (30, 20))


def test_an_empty_video_or_an_unknown_suffix_is_rejected():
    with pytest.raises(ValueError, match="a video must have a frame and a positive speed, got 0"):
        video_bytes([], suffix=".gif", frames_per_second=10)
    with pytest.raises(ValueError, match=r"suffix must be one of .gif, .webp, .png, got '.avi'"):
        video_bytes(video(1), suffix=".avi", frames_per_second=10)


def test_the_suffix_selects_the_format(tmp_path):
    write_video(tmp_path / "video.gif", video(3), frames_per_second=5)
    assert (tmp_path / "video.gif").read_bytes().startswith(b"GIF89a")


def test_mp4_is_written_where_its_package_is_installed(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    write_video(tmp_path / "video.mp4", video(5, height=48, width=64), frames_per_second=5)
    assert (tmp_path / "video.mp4").read_bytes()[4:8] == b"ftyp"


def test_without_its_package_mp4_names_the_missing_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ImportError, match="MP4 needs the package imageio-ffmpeg; install it, or"):
        write_video(tmp_path / "video.mp4", video(1), frames_per_second=5)
