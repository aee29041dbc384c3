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

from darkroom.commands import flow
from darkroom.config import dvc_process, dvc_repair, dvc_space, params, stage_code
from darkroom.core import locks, shortage
from darkroom.core.command_line import passthrough
from darkroom.core.errors import WorkspaceError


def run(arguments: tuple[str, ...]) -> int:
    if {"-h", "--help"} & set(arguments):
        click.echo(click.get_current_context().get_help())
        return 0
    if not Path("dvc.yaml").exists():
        raise WorkspaceError(f"there is no dvc.yaml here ({Path.cwd()})", "run the command in the folder that holds it")
    stage_code.check()
    params.read()  # before DVC runs a command of dvc.yaml or deletes an output, whatever the arguments name
    tell = partial(click.echo, err=True)
    with locks.workspace("darkroom repro", tell), dvc_repair.guard(tell), tempfile.NamedTemporaryFile() as file:
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}", dvc_process.FILE: file.name,
        }  # fmt: skip
        began = time.time()
        command = [sys.executable, "-m", dvc_process.__name__, "--wait-for-lock", "repro", *arguments]
        code = flow.wait(subprocess.Popen(command, env=environment))
        failed = dvc_process.failed_stage(Path(file.name).read_text(encoding="utf-8"))
        if code == 0:
            return 0
        if failed is None and (full := dvc_space.full_disk(began)):
            raise full
        name, code = (f"stage {failed[0]}", failed[1]) if failed else ("DVC", code)
        if code in dvc_process.KILLED:
            raise shortage.killed(name)
        return code if code > 0 else 128 - code  # as a shell has it for a signal


command = passthrough(
    run,
    help="""Run the stages that are out of date, as `dvc repro` does; waits for another run of the workspace to end.

    All arguments are those of `dvc repro`, which `dvc repro --help` explains. The exit code is that of the stage that failed,
    or DVC's own where DVC failed.""",
)
