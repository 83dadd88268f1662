"""Figures and videos of how agents act: paths, choices or videos, depending on the family."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from metarl.devices import DeviceName, resolve_device
from metarl.evaluation.behavior import Choices, Paths, Recording, Videos, record_behavior
from metarl.evaluation.results import Evaluation
from metarl.evaluation.video import image_bytes, side_by_side, still_image, video_bytes
from metarl.experiments.targets import load_targets
from metarl.plots.behavior import best_choice_figure, choices_figure, paths_figure
from metarl.plots.style import figure_svg
from metarl.progress import Progress, ignore_progress
from metarl.report import words
from metarl.report.page import Block, Figure, Figures, Heading, Paragraph, Video
from metarl.report.runs import RunGroup
from metarl.statistics.numbers import number_text

__all__ = ["behavior_blocks"]

_FRAMES_PER_SECOND = 10
_NUM_TASKS = {"path": 4, "choices": 40, "video": 2}
_NUM_EPISODES = {"path": 2, "choices": 20, "video": 1}


def behavior_blocks(
    agents: Sequence[RunGroup[Evaluation]],
    *,
    device: DeviceName,
    progress: Progress = ignore_progress,
) -> list[Block]:
    """The behavior of the first run of each agent before and after adaptation."""
    blocks: list[Block] = []
    for done, group in enumerate(agents):
        progress(f"recording the behavior of {group.name} in {group.domain}", done, len(agents))
        if len(agents) > 1:
            blocks.append(Heading(4, group.name))
        blocks.append(_agent_behavior(group, device))
    return blocks


def _agent_behavior(group: RunGroup[Evaluation], device: DeviceName) -> Block:
    run, evaluation = group.runs[0], group.results[0]
    chosen = resolve_device(device)
    try:
        targets = load_targets([run.path], device=chosen)
        (agent,), family = targets.agents.values(), targets.family
        shown = record_behavior(
            agent,
            family,
            evaluation.tasks[0, : _NUM_TASKS[family.behavior]],
            evaluation.protocol,
            num_episodes=_NUM_EPISODES[family.behavior],
            device=chosen,
        )
    except (ValueError, RuntimeError) as error:  # no checkpoint, or no renderer
        return Paragraph(f"Behavior is not shown: {error}.")
    if shown is None:
        return Paragraph(f"Behavior is not shown: {family.id} cannot be rendered.")
    split = evaluation.protocol.split
    about = f"Run {run.path} on the first {len(shown.tasks)} {split} tasks"
    return Figures(list(_figures(shown, about)))


def _figures(shown: Recording, about: str) -> Iterator[Figure | Video]:
    if isinstance(shown, Paths):
        yield _paths(shown, about)
    elif isinstance(shown, Choices):
        yield from _choices(shown, about)
    else:
        yield from (_video(shown, task, about) for task in range(len(shown.tasks)))


def _paths(paths: Paths, about: str) -> Figure:
    oracle = "" if paths.oracle is None else "; a star is the end of the oracle's path"
    caption = (
        f"{about}: up to {paths.returns.shape[2]} episodes each, and their mean return before and "
        f"after adaptation. A dot is a start{oracle}."
    )
    return Figure(figure_svg(paths_figure(paths)), alt=words.paths_text(paths), caption=caption)


def _choices(choices: Choices, about: str) -> Iterator[Figure]:
    _, num_tasks, num_episodes, _ = choices.chosen.shape
    text = words.choices_text(choices)
    if choices.best is not None:
        caption = f"{about}, {num_episodes} episodes each: agreement with the oracle."
        yield Figure(figure_svg(best_choice_figure(choices)), alt=text, caption=caption)
    mark = "" if choices.best is None else " A triangle marks the oracle's choice."
    caption = f"Choices on the first {min(4, num_tasks)} of these tasks, over the episode.{mark}"
    yield Figure(figure_svg(choices_figure(choices)), alt=text, caption=caption)


def _video(videos: Videos, task: int, about: str) -> Video:
    captions = [
        f"{name}: return {number_text(float(returns[task]))}"
        for name, returns in zip(videos.stages, videos.returns, strict=True)
    ]
    frames = side_by_side([stage[task] for stage in videos.frames], captions)
    moving = video_bytes(frames, suffix=".webp", frames_per_second=_FRAMES_PER_SECOND)
    every = videos.steps_per_frame
    steps = "every step" if every == 1 else f"one step in {every}"
    caption = (
        f"{about}, task {task + 1}: {words.task_text(videos.tasks[task])}. {steps.capitalize()}, "
        f"{_FRAMES_PER_SECOND} frames per second."
    )
    still = image_bytes(still_image(frames))
    return Video(moving, still, alt=words.video_text(videos, task), caption=caption)
