"""Run a Prefect flow: `darkroom flow repro` is `python -m pipelines.repro`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from darkroom.core.command_line import LazyGroup, passthrough
from darkroom.core.errors import WorkspaceError

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
        def run(arguments: tuple[str, ...]) -> NoReturn:
            if not Path("pipelines").is_dir():
                raise WorkspaceError(
                    f"there are no flows here ({Path.cwd()})", "run the command in the project's folder, which holds pipelines/"
                )
            sys.stdout.flush()
            os.execv(sys.executable, [sys.executable, "-m", f"pipelines.{name}", *arguments])

        return passthrough(run, help=FLOWS[name])


command = Flows(
    "flow",
    package=__name__,
    sections={"Flows": FLOWS},
    help="Run a Prefect flow over the graph. `darkroom flow repro --help` explains the options of a flow.",
)
