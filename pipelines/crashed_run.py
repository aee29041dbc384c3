"""What a flow's process does at its end, done in its place where it was killed.

The watchers of `process_groups` start it as a command: `mark` sets the state of a flow run and of its tasks to
*Crashed*, `end-servers` ends the temporary Prefect server of a process.
"""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext, suppress
from typing import Any

import psutil

from darkroom.core.errors import DarkroomError, without_login
from pipelines import process_watcher, server
from pipelines.process_groups import ProcessGroups

UNFINISHED = {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}
OWNER = "DARKROOM_FLOW_PROCESS"  # in the environment of what a flow's process starts: the id of that process
TEMPORARY_SERVER = "prefect.server.api.server:create_app"  # in its command line
MARK_TIMEOUT = 60.0  # seconds in which the run is marked, before its server ends


def command(*arguments: str) -> list[str]:
    """Return the command that does this in the place of a process that was killed."""
    return [sys.executable, "-m", "pipelines.crashed_run", *arguments]


def mark_command(api: str, flow_run_id: str, has_worker: bool) -> list[str]:
    """Return the command that marks a flow run; a worker sets the state of the run itself, but not of its tasks."""
    return command("mark", without_login(api).rstrip("/"), flow_run_id, *(["tasks"] if has_worker else []))


def temporary_server() -> ProcessGroups | nullcontext[None]:
    """End the temporary server, which the block may start, where this process is killed."""
    if os.environ.get("PREFECT_API_URL"):
        return nullcontext()
    os.environ[OWNER] = str(os.getpid())
    return ProcessGroups(command("end-servers", os.environ[OWNER]))


def mark(api: str, flow_run_id: str, tasks_alone: bool) -> None:
    """Set the state of a flow run that has not ended, and of its tasks, to Crashed."""
    mark_tasks(api, flow_run_id)
    unfinished = server.request(api, "flow_runs/filter", {"flow_runs": {"id": {"any_": [flow_run_id]}} | UNFINISHED})
    if unfinished and not tasks_alone:
        _set_crashed(api, f"flow_runs/{flow_run_id}")


def mark_tasks(api: str, flow_run_id: str) -> None:
    """Set the state of the unfinished tasks of a flow run to Crashed."""
    for task in server.request(api, "task_runs/filter", {"flow_runs": {"id": {"any_": [flow_run_id]}}, "task_runs": UNFINISHED}):
        _set_crashed(api, f"task_runs/{task['id']}")


def _set_crashed(api: str, path: str) -> None:
    state: dict[str, Any] = {"type": "CRASHED", "name": "Crashed", "message": "the process of the flow run was killed"}
    server.request(api, f"{path}/set_state", {"state": state, "force": True})


def end_servers(owner: str) -> None:
    """End the temporary servers that a process has started, when its run is marked."""
    servers, marking = [], []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid in (os.getpid(), os.getppid()) or process.environ().get(OWNER) != owner:
                continue
            words = process.cmdline()
            if TEMPORARY_SERVER in words:
                servers.append(process)
            elif process_watcher.__file__ in words or "pipelines.crashed_run" in words:
                marking.append(process)
    psutil.wait_procs(marking, timeout=MARK_TIMEOUT)
    for process in servers:
        with suppress(psutil.Error):
            process.terminate()


def main() -> None:
    action, *arguments = sys.argv[1:]
    if action == "end-servers":
        end_servers(*arguments)
    else:
        api, flow_run_id, *tasks_alone = arguments
        own = os.environ.get("PREFECT_API_URL", "").rstrip("/")
        api = own if without_login(own) == api else api  # its password is no argument, which all users see
        with suppress(DarkroomError):  # the server may have been killed too
            mark(api, flow_run_id, bool(tasks_alone))


if __name__ == "__main__":
    main()
