"""Train runs of a study as one job: what a stage of `darkroom study NAME --pool POOL` calls on the machine of a worker."""

from __future__ import annotations

from pathlib import Path

import click

from darkroom.core.command_line import Command
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.studies import jobs


@click.command(cls=Command, hidden=True)
@click.argument("job", type=click.Path(path_type=Path))
def command(job: Path) -> None:
    """Train the runs of a job of `darkroom study --pool`, and write their results."""
    jobs.run(job)
