"""Figures of few-shot predictions: images with predicted classes, probabilities, or curves.

Images appear only if the license of the data set allows to publish them.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnchoredText
from torch import Tensor

from metarl.fewshot.data.batches import EpisodeShape, FewShotBatch
from metarl.fewshot.datasets.curves import SinusoidTasks
from metarl.fewshot.training import FewShotTraining
from metarl.plots.style import INK, MUTED, PALETTE, figure_style, legend_below, new_figure
from metarl.seeding import torch_generator

__all__ = ["curves_figure", "images_figure", "prediction_figure", "probabilities_figure"]

_SEED = 0
_NUM_CURVES = 4
_NUM_QUERIES = 4  # per class
_MAX_SHOWN_SHOTS = 2
_FREE_IMAGES = ("omniglot", "omniglot-vinyals", "glyphs")
_RIGHT, _WRONG = PALETTE[2], PALETTE[1]


def prediction_figure(training: FewShotTraining) -> tuple[Figure, str]:
    """A figure of test tasks and a learner's predictions on them, and its caption.

    Args:
        training: a trained learner, with its data set.
    """
    generator = torch_generator(_SEED, "gallery", device=training.device)
    config, tasks = training.config, training.tasks
    if tasks.kind == "regression":
        curves = cast(SinusoidTasks, tasks)
        batch = curves.sample_for_test(_NUM_CURVES, config.shots, generator)
        caption = (
            f"{_NUM_CURVES} test tasks: the target (dashed), the {config.shots} support points, "
            "and the prediction after adaptation to these points."
        )
        return curves_figure(batch, _predictions(training, batch)), caption
    shape = EpisodeShape(config.test_shape(training.learner.problem).ways, config.shots, 4)
    batch = tasks.sample(1, shape, split="test", generator=generator)
    predictions = _predictions(training, batch)
    if tasks.name in _FREE_IMAGES:
        caption = (
            f"One {shape.ways}-way {shape.shots}-shot test task: support images on the left, and "
            "queries with a green frame if the predicted class is right, otherwise with an orange "
            "frame and the predicted class."
        )
        return images_figure(batch, predictions, shape), caption
    caption = (
        f"One {shape.ways}-way {shape.shots}-shot test task: the predicted probability of each "
        f"class for {_NUM_QUERIES} queries per class. A dot marks the true class."
    )
    return probabilities_figure(batch, predictions), caption


def _predictions(training: FewShotTraining, batch: FewShotBatch) -> Tensor:
    return training.predict(training.adapt(batch.support), batch.query).detach().cpu()


def curves_figure(batch: FewShotBatch, predictions: Tensor) -> Figure:
    """Targets, support points and predictions of regression tasks, one panel per task.

    Args:
        batch: tasks; the query is a grid of inputs.
        predictions: of the query, [tasks, points, 1].
    """
    num_tasks = len(predictions)
    with figure_style():
        figure = new_figure(rows=-(-num_tasks // 2), columns=2, height=2.0)
        for task, axes in enumerate(figure.axes):
            grid = batch.query.inputs[task, :, 0]
            axes.plot(
                grid, batch.query.targets[task, :, 0], color=INK, linestyle=(0, (2, 2)),
                linewidth=1.2, label="target", zorder=3,
            )  # fmt: skip
            axes.plot(grid, predictions[task, :, 0], color=PALETTE[0], label="prediction")
            axes.plot(
                batch.support.inputs[task, :, 0], batch.support.targets[task, :, 0],
                color=PALETTE[1], marker="o", linestyle="none", label="support", zorder=4,
            )  # fmt: skip
            axes.set_title(f"task {task + 1}", size=9.5)
            axes.grid(axis="y")
        legend_below(figure, figure.axes[0])
    return figure


def images_figure(batch: FewShotBatch, predictions: Tensor, shape: EpisodeShape) -> Figure:
    """Support images and queries of one task, a row per class.

    Args:
        batch: one task, ordered by class; inputs [1, points, channels, height, width].
        predictions: logits of the query, [1, points, ways].
        shape: the shape of the task.
    """
    shots = min(shape.shots, _MAX_SHOWN_SHOTS)
    support = batch.support.inputs[0].unflatten(0, (shape.ways, shape.shots))
    query = batch.query.inputs[0].unflatten(0, (shape.ways, shape.queries))
    predicted = predictions[0].argmax(-1).unflatten(0, (shape.ways, shape.queries))
    low, high = float(batch.support.inputs.min()), float(batch.support.inputs.max())
    with figure_style():
        figure = new_figure(rows=shape.ways, columns=shots + shape.queries, height=0.8)
        panels = np.array(figure.axes).reshape(shape.ways, -1)
        for k in range(shape.ways):
            for column, axes in enumerate(panels[k]):
                is_support = column < shots
                image = support[k, column] if is_support else query[k, column - shots]
                _show_image(axes, image, low, high)
                if not is_support:
                    _frame(axes, int(predicted[k, column - shots]), k)
            panels[k, 0].set_ylabel(f"class {k + 1}", size=9)
        panels[0, 0].set_title("support", size=9.5, loc="left")
        panels[0, shots].set_title("queries", size=9.5, loc="left")
    return figure


def _show_image(axes: Axes, image: Tensor, low: float, high: float) -> None:
    """Show one image [channels, height, width]; values are scaled to [0, 1]."""
    shown = ((image - low) / max(high - low, 1e-6)).clamp(0, 1).permute(1, 2, 0).cpu().numpy()
    if shown.shape[-1] == 1:
        axes.imshow(shown[..., 0], cmap="gray_r", vmin=0, vmax=1)
    else:
        axes.imshow(shown)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)


def _frame(axes: Axes, predicted: int, target: int) -> None:
    """Mark a query as right, or as wrong with the predicted class."""
    is_right = predicted == target
    for spine in axes.spines.values():
        spine.set_color(_RIGHT if is_right else _WRONG)
        spine.set_linewidth(2.2)
    if not is_right:
        font = {"color": "#ffffff", "size": 8.5, "weight": "bold"}
        text = AnchoredText(
            f"{predicted + 1}", loc="upper right", pad=0.15, borderpad=0.1, prop=font
        )
        text.patch.set(facecolor=_WRONG, edgecolor=_WRONG)
        axes.add_artist(text)


def probabilities_figure(batch: FewShotBatch, predictions: Tensor) -> Figure:
    """Predicted probabilities of one task, a row per class and a column per query.

    Args:
        batch: one task, ordered by class.
        predictions: logits of the query, [1, points, ways].
    """
    probabilities = predictions[0].softmax(-1).T.numpy()
    ways, points = probabilities.shape
    with figure_style():
        figure = new_figure(height=0.9 + 0.35 * ways)
        (axes,) = figure.axes
        image = axes.imshow(
            probabilities, vmin=0, vmax=1, cmap="cividis", aspect="auto", interpolation="nearest"
        )
        targets = batch.query.targets[0].cpu().numpy()
        axes.plot(
            np.arange(points), targets, color="#ffffff", marker="o", markersize=5,
            markeredgecolor=MUTED, linestyle="none",
        )  # fmt: skip
        axes.set_xticks([])
        axes.set_yticks(range(ways), labels=[f"class {k + 1}" for k in range(ways)])
        axes.set_xlabel("queries, ordered by their true class")
        figure.colorbar(image, ax=axes, label="probability", pad=0.02)
    return figure
