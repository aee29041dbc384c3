"""Upgrade MLflow's database to the installed version."""

from __future__ import annotations

import click

from darkroom.core.command_line import Command
from darkroom.core.lazy import lazy_imports
from darkroom.tracking import home, records

with lazy_imports():
    from darkroom.tracking import mlflow_client, uploader


@click.command(cls=Command)
def command() -> None:
    """Upgrade MLflow's database to the installed version of MLflow; a copy of the old one is kept."""
    backup = mlflow_client.upgrade()
    if backup is None:
        click.echo(f"{home.uri()} is up to date already")
        return
    click.echo(f"{home.uri()} is upgraded; the database as it was is {backup}")
    if records.is_pending():
        count = uploader.sync()
        click.echo(f"{count} recorded run{'s' * (count != 1)} uploaded")
