"""The pages about speed and about reference algorithms hold every stored number."""

import json

from page_blocks import ROOT

from metarl.scripts.website.speed import references_page, speed_page

RESULTS = ROOT / "results"


def test_every_comparison_is_shown():
    page = speed_page(RESULTS)
    for row in json.loads((RESULTS / "benchmark.json").read_text(encoding="utf-8")):
        assert f"| {row['title']} | {row['ratio']:.2f}× |" in page
    for file in RESULTS.glob("benchmark_*.txt"):
        lines = file.read_text(encoding="utf-8").splitlines()
        titles = [line.partition(": ")[0] for line in lines if "peak memory" in line]
        assert titles
        assert [title for title in titles if f"| {title} |" not in page] == []


def test_all_rows_of_a_table_have_the_cells_of_its_header():
    for page in (speed_page(RESULTS), references_page(RESULTS)):
        width = 0
        for line in page.splitlines():
            width = (width or line.count("|")) if line.startswith("|") else 0
            assert line.count("|") == width, line


def test_the_line_of_a_case_becomes_a_row(tmp_path):
    (tmp_path / "benchmark.json").write_text("[]")
    (tmp_path / "benchmark_trials.txt").write_text(
        "python scripts/benchmark.py rl2 (two cores)\n"
        "RL² against A: 6.73× (pairs 6.51, 7.29; target 20×); 9.3e+04 against 1,357 env steps/s; "
        "peak memory 370 against 397 MiB\n"
        "Grid × 9: 10 env steps/s (0.1 s each), peak memory 253 MiB (target none)\n"
    )
    page = speed_page(tmp_path)
    assert "`python scripts/benchmark.py rl2` (two cores)" in page
    row = "RL² against A | 6.73× | 6.51, 7.29 | 20× | 9.3e+04 | 1,357 | env steps/s"
    assert f"| {row} | 370 against 397 |" in page
    assert "| Grid × 9 | 10 | env steps/s | none | 253 |" in page


def test_every_reference_is_shown():
    page = references_page(RESULTS)
    stored = json.loads((RESULTS / "references.json").read_text(encoding="utf-8"))["rows"]
    assert sum(line.startswith("| ") for line in page.splitlines()) == 1 + len(stored)
