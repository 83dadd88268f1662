"""The README is short, and its images are small."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
IMAGES = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)


def test_the_readme_is_short():
    assert len(README.split()) <= 1200


def test_two_animations_and_a_curve_are_small_files_of_the_repository():
    sizes = {Path(name).suffix: [] for name in IMAGES}
    for name in IMAGES:
        sizes[Path(name).suffix].append((ROOT / name).stat().st_size)
    assert {suffix: len(each) for suffix, each in sizes.items()} == {".gif": 2, ".png": 1}
    assert max(size for each in sizes.values() for size in each) <= 400_000
