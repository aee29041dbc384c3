"""Mark a flow run that was killed as *Crashed*, with its tasks: `python -m pipelines.crashed_run JSON`.

The watcher of the run's processes starts it (`process_groups`), since a killed process tells Prefect nothing.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from darkroom.core.errors import DarkroomError
from pipelines import server

UNFINISHED = {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}
KILLED = "the process of the flow run was killed"
TEMPORARY_SERVER = "prefect.server.api.server:create_app"  # in its command line


@dataclass(frozen=True)
class Run:
    """A flow run, and what its process would have ended."""

    flow_run_id: str
    api: str
    has_worker: bool  # which then sets the state of the flow run itself
    servers: list[tuple[int, float]]  # temporary Prefect servers: process id and when it was created


def describe(flow_run_id: str, api: str, has_worker: bool) -> Run:
    """Describe the flow run of this process."""
    servers = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if TEMPORARY_SERVER in child.cmdline():
                servers.append((child.pid, child.create_time()))
    return Run(flow_run_id, api, has_worker, servers)


def command(run: Run) -> list[str]:
    """Return the command that marks the run."""
    return [sys.executable, "-m", "pipelines.crashed_run", json.dumps(asdict(run))]


def mark_tasks(api: str, flow_run_id: str) -> None:
    """Set the state of the unfinished tasks of a flow run to Crashed."""
    for task in server.request(api, "task_runs/filter", {"flow_runs": {"id": {"any_": [flow_run_id]}}, "task_runs": UNFINISHED}):
        _set_crashed(api, f"task_runs/{task['id']}")


def _set_crashed(api: str, path: str) -> None:
    state: dict[str, Any] = {"type": "CRASHED", "name": "Crashed", "message": KILLED}
    server.request(api, f"{path}/set_state", {"state": state, "force": True})


def main() -> None:
    run = Run(**json.loads(sys.argv[1]))
    with suppress(DarkroomError):  # the server may have been killed too
        mark_tasks(run.api, run.flow_run_id)
        unfinished = server.request(run.api, "flow_runs/filter", {"flow_runs": {"id": {"any_": [run.flow_run_id]}} | UNFINISHED})
        if unfinished and not run.has_worker:
            _set_crashed(run.api, f"flow_runs/{run.flow_run_id}")
    for pid, created in run.servers:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if process.create_time() == created:
                process.terminate()


if __name__ == "__main__":
    main()
