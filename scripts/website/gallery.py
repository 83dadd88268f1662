"""The gallery: for each published run its curve, behavior, command, checkpoint and evaluation."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from metarl.evaluation.fewshot_results import MeasuredRuns
from metarl.evaluation.files import read_evaluations
from metarl.evaluation.results import Evaluation
from metarl.registry import LEARNER_PREFIX
from metarl.report.page import slug
from metarl.scripts.publish.agents import estimate_text, own_scores
from metarl.scripts.publish.fewshot import scores_text, table_order, tested_on
from metarl.scripts.website.behavior import CAPTION, SUFFIXES, published_runs
from metarl.storage.files import read_json_object

__all__ = ["PublishedRun", "gallery_pages", "run_links", "runs_of"]

_INDEX = "gallery/index.md"
_PAGES = {
    "navigation": ("Navigation and grids", ("Navigation2D", "GridNavigation", "DarkRoom")),
    "locomotion": ("Locomotion", ("HalfCheetahVel", "HalfCheetahDir")),
    "bandits": ("Bandits", ("Bandit", "DependentBandit", "ElevenArmBandit")),
    "mdps": ("Tabular MDPs", ("TabularMDP",)),
    "omniglot": ("Omniglot", ("omniglot", "omniglot-vinyals")),
    "mini_imagenet": ("mini-ImageNet", ("mini-imagenet",)),
    "sinusoids": ("Sinusoids", ("sinusoid",)),
    "intents": ("Intents of sentences", ("clinc150",)),
    "molecules": ("Molecules", ("tox21",)),
}
"""Pages by file name: title, and the families or data sets that they show."""


class PublishedRun(NamedTuple):
    """A folder of results/."""

    folder: Path
    config: dict[str, Any]
    """Its config.json."""

    @property
    def is_learner(self) -> bool:
        """Whether it is a few-shot run."""
        return str(self.config["agent"]).startswith(LEARNER_PREFIX)

    @property
    def environment(self) -> str:
        """Name of the family or data set, without the variant."""
        return str(self.config["environment"]).partition(":")[0]

    @property
    def title(self) -> str:
        """Environment and name of the folder."""
        return f"{self.config['environment']}, {self.folder.name}"

    @property
    def page(self) -> str:
        """The page of the gallery that shows the run."""
        for name, (_, environments) in _PAGES.items():
            if self.environment in environments:
                return f"gallery/{name}.md"
        raise ValueError(f"{self.environment} must be listed in scripts/website/gallery.py")

    @property
    def image(self) -> Path:
        """The image of its behavior."""
        for suffix in SUFFIXES:
            if (self.folder / f"behavior{suffix}").is_file():
                return self.folder / f"behavior{suffix}"
        raise ValueError(
            f"{self.folder} must have an image of its behavior; write it with "
            f"python scripts/website/behavior.py {self.folder}"
        )

    @property
    def caption(self) -> str:
        """The caption of the image."""
        return (self.folder / CAPTION).read_text(encoding="utf-8").strip()


def runs_of(results: Path) -> list[PublishedRun]:
    """All published runs, in the order of the gallery's pages."""
    runs = [PublishedRun(f, read_json_object(f / "config.json")) for f in published_runs(results)]
    environments = [one for _, listed in _PAGES.values() for one in listed]
    return sorted(runs, key=lambda run: (run.page, environments.index(run.environment)))


def run_links(root: Path) -> dict[str, str]:
    """The section of the gallery for each folder of a published run.

    Args:
        root: the repository.
    """
    return {
        run.folder.relative_to(root).as_posix(): f"{run.page}#{slug(run.title)}"
        for run in runs_of(root / "results")
    }


def gallery_pages(root: Path) -> dict[str, str]:
    """The Markdown text of each page of the gallery by its file.

    Args:
        root: the repository.
    """
    runs = runs_of(root / "results")
    pages = {_INDEX: _index(runs, root)}
    for name, (title, _) in _PAGES.items():
        file = f"gallery/{name}.md"
        shown = [run for run in runs if run.page == file]
        lines = [f"# {title}", ""]
        for run in shown:
            lines += _section(run, root)
        pages[file] = "\n".join(lines) + "\n"
    return pages


def _index(runs: Sequence[PublishedRun], root: Path) -> str:
    lines = [
        "# Gallery",
        "",
        "Every published run with its learning curve, its behavior, the command that trained it, "
        "its checkpoint and its evaluation. The table of all numbers is in "
        "[Results](../../results/README.md).",
        "",
    ]
    for name, (title, _) in _PAGES.items():
        lines += [f"## {title}", "", '<div class="gallery-cards" markdown>', ""]
        for run in runs:
            if run.page == f"gallery/{name}.md":
                text = f"Behavior of {run.title}"
                image = f"![{text}]({_path(run.image, root)}){{ loading=lazy }}"
                section = f"{name}.md#{slug(run.title)}"
                lines += [f"[{image}<span>{run.title}</span>]({section})", ""]
        lines += ["</div>", ""]
    return "\n".join(lines)


def _section(run: PublishedRun, root: Path) -> list[str]:
    folder = run.folder.relative_to(root).as_posix()
    text = (run.folder / "README.md").read_text(encoding="utf-8").strip()
    command, _, provenance = text.removeprefix("`").removesuffix(")").partition("` (")
    files = [
        f"[checkpoint]({_path(run.folder / 'checkpoint.safetensors', root)})",
        f"[configuration]({_path(run.folder / 'config.json', root)})",
        f"[metrics]({_path(run.folder / 'metrics.jsonl', root)})",
        *(
            f"[{file.stem}]({_path(file, root)})"
            for file in sorted(run.folder.glob("evaluation*.json"))
        ),
    ]
    return [
        f"## {run.title} {{ #{slug(run.title)} }}",
        "",
        '<div class="gallery-images" markdown>',
        "",
        *_figure(
            run.folder / "curve.png", f"Learning curve of {run.title}", "Learning curve", root
        ),
        *_figure(run.image, f"Behavior of {run.title}", run.caption, root),
        "</div>",
        "",
        *(_fewshot_results(run) if run.is_learner else _agent_results(run)),
        "",
        f"Trained by this command ({provenance}):",
        "",
        "```bash",
        command,
        "```",
        "",
        f"Files: {', '.join(files)}. To use the checkpoint:",
        "",
        "```python",
        "import metarl",
        "",
        f'agent = metarl.load("{folder}")',
        "```",
        "",
    ]


def _figure(image: Path, text: str, caption: str, root: Path) -> list[str]:
    """An image with its caption, in Markdown."""
    return [
        "<figure markdown>",
        f"![{text}]({_path(image, root)}){{ loading=lazy }}",
        f"<figcaption>{html.escape(caption)}</figcaption>",
        "</figure>",
        "",
    ]


def _agent_results(run: PublishedRun) -> list[str]:
    lines = []
    for evaluation in read_evaluations(run.folder / "evaluation.json", Evaluation):
        count = evaluation.tasks_in_words
        lines += [
            f"| {count} × runs: {len(evaluation.runs)} | return [95 % interval] |",
            "|---|---|",
        ]
        rows = [(name, evaluation.estimate(scores)) for name, scores in own_scores(evaluation)]
        for name, at in (("random", 0), ("oracle", len(rows) + 1)):
            if name in evaluation.references:
                rows.insert(at, (name, evaluation.estimate(evaluation.reference(name))))
        lines += [*(f"| {name} | {estimate_text(estimate)} |" for name, estimate in rows), ""]
    return lines[:-1]


def _fewshot_results(run: PublishedRun) -> list[str]:
    settings = run.config["agent_config"]
    measured = list(_measured(run.folder))
    quantity = "mean squared error" if measured[0].first.metric == "mse" else "accuracy, percent"
    rows = [
        f"| {tested_on(one)} ({one.protocol['num_tasks']} {one.protocol['split']} tasks, "
        f"runs: {len(one.runs)}) | {scores_text(one, settings)} |"
        for one in measured
    ]
    return [f"| tested on | {quantity} ± half of the 95 % interval |", "|---|---|", *rows]


def _measured(folder: Path) -> Iterator[MeasuredRuns]:
    found = [read_evaluations(file, MeasuredRuns) for file in folder.glob("evaluation-*.json")]
    yield from sorted((one for stored in found for one in stored), key=table_order)


def _path(file: Path, root: Path) -> str:
    """A link from a page in docs/gallery/ to a file of the repository."""
    return f"../../{file.relative_to(root).as_posix()}"
