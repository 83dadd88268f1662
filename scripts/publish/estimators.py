"""Measure all meta-gradient estimators and write the tables of docs/concepts/estimators.md.

    python scripts/publish/estimators.py

Takes about two minutes on one core. The page's text stays; the tables between its two markers are
replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from metarl.estimators.laboratory import Credit, Measurement
from metarl.estimators.study import (
    Problem,
    Row,
    compare,
    median_derivative_errors,
    random_problems,
)
from metarl.scripts.command_line import parse, run
from metarl.storage.files import write_output
from metarl.validation import Count, Seed, Settings

__all__ = ["EstimatorsConfig", "main", "page_with_tables", "tables"]

_BEGIN, _END = "<!-- estimators: begin -->", "<!-- estimators: end -->"
_INNER_LR, _LARGE_INNER_LR = 0.5, 2.0
_NUM_TASKS = 40
_NOISES = (0.0, 0.3, 0.8)

_ROWS = {
    "`first_order`": Row("first_order"),
    "`log_prob`": Row("log_prob"),
    "`lvc`": Row("lvc"),
    "`dice` (no baseline)": Row("dice", has_baseline=False),
    "`loaded_dice` = `taypo2` = `dr` = `tmaml_fixed`": Row("loaded_dice"),
    "`tmaml`": Row("tmaml"),
    "exact Hessian, sampled step": Row(None),
    "`log_prob` + credit": Row("log_prob", credit=Credit()),
    "`lvc` + credit": Row("lvc", credit=Credit()),
    "`loaded_dice` + credit": Row("loaded_dice", credit=Credit()),
}
_FAULTS = {
    "`log_prob` + credit without baseline": Row("log_prob", credit=Credit(has_baseline=False)),
    "`log_prob` + α · credit": Row("log_prob", credit=Credit(_INNER_LR)),
    "`log_prob` + credit as a mean over steps": Row("log_prob", credit=Credit(1 / (20 * 3))),
    "`log_prob` without baseline": Row("log_prob", has_baseline=False),
    "`lvc` without baseline": Row("lvc", has_baseline=False),
}


@dataclass(frozen=True)
class EstimatorsConfig(Settings):
    """Measure the bias and the variance of meta-gradient estimators exactly."""

    page: Path = Path("docs/concepts/estimators.md")
    """The page whose tables are replaced."""
    num_mdps: Count = 30
    """Random MDPs; the tables hold medians."""
    num_sets: Count = 3000
    """Sampled support sets per MDP, for support sets of more than two episodes."""
    seed: Seed = 0
    """Seed of MDPs, policies and support sets."""


def main(arguments: Sequence[str]) -> None:
    """The script's command line."""
    config = parse(EstimatorsConfig, arguments, program="python scripts/publish/estimators.py")
    page = config.page.read_text(encoding="utf-8")
    write_output(config.page, page_with_tables(page, tables(config)).encode())
    print(config.page)


def tables(config: EstimatorsConfig) -> str:
    """The tables in Markdown."""
    generator = torch.Generator().manual_seed(config.seed)
    problems = random_problems(config.num_mdps, generator)

    def measured(rows: dict[str, Row], size: int, inner_lr: float = _INNER_LR) -> list[Measurement]:
        return compare(
            list(rows.values()),
            problems,
            inner_lr=inner_lr,
            num_episodes=size,
            num_sets=config.num_sets,
            generator=generator,
        )

    parts = [
        f"Medians over {config.num_mdps} random MDPs with three states, two actions and three steps"
        f"; r ~ N(1, 1), P ~ Dirichlet(1), θ ~ N(0, 1), γ = 1, α = {_INNER_LR:g} and the exact "
        "values of the policy as baseline, unless a row says otherwise. All numbers are relative "
        f"to ‖∇J_I‖. Support sets of 1 and 2 episodes are enumerated; of 20 episodes, "
        f"{config.num_sets:,} are sampled per MDP, which adds a standard deviation / "
        f"√{config.num_sets:,} to each bias.",
        *(_table(_ROWS, measured(_ROWS, size), size) for size in (20, 2, 1)),
        "Common faults, 20 episodes:",
        _table(_FAULTS, measured(_FAULTS, 20), 20),
        f"A large step, α = {_LARGE_INNER_LR:g}, 20 episodes:",
        _table(_ROWS, measured(_ROWS, 20, _LARGE_INNER_LR), 20),
        "Derivatives of one surrogate if another policy, with logits θ + noise, acted:",
        _off_policy_table(problems, generator),
    ]
    return "\n\n".join(parts)


def page_with_tables(page: str, content: str) -> str:
    """A Markdown page with new content between its two markers.

    Raises:
        ValueError: if the page lacks a marker.
    """
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"the page must hold the markers {_BEGIN} and {_END}, in this order")
    return f"{before}{begin}\n{content}\n{end}{after}"


def _table(rows: dict[str, Row], found: Sequence[Measurement], size: int) -> str:
    gap = next(
        one.gap_of_objectives
        for one, row in zip(found, rows.values(), strict=True)
        if row.has_baseline
    )
    episodes = "1 episode" if size == 1 else f"{size} episodes"
    lines = [
        f"| {episodes}; ‖∇J_I − ∇J_II‖ = {gap:.3f} | bias to ∇J_I | bias to ∇J_II "
        f"| std, one task | error to ∇J_I, {_NUM_TASKS} tasks |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, one in zip(rows, found, strict=True):
        numbers = (
            one.bias_exact_step, one.bias_sampled_step, one.std, one.relative_error(_NUM_TASKS)
        )  # fmt: skip
        lines.append(f"| {name} | " + " | ".join(f"{number:.3f}" for number in numbers) + " |")
    return "\n".join(lines)


def _off_policy_table(problems: Sequence[Problem], generator: torch.Generator) -> str:
    lines = [
        "| estimator, standard deviation of the noise | bias of the gradient "
        "| bias of the Hessian | std of the Hessian, one episode |",
        "|---|---:|---:|---:|",
    ]
    for scale in _NOISES:
        noises = [
            scale * torch.randn(3, 2, generator=generator, dtype=torch.float64) for _ in problems
        ]
        for name in ("lvc", "taypo2", "dr"):
            found = median_derivative_errors(name, problems, noises)
            lines.append(
                f"| `{name}`, {scale:g} | {found.gradient_bias:.3f} | {found.hessian_bias:.3f} "
                f"| {found.hessian_std:.1f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
