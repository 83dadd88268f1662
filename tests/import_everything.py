"""Check the installed package from where it is installed: its files, and that all import.

Run by `make wheel` in the folder into which the wheel was installed.
"""

import importlib
import pkgutil
import sys
from pathlib import Path

import metarl

sys.path.append(str(Path(__file__).parent / "support"))

from wheel_files import wheel_files

assert Path.cwd() in Path(metarl.__file__).parents, f"imported {metarl.__file__}, not the wheel"
installed = {
    path.as_posix()
    for path in Path("metarl").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
}
expected = set(wheel_files())
assert installed == expected, f"missing or surplus in the wheel: {sorted(installed ^ expected)}"
names = [module.name for module in pkgutil.walk_packages(metarl.__path__, "metarl.")]
for name in names:
    importlib.import_module(name)
print(f"{len(names)} modules imported from {Path.cwd().name}")
