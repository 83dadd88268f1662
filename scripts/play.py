"""Show an agent on one task, as a video: `metarl play RUN --out clip.gif`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from annotated_types import Interval

from metarl.console import plain_console
from metarl.devices import DeviceName, resolve_device
from metarl.evaluation.behavior import Videos, record_videos
from metarl.evaluation.evaluator import evaluation_tasks
from metarl.evaluation.protocol import EvaluationProtocol, preset, without_adaptation
from metarl.evaluation.video import VIDEO_SUFFIXES, resized, side_by_side, write_video
from metarl.experiments.settings import SB3Options
from metarl.experiments.targets import Targets, load_targets
from metarl.progress import Activity, Progress, ignore_progress
from metarl.report.words import task_text
from metarl.rl.players import can_adapt
from metarl.scripts.command_line import parse, run
from metarl.statistics.numbers import number_text
from metarl.storage.files import require_output_file
from metarl.tasks.family import TaskFamily
from metarl.tasks.spaces import Tasks, space_bounds
from metarl.validation import Count, NumSteps, Seed, WholeNumber

__all__ = ["PlayConfig", "main", "play"]


@dataclass(frozen=True)
class PlayConfig(SB3Options):
    """Show an agent on one task before and after it adapts, side by side, or at one stage."""

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a run, or another target of metarl evaluate."""
    out: Path
    """File of the video, .gif, .webp, .png or .mp4; it is replaced if it exists."""
    task: Annotated[
        tuple[float, ...],
        tyro.conf.arg(
            metavar="NUMBER ...", help_behavior_hint="(default: chosen by split and index)"
        ),
    ] = ()
    """Parameters of the task to show, such as the goal."""
    split: str = "test"
    """Split of the task, if its parameters are not given."""
    index: WholeNumber = 0
    """Index of the task among those that metarl evaluate uses, from 0."""
    stage: NumSteps | None = None
    """Number of adaptation steps before the episode that is shown. None: two episodes side by side,
    before adaptation and after all steps."""
    preset: str | None = None
    """Protocol of the adaptation, as for metarl evaluate: maml, pearl, rl2, varibad or metaworld.
    None: maml; for agents with a memory, rl2 with as many episodes as in training."""
    episodes: Count | None = None
    """Episodes of data for each adaptation step. None: the number of the protocol."""
    seed: Seed = 0
    """Seed of tasks, initial states and actions."""
    frames: Count = 200
    """Maximum number of frames; of longer episodes, only some steps are shown."""
    width: Annotated[int, Interval(ge=32, le=4096)] | None = None
    """Width of each image in pixels. None: the width that the environment renders."""
    frames_per_second: Annotated[float, Interval(gt=0, le=1000)] = 20.0
    """Frames per second; GIF allows at most 50."""
    env: Annotated[str | None, tyro.conf.arg(metavar="FAMILY:VARIANT")] = None
    """Task family and its variant. None: the one of the run; needed for other targets."""
    device: DeviceName = "auto"
    """Device of the agent."""

    def check_consistency(self) -> None:
        """Reject an unknown preset and a file that cannot be written to."""
        super().check_consistency()
        if self.preset is not None:
            preset(self.preset)
        require_output_file("out", self.out)
        if self.out.suffix not in VIDEO_SUFFIXES:
            raise ValueError(f"out must end in {', '.join(VIDEO_SUFFIXES)}, got {self.out}")


def main(arguments: Sequence[str]) -> None:
    """The command `metarl play`."""
    config = parse(PlayConfig, arguments, program="metarl play")
    console = plain_console()
    with Activity("loading the agent", console) as activity:
        videos = play(config, progress=activity)
    console.print(f"wrote {config.out}: task {_summary(videos)}", soft_wrap=True)


def play(config: PlayConfig, *, progress: Progress = ignore_progress) -> Videos:
    """Write the video of one task.

    Args:
        config: the agent, the task and the video.
        progress: called before each part of the work.

    Returns:
        The frames and returns that it shows.

    Raises:
        ValueError: if the target cannot be used, there is no such task or stage, or the family
            cannot be rendered.
        ImportError: for MP4, if a package is missing.
    """
    device = resolve_device(config.device)
    targets = load_targets([config.target], env=config.env, sb3=config, device=device)
    family, protocol = targets.family, _protocol(config, targets)
    agent = next(iter(targets.agents.values()))
    if not can_adapt(agent):
        protocol = without_adaptation(protocol)
    last = protocol.adaptation_steps
    stages = sorted({0, last}) if config.stage is None else [config.stage]
    progress(f"playing and rendering episodes of {family.id}")
    videos = record_videos(
        agent,
        family,
        _task(config, family, protocol),
        protocol,
        stages=stages,
        max_frames=config.frames,
        device=device,
    )
    if videos is None:
        raise ValueError(f"{family.id} cannot render images; use metarl report instead")
    clips = [stage[0] for stage in videos.frames]
    if config.width is not None:
        clips = [resized(clip, config.width) for clip in clips]
    frames = side_by_side(clips, _captions(videos))
    progress(f"writing {config.out}")
    write_video(config.out, frames, frames_per_second=config.frames_per_second)
    return videos


def _protocol(config: PlayConfig, targets: Targets) -> EvaluationProtocol:
    """The preset's protocol with the given options."""
    chosen = targets.protocol if config.preset is None else preset(config.preset)
    chosen = replace(chosen, split=config.split, seed=config.seed)
    last = chosen.adaptation_steps
    if config.stage is not None and config.stage > last:
        how = "" if config.preset is None else f" with preset {config.preset}"
        raise ValueError(f"stage must be 0 to {last}{how}, got {config.stage}")
    if config.episodes is None:
        return chosen
    shared = chosen.evaluation_episodes == chosen.exploration_episodes
    measured = config.episodes if shared else chosen.evaluation_episodes
    return replace(chosen, exploration_episodes=config.episodes, evaluation_episodes=measured)


def _task(config: PlayConfig, family: TaskFamily, protocol: EvaluationProtocol) -> Tasks:
    """The task to show, shape [1, D]."""
    if config.task:
        size = len(space_bounds(family.task_space)[0])
        if len(config.task) != size:
            raise ValueError(
                f"task must be {size} numbers ({family.task_description}), got {len(config.task)}"
            )
        return family.check_tasks(np.array([config.task]))
    many = replace(protocol, num_tasks=max(protocol.num_tasks, config.index + 1))
    return evaluation_tasks(family, many)[config.index : config.index + 1]


def _captions(videos: Videos) -> list[str]:
    return [
        f"{name}: return {number_text(float(returns[0]))}"
        for name, returns in zip(videos.stages, videos.returns, strict=True)
    ]


def _summary(videos: Videos) -> str:
    return f"{task_text(videos.tasks[0])}; {'; '.join(_captions(videos))}"


if __name__ == "__main__":
    run(main)
