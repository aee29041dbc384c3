"""Run a Prefect flow: `darkroom flow repro` is `python -m pipelines.repro`, or the same flow of the installed package."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import click

from darkroom.config import package_files, stage_code
from darkroom.core.command_line import LazyGroup, passthrough
from darkroom.core.errors import WorkspaceError

REPOSITORY = "pipelines"  # the package of the flows in the repository
FLOWS = {
    "repro": "run the stages that are out of date, a task each",
    "retrain": "ingest what is new, train, and register if there is a reason",
    "monitor": "detect drift in new photographs",
    "study": "run studies, a task each",
    "tidy": "remove old history: runs, versions, results in DVC's cache",
}


class Flows(LazyGroup):
    """The flows; each is a process of its own, which imports Prefect and parses the flow's options."""

    def load(self, name: str) -> click.Command:
        return passthrough(lambda arguments: become(name, arguments), help=FLOWS[name])


def become(module: str, arguments: tuple[str, ...], anywhere: bool = False) -> NoReturn:
    """Become a process that runs a module of the flows; with `anywhere` it needs no project in this folder."""
    words = program(module, anywhere)
    sys.stdout.flush()
    os.execv(sys.executable, [*words, *arguments])


def program(module: str, anywhere: bool = False) -> list[str]:
    """Return the words that run a module of the flows: of the repository, or of the installed package in a project elsewhere."""
    repository = package_files.root() if anywhere else Path()
    if stage_code.is_used() or (anywhere and find_spec(package_files.FLOWS)):
        if find_spec(package_files.FLOWS) is None:
            raise WorkspaceError(
                "this Darkroom is installed from its repository, in which alone its flows run",
                "install the wheel: `make dist` there, then `pip install dist/darkroom-*.whl` here",
            )
        return [sys.executable, "-P", "-m", f"{package_files.FLOWS}.{module}"]  # -P: no file of the project's hides a module
    if (repository / REPOSITORY).is_dir():
        if anywhere:
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(repository), os.environ.get("PYTHONPATH")]))
        return [sys.executable, "-m", f"{REPOSITORY}.{module}"]
    raise WorkspaceError(f"there is no project here ({Path.cwd()})", "run the command in its folder; `darkroom new DIR` makes one")


def run(module: str, *arguments: str) -> int:
    """Run a module of the flows as a process, whose output goes to stderr; return its exit code.

    SIGTERM, with which a person or a service ends this command, ends the flow.
    """
    process = subprocess.Popen([*program(module), *arguments], stdout=sys.stderr)
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        code = wait(process)
    finally:
        signal.signal(signal.SIGTERM, before)
    return code if code >= 0 else 128 - code  # as a shell has it for a signal


def wait(process: subprocess.Popen[bytes]) -> int:
    """Return the exit code of a process that ends in its own way where a person interrupts it and this command."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the process got the signal too
            continue


command = Flows(
    "flow",
    package=__name__,
    sections={"Flows": FLOWS},
    help="Run a Prefect flow over the graph. `darkroom flow repro --help` explains the options of a flow.",
)
