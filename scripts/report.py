"""Write a report page about runs: `metarl report`."""

from __future__ import annotations

from collections.abc import Sequence

from metarl.console import plain_console
from metarl.progress import Activity
from metarl.report.build import ReportConfig, report
from metarl.scripts.command_line import parse, run
from metarl.storage.files import write_output

__all__ = ["main"]


def main(arguments: Sequence[str]) -> None:
    """The command `metarl report`."""
    config = parse(ReportConfig, arguments, program="metarl report")
    console = plain_console()
    with Activity("reading runs", console) as activity:
        content = report(config, progress=activity).encode()
    write_output(config.out, content)
    size = f"{len(content) / 1e6:.1f} MB"
    console.print(f"wrote {config.out}, {size}; open it in a browser", soft_wrap=True)


if __name__ == "__main__":
    run(main)
