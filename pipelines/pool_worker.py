"""Become a worker of a work pool of Prefect's, which runs stages of projects on this machine: `darkroom worker POOL`."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import click

from darkroom.core.command_line import Command, run_command
from darkroom.core.errors import WorkspaceError
from pipelines import pool_clones, server

QUERY = "2"  # seconds between two looks for work
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "darkroom" / "worker"


@click.command(cls=Command)
@click.argument("pool")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), default=CACHE, show_default="~/.cache/darkroom/worker",
              help="folder of the clones and their data, which may be deleted while no worker runs")  # fmt: skip
@click.option("--limit", type=click.IntRange(1), default=1, show_default=True, help="number of stages that run at a time")
def command(pool: str, folder: Path, limit: int) -> int:
    """Run stages that `darkroom flow repro --pool POOL` starts, in clones of their projects, until it is ended.

    The Prefect server is that of PREFECT_API_URL, else that of `make schedule` in this folder. A pool that is not there is made.
    The machine needs a login for the git repositories and for DVC's remotes; with MLFLOW_TRACKING_URI the runs are recorded
    there, else where the flow says.
    """
    api = os.environ.get("PREFECT_API_URL", "")
    if not api:
        raise WorkspaceError("no Prefect server is named, from which a worker gets its work", "set PREFECT_API_URL to its address")
    server.check_response(api, "start it, or set PREFECT_API_URL to the one that has the pool")
    folder.mkdir(parents=True, exist_ok=True)
    variables = environment(folder.resolve(), dict(os.environ))
    sys.stdout.flush()
    os.chdir(folder)  # away from a prefect.toml
    os.execve(sys.executable, [sys.executable, "-m", "prefect", *arguments(pool, folder, limit)], variables)


def arguments(pool: str, folder: Path, limit: int) -> list[str]:
    name = f"{socket.gethostname()} {folder.name}"
    own = ("--pool", pool, "--type", "process", "--name", name, "--limit", str(limit))
    return ["worker", "start", *own, "--install-policy", "never"]


def environment(folder: Path, variables: dict[str, str]) -> dict[str, str]:
    """Return the variables of the worker and so of its runs: where its clones are, and where this package is found."""
    defaults = {"PREFECT_WORKER_QUERY_SECONDS": QUERY}
    paths = [str(Path(__file__).resolve().parents[1]), *filter(None, variables.get("PYTHONPATH", "").split(os.pathsep))]
    search = f"{Path(sys.executable).parent}{os.pathsep}{variables.get('PATH', '')}"
    own = {pool_clones.FOLDER: str(folder), "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PATH": search,
           "PREFECT_HOME": str(folder / "prefect")}  # fmt: skip
    return defaults | variables | server.credentials(variables["PREFECT_API_URL"]) | own


def main() -> int:
    """Run the command; return 2 for a mistake, 75 where the server does not respond."""
    return run_command(command, "darkroom worker")


if __name__ == "__main__":
    sys.exit(main())
