"""Run the stages that are out of date, one run at a time per workspace."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import click

from darkroom.config import dvc_repair, dvc_space, params, stage_code
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
        began = time.time()
        process = subprocess.Popen([sys.executable, "-m", "dvc", "--wait-for-lock", "repro", *arguments], env=environment)
        code = _wait(process)
        of_stage = code_file.read()
        if code and not of_stage and (full := dvc_space.full_disk(began)):
            raise full
        return int(of_stage or code) if code else 0


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
