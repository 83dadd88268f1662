"""Makes `python -m metarl` run the installed command `metarl`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("metarl.scripts.cli", run_name="__main__")
