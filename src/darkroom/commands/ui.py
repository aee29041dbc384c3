"""Open the MLflow UI on the runs of all stages."""

from __future__ import annotations

import os
import socket
import sys

import click

from darkroom.core.command_line import Command
from darkroom.core.errors import ParamsError, without_login
from darkroom.core.lazy import lazy_imports
from darkroom.tracking import home, records

with lazy_imports():
    from darkroom.tracking import mlflow_client, uploader

HOST = "127.0.0.1"
# one worker, and none of the 12 processes that wait for jobs of language models
ENVIRONMENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


@click.command(cls=Command)
@click.option("--port", type=click.IntRange(1, 65535), default=5000, help=f"the port on {HOST}")
def command(port: int) -> None:
    """Open the MLflow UI on the runs of all stages; prints its addresses, on a tracking server where one is set."""
    uri = home.uri()
    is_remote = uri.startswith(("http://", "https://"))
    if not is_remote:
        _check_port(port)
    if records.is_pending():
        uploader.sync()
    with mlflow_client.reachable():
        addresses = mlflow_client.view_addresses(without_login(uri).rstrip("/") if is_remote else f"http://{HOST}:{port}")
    for name, address in addresses.items():
        click.echo(f"{name:<9} {address}")
    if is_remote:
        return
    click.echo("Ctrl+C ends it. `darkroom schedule status` prints the address of Prefect's pages.")
    sys.stdout.flush()
    server = ["--host", HOST, "--port", str(port), "--workers", "1"]
    environment = ENVIRONMENT | os.environ | {"MLFLOW_BACKEND_STORE_URI": uri}  # in a list of processes all could read a password
    os.execve(sys.executable, [sys.executable, "-m", "mlflow", "ui", *server], environment)


def _check_port(port: int) -> None:
    """Raise ParamsError where another process listens at a port, and name one that is free."""
    if _is_free(port):
        return
    free = next((other for other in range(port + 1, 65536) if _is_free(other)), 5000)
    raise ParamsError(
        f"port {port} is taken by another process, perhaps MLflow already", f"`darkroom ui --port {free}`, or `make ui PORT={free}`"
    )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
