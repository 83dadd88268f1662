"""Every installed module can be imported without the POSIX part of the standard library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "support"))

from wheel_files import packages

# Other libraries are imported before, because they select the system by `sys.platform`.
IMPORT_AS_ON_WINDOWS = """
import builtins, importlib, os, pkgutil, signal, sys
import filelock, gymnasium, jinja2, lightning, matplotlib.pyplot, mujoco, pooch, pydantic
import rich.progress, safetensors.torch, stable_baselines3, torch.utils.tensorboard, tyro

MISSING = {"fcntl", "resource", "termios", "pwd", "grp", "pty", "tty", "posix", "syslog"}
plain_import = builtins.__import__

def import_without_posix(name, globals=None, locals=None, fromlist=(), level=0):
    if name in MISSING and (globals or {}).get("__name__", "").startswith("metarl"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return plain_import(name, globals, locals, fromlist, level)

builtins.__import__ = import_without_posix
for module, names in {
    signal: ("pthread_sigmask", "SIGKILL", "SIGHUP", "SIGUSR1", "SIGALRM", "setitimer", "sigwait"),
    os: ("fork", "getuid", "sched_getaffinity", "fchmod", "mkfifo", "killpg", "setsid", "getpgid"),
}.items():
    for name in names:
        delattr(module, name)

imported = 0
for package in sys.argv[1:]:
    loaded = importlib.import_module(package)
    for module in pkgutil.iter_modules(loaded.__path__, f"{package}."):
        if not module.ispkg:
            importlib.import_module(module.name)
            imported += 1
print(imported)
"""


def test_every_module_can_be_imported_without_what_only_posix_has():
    ended = subprocess.run(
        [sys.executable, "-c", IMPORT_AS_ON_WINDOWS, *packages()],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert int(ended.stdout) > 150
