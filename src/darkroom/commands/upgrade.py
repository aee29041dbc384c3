"""Upgrade MLflow's database to the installed version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from darkroom.core.command_line import Command
from darkroom.core.lazy import LazyModule
from darkroom.tracking import home, records

if TYPE_CHECKING:
    from darkroom.tracking import mlflow_client, uploader
else:
    mlflow_client, uploader = LazyModule("darkroom.tracking.mlflow_client"), LazyModule("darkroom.tracking.uploader")


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
