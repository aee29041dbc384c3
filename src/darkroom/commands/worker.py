"""Run stages of other machines' flows on this machine: a worker of a work pool of Prefect's."""

from __future__ import annotations

from darkroom.commands import flow
from darkroom.core.command_line import passthrough

command = passthrough(
    lambda arguments: flow.become("pool_worker", arguments, anywhere=True),
    help="Run stages that `darkroom flow repro --pool POOL` starts, in clones of their projects, until it is ended.",
)
