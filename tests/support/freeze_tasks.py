"""Store digests of the tasks of a seed in frozen_tasks.json, for every family, variant and split.

Published results name seeds, so tasks must never change.
`python tests/support/freeze_tasks.py` adds missing entries and changes nothing else; to
change an entry, delete it by hand first and state it in the changelog. Families of packages that
are not installed are left unchanged.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from metarl.envs import family_ids, make_family
from metarl.tasks.family import TaskFamily
from metarl.tasks.spaces import Tasks

FILE = Path(__file__).with_name("frozen_tasks.json")
NUM_TASKS, DECIMALS = 5, 8  # of seed 0; fewer decimals than machines agree on


def digests(family: TaskFamily) -> dict[str, str]:
    """A digest of the first tasks of seed 0, for every split."""
    return {
        split: digest(family.sample_tasks(NUM_TASKS, split=split, seed=0))
        for split in family.splits
    }


def digest(tasks: Tasks) -> str:
    """A few hexadecimal digits that depend on the tasks, but not on rounding of the machine."""
    rounded = tasks.round(DECIMALS) + 0.0  # without negative zeros
    return hashlib.sha256(rounded.astype("<f8").tobytes()).hexdigest()[:16]


def main() -> None:
    frozen = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    for family_id in family_ids():
        try:
            family = make_family(family_id)
        except ImportError as missing:
            print(f"{family_id} is left as it is: {missing}")
            continue
        for split, value in digests(family).items():
            frozen.setdefault(family_id, {}).setdefault(split, value)
    lines = [f"{json.dumps(name)}: {json.dumps(values)}" for name, values in frozen.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{FILE} holds {len(frozen)} families and variants")


if __name__ == "__main__":
    main()
