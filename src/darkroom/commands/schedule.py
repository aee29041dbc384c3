"""Run flows on a schedule: a Prefect server and a worker for this folder."""

from __future__ import annotations

from darkroom.commands import flow
from darkroom.core.command_line import passthrough

command = passthrough(
    lambda words: flow.become("schedule", words), help="Start or stop the Prefect server and the worker of this folder."
)
