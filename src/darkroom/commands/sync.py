"""Upload recorded runs to MLflow."""

from __future__ import annotations

import click

from darkroom.core.command_line import Command
from darkroom.core.errors import masked
from darkroom.core.lazy import lazy_imports
from darkroom.tracking import home, records

with lazy_imports():
    from darkroom.tracking import uploader


@click.command(cls=Command)
def command() -> int:
    """Upload the recorded runs that MLflow does not have yet.

    Exit code 1: a record could not be uploaded; it is kept, and its reason is printed.
    """
    if not (records.is_pending() or records.damaged()):
        click.echo("every run is in MLflow already")
        return 0
    count = uploader.sync()
    running = len(records.pending())
    more = f", {running} still running" if running else ""
    click.echo(f"{count} run{'s' * (count != 1)} uploaded to {masked(home.uri())}{more}")
    damaged = records.damaged()
    for name, reason in damaged.items():
        click.echo(f"{home.DAMAGED / name} cannot be uploaded: {reason}")
    if damaged:
        click.echo("`darkroom sync` tries these again once the reason is mended; to give one up, delete its folder")
    return 1 if damaged else 0
