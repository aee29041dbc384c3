"""Run what has to run, as `dvc repro` does, once no other run holds the workspace; every argument is DVC's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from darkroom.core import locks
from darkroom.core.errors import WorkspaceError


def main(arguments: list[str]) -> int:
    if {"-h", "--help"} & set(arguments):
        print(f"usage: darkroom repro [STAGE …] [options of dvc repro]\n\n{__doc__}\n`dvc repro --help` explains the options.")
        return 0
    if not Path("dvc.yaml").exists():
        raise WorkspaceError(f"there is no dvc.yaml here ({Path.cwd()})", "run it in the folder that holds it")
    with locks.workspace("darkroom repro", lambda text: print(text, file=sys.stderr, flush=True)):
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
        process = subprocess.Popen([sys.executable, "-m", "dvc", "--wait-for-lock", "repro", *arguments], env=environment)
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # DVC had it too, and ends in its own way
                continue
