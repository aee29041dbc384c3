"""Run flows on a schedule: a Prefect server and a worker for this folder."""

from __future__ import annotations

import click

from darkroom.commands import flow
from darkroom.core.command_line import LazyGroup, passthrough

ACTIONS = {
    "start": "start the server and the worker unless they run, and deploy prefect.yaml",
    "status": "show them, and when the flows run next (`--json`); exit code 1 where one does not run",
    "stop": "stop them; runs go on at the next start",
    "server": "become the server: for a unit of systemd",
    "worker": "become the worker: for a unit of systemd",
}


class Actions(LazyGroup):
    """What can be done with server and worker; each is a process of its own, which imports Prefect."""

    def load(self, name: str) -> click.Command:
        return passthrough(lambda arguments: flow.become("schedule", (name, *arguments)), help=ACTIONS[name])


command = Actions(
    "schedule",
    package=__name__,
    sections={"Actions": ACTIONS},
    help="Run the flows of prefect.yaml on their schedules, by a Prefect server and a worker on this machine alone.",
)
