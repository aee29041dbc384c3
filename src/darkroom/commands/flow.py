"""Run a Prefect flow over the graph: `darkroom flow repro --concurrency 2` is `python -m pipelines.repro --concurrency 2`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from darkroom.core.errors import WorkspaceError

FLOWS = Path("pipelines")
NAMES = ("repro", "retrain", "monitor", "study")


def main(arguments: list[str]) -> int:
    if not FLOWS.is_dir():
        raise WorkspaceError(f"there are no flows here ({Path.cwd()})", "run it in the project's folder, which holds pipelines/")
    parser = argparse.ArgumentParser("darkroom flow", description=__doc__)
    parser.add_argument("flow", choices=NAMES)
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="…", help="its options: `darkroom flow repro --help`")
    given = parser.parse_args(arguments)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", f"pipelines.{given.flow}", *given.rest])
