"""Import every module of the installed package from where it is installed; run by `make wheel`."""

import importlib
import pkgutil
from pathlib import Path

import metarl

assert Path.cwd() in Path(metarl.__file__).parents, f"imported {metarl.__file__}, not the wheel"
names = [module.name for module in pkgutil.walk_packages(metarl.__path__, "metarl.")]
assert {"metarl.envs", "metarl.agents", "metarl.scripts", "metarl.fewshot"} <= set(names), names
for name in names:
    importlib.import_module(name)
print(f"{len(names)} modules imported from {Path.cwd().name}")
