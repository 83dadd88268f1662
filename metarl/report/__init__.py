"""Report pages about runs, and tables for the terminal.

The package itself can be called: `metarl.report(runs, out="report.html")` writes a page, because
`metarl.report` is this package as soon as any of its modules has been imported.
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
