"""The tables of the page about estimators: generated, complete, and current in their claims."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from metarl.estimators.catalog import ESTIMATORS
from metarl.scripts.publish.estimators import EstimatorsConfig, main, page_with_tables, tables

PAGE = Path(__file__).parents[3] / "docs" / "concepts" / "estimators.md"


def rows(text: str) -> dict[str, list[float]]:
    """Numbers of the first row with each name."""
    found: dict[str, list[float]] = {}
    for name, numbers in re.findall(r"^\| ([^|]+) \|((?: -?[\d.]+ \|)+)$", text, re.MULTILINE):
        found.setdefault(name, [float(n) for n in numbers.split("|") if n.strip()])
    return found


def test_the_command_replaces_the_tables_and_keeps_the_text(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- estimators: begin -->\nold\n<!-- estimators: end -->\nafter\n")
    main(["--page", str(page), "--num-mdps", "2", "--num-sets", "20"])
    text = page.read_text()
    assert text.startswith("before\n<!-- estimators: begin -->\nMedians over 2 random MDPs")
    assert text.endswith("<!-- estimators: end -->\nafter\n")
    assert "old" not in text
    assert str(page) in capsys.readouterr().out
    assert rows(text).keys() == rows(PAGE.read_text(encoding="utf-8")).keys()


def test_a_page_without_markers_is_rejected():
    with pytest.raises(ValueError, match="the page must hold the markers"):
        page_with_tables("text", "tables")


def test_the_seed_decides_the_numbers():
    few = EstimatorsConfig(num_mdps=1, num_sets=5)
    assert tables(few) == tables(few)
    assert tables(few) != tables(EstimatorsConfig(num_mdps=1, num_sets=5, seed=1))


def test_the_page_names_every_estimator():
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in text for name in ESTIMATORS)


def test_the_stored_numbers_support_the_advice_of_the_page():
    found = rows(PAGE.read_text(encoding="utf-8"))
    exact, lvc = found["exact Hessian, sampled step"][0], found["`lvc`"][0]
    loaded = found["`loaded_dice` = `taypo2` = `dr` = `tmaml_fixed`"][0]
    assert exact <= loaded < lvc < 0.5 * found["`log_prob`"][0]
    assert found["`log_prob` without baseline"][0] > 2 * found["`first_order`"][0]
    assert found["`tmaml`"][0] > 3 * found["`first_order`"][0]
    assert found["`lvc` + credit"][0] > 2 * lvc
