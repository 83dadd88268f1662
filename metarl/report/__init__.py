"""Report pages about runs, and tables for the terminal.

The package can be called like a function, and does what the command `metarl report` does:

    metarl.report(runs, out="report.html", behavior=True, device="auto", progress=True)

It writes one page about runs of agents and few-shot learners and returns the path of the page.

Args:
    runs: folder of a run, of several seeds or of published results; or a sequence of folders.
    out: file for the page; it is replaced if it exists.
    behavior: show the behavior of the agents; videos take about a minute.
    device: device of the agents.
    progress: show the progress.

Raises:
    ValueError: if a folder is not a run, or is damaged.
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

__all__: list[str] = []


class _CallablePackage(ModuleType):
    def __call__(self, runs: Any, *, out: str | Path, **options: Any) -> Path:
        """Write one page about runs; see `metarl.report.build.write_report`."""
        from metarl.report.build import write_report

        return write_report(runs, out=out, **options)


sys.modules[__name__].__class__ = _CallablePackage
