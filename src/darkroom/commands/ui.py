"""Open the MLflow UI on the runs of all stages."""

from __future__ import annotations

import os
import sys

import click

from darkroom.core.command_line import Command
from darkroom.core.lazy import lazy_imports
from darkroom.tracking import home, records

with lazy_imports():
    from darkroom.tracking import uploader


@click.command(cls=Command)
@click.option("--port", type=click.IntRange(1, 65535), default=5000, help="the port on 127.0.0.1")
def command(port: int) -> None:
    """Open the MLflow UI on the runs of all stages; prints the address of a tracking server where one is set."""
    if records.is_pending():
        uploader.sync()
    uri = home.uri()
    if uri.startswith(("http://", "https://")):
        click.echo(f"MLflow    {uri}/#/experiments?{home.PAGES}")
        return
    click.echo(f"MLflow    http://127.0.0.1:{port}/#/experiments?{home.PAGES}  (Ctrl+C ends it)")
    click.echo("Prefect   `make schedule-status` prints its address")
    sys.stdout.flush()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    address = ["--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui", *address])
