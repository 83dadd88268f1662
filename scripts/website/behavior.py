"""Images of the behavior of published runs: `python scripts/website/behavior.py [RESULT ...]`.

Each folder of results/ gets behavior.png or behavior.webp, made from its checkpoint: paths, choices
over time or a video for agents, predictions on a test task for few-shot learners. The image's
caption is its alternative text, stored in behavior.txt. Data sets are read from --data-dir.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from matplotlib.figure import Figure
from PIL import Image

from metarl.evaluation.behavior import Choices, Paths, Videos, record_behavior, record_videos
from metarl.evaluation.evaluator import evaluation_tasks
from metarl.evaluation.files import read_evaluations
from metarl.evaluation.results import Evaluation
from metarl.evaluation.video import side_by_side, video_bytes
from metarl.experiments.data_options import data_beside
from metarl.experiments.targets import load_targets
from metarl.fewshot.training import FewShotTraining
from metarl.plots.behavior import choices_figure, paths_figure
from metarl.plots.style import figure_png
from metarl.registry import LEARNER_PREFIX
from metarl.report.words import task_text
from metarl.scripts.command_line import parse, run
from metarl.scripts.website.fewshot_figures import prediction_figure
from metarl.statistics.numbers import number_text
from metarl.storage.checkpoints import read_header

__all__ = [
    "BehaviorConfig",
    "agent_image",
    "learner_image",
    "main",
    "published_runs",
    "write_image",
]

_DPI = 110
_NUM_COLORS = 128
_MAX_FRAMES = 30
_FRAMES_PER_SECOND = 10
_NUM_TASKS = {"path": 4, "choices": 3, "video": 1}
_NUM_EPISODES = {"path": 2, "choices": 20}
CAPTION = "behavior.txt"
SUFFIXES = (".png", ".webp")


@dataclass(frozen=True)
class BehaviorConfig:
    """Write images of the behavior of published runs."""

    results: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Folders of published runs; none: all folders of results/ without an image."""
    data_dir: Path = Path("data")
    """Folder of the data sets of few-shot runs."""


def main(arguments: Sequence[str]) -> None:
    """The script's command line."""
    config = parse(BehaviorConfig, arguments, program="python scripts/website/behavior.py")
    chosen = config.results or [
        folder for folder in published_runs(Path("results")) if not (folder / CAPTION).is_file()
    ]
    for folder in chosen:
        print(f"wrote {write_image(folder, config.data_dir)}", flush=True)


def published_runs(results: Path) -> list[Path]:
    """Folders of published runs: agents first, then few-shot learners, in alphabetical order."""
    folders = [file.parent for file in results.rglob("checkpoint.safetensors")]
    return sorted(folders, key=lambda folder: ("fewshot" in folder.parts, folder))


def write_image(folder: Path, data_dir: Path) -> Path:
    """Write the image of a published run and its caption into its folder.

    Args:
        folder: the run's folder in results/.
        data_dir: folder of the data sets of few-shot runs.

    Returns:
        The file of the image.
    """
    agent = str(read_header(folder / "checkpoint.safetensors")["agent"])
    is_learner = agent.startswith(LEARNER_PREFIX)
    content, suffix, caption = (
        learner_image(folder, data_dir) if is_learner else agent_image(folder)
    )
    for old in SUFFIXES:
        (folder / f"behavior{old}").unlink(missing_ok=True)
    target = folder / f"behavior{suffix}"
    target.write_bytes(content)
    (folder / CAPTION).write_text(caption + "\n", encoding="utf-8")
    return target


def learner_image(folder: Path, data_dir: Path) -> tuple[bytes, str, str]:
    """Predictions of a published few-shot learner: image, suffix and caption."""
    checkpoint = folder / "checkpoint.safetensors"
    header = read_header(checkpoint)
    data = data_beside(checkpoint)._replace(data_dir=data_dir)
    tasks = data.make(str(header["environment"]), torch.device("cpu"))
    name = str(header["agent"]).removeprefix(LEARNER_PREFIX)
    figure, caption = prediction_figure(FewShotTraining.load(checkpoint, name, tasks))
    return _png(figure), ".png", caption


def agent_image(folder: Path) -> tuple[bytes, str, str]:
    """Behavior of a published agent before and after adaptation: image, suffix and caption."""
    targets = load_targets([str(folder)])
    family, (agent,) = targets.family, targets.agents.values()
    protocol = read_evaluations(folder / "evaluation.json", Evaluation)[0].protocol
    kind = family.behavior
    tasks = evaluation_tasks(family, protocol)[: _NUM_TASKS[kind]]
    if kind == "video":
        stages = sorted({0, protocol.adaptation_steps})
        videos = record_videos(
            agent, family, tasks, protocol, stages=stages, max_frames=_MAX_FRAMES
        )
        if videos is None:
            raise ValueError(f"{family.id} must be a family that can be rendered")
        return _video(videos), ".webp", _video_caption(videos)
    recording = record_behavior(agent, family, tasks, protocol, num_episodes=_NUM_EPISODES[kind])
    assert isinstance(recording, Paths | Choices)
    return _png(_figure(recording)), ".png", _caption(recording)


def _png(figure: Figure) -> bytes:
    """A figure as PNG of few colors, half the size of one of all colors."""
    buffer = io.BytesIO()
    image = Image.open(io.BytesIO(figure_png(figure, dpi=_DPI))).convert("RGB")
    image.quantize(_NUM_COLORS, dither=Image.Dither.NONE).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _figure(recording: Paths | Choices) -> Figure:
    return paths_figure(recording) if isinstance(recording, Paths) else choices_figure(recording)


def _caption(recording: Paths | Choices) -> str:
    stages = " and ".join(recording.stages)
    count = len(recording.tasks)
    if isinstance(recording, Paths):
        oracle = "" if recording.oracle is None else " The dashed path is the oracle's."
        return f"Paths on the first {count} test tasks, {stages}, with mean returns.{oracle}"
    return (
        f"Choices on the first {count} test tasks, {stages}: the share of "
        f"{_NUM_EPISODES['choices']} episodes that take each action at each step."
        + ("" if recording.best is None else " A triangle marks the oracle's choice.")
    )


def _video(videos: Videos) -> bytes:
    captions = [
        f"{name}: return {number_text(float(returns[0]))}"
        for name, returns in zip(videos.stages, videos.returns, strict=True)
    ]
    frames = side_by_side([stage[0] for stage in videos.frames], captions)
    return video_bytes(frames, suffix=".webp", frames_per_second=_FRAMES_PER_SECOND)


def _video_caption(videos: Videos) -> str:
    stages = " and ".join(videos.stages)
    task = task_text(videos.tasks[0])
    return f"The first test task, {stages}, one step in {videos.steps_per_frame}; task: {task}."


if __name__ == "__main__":
    run(main)
