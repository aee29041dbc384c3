"""Run the stages that are out of date, one run at a time per workspace."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import click

from darkroom.config import dvc_repair, params, stage_code
from darkroom.core import locks
from darkroom.core.command_line import passthrough
from darkroom.core.errors import EXIT_CODE_FILE, WorkspaceError


def run(arguments: tuple[str, ...]) -> int:
    if {"-h", "--help"} & set(arguments):
        click.echo(click.get_current_context().get_help())
        return 0
    if not Path("dvc.yaml").exists():
        raise WorkspaceError(f"there is no dvc.yaml here ({Path.cwd()})", "run the command in the folder that holds it")
    stage_code.check()
    params.read()  # before DVC runs a command of dvc.yaml or deletes an output, whatever the arguments name
    tell = partial(click.echo, err=True)
    with locks.workspace("darkroom repro", tell), dvc_repair.guard(tell), tempfile.NamedTemporaryFile() as code_file:
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}", EXIT_CODE_FILE: code_file.name,
        }  # fmt: skip
        process = subprocess.Popen([sys.executable, "-m", "dvc", "--wait-for-lock", "repro", *arguments], env=environment)
        code = _wait(process)
        return int(code_file.read() or code) if code else 0


def _wait(process: subprocess.Popen[bytes]) -> int:
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # DVC got the signal too, and ends in its own way
            continue


command = passthrough(
    run,
    help="""Run the stages that are out of date, as `dvc repro` does; waits for another run of the workspace to end.

    All arguments are those of `dvc repro`, which `dvc repro --help` explains. The exit code is that of the stage that failed,
    or DVC's own where DVC failed.""",
)
