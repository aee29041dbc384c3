"""A project's work pool on a Prefect server: its workers, its deployments, and the runs that a dead worker has left."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from darkroom.config import yaml_files
from darkroom.core.errors import WorkspaceError
from pipelines import crashed_run, notifications, server

DEPLOYMENTS = Path("prefect.yaml")
PROJECT = "{{ $DARKROOM_PROJECT }}"  # in the names of prefect.yaml
MAX_ATTEMPTS = 3  # of a run whose worker dies


def exists(api: str, project: str) -> bool:
    return project in [pool["name"] for pool in server.request(api, "work_pools/filter", {})]


def fix_commands(api: str, project: str) -> None:
    """Let no run of the pool choose its command or its folder: they are those of its deployment.

    Prefect's template of a pool takes both from the variables of a run.
    """
    template = server.request(api, f"work_pools/{project}")["base_job_template"]
    job, variables = template["job_configuration"], template["variables"]["properties"]
    if names := [name for name in ("command", "working_dir") if name in job or name in variables]:
        for name in names:
            job.pop(name, None)
            variables.pop(name, None)
        server.request(api, f"work_pools/{project}", {"base_job_template": template}, method="PATCH")


def replace_old_deployments(api: str, project: str) -> None:
    """Delete the deployments that have the project's name, as all had before they were called after what they do.

    Each is deleted with its triggers where prefect.yaml names another one of its flow, which is paused where the old
    one was, or where none of the old one's schedules was active.
    """
    declared = {item["name"].replace(PROJECT, project) for item in yaml_files.read_yaml(DEPLOYMENTS)["deployments"]}
    deployments = server.request(api, "deployments/filter", {"work_pools": _named(project)})
    for old in (item for item in deployments if item["name"] == project and project not in declared):
        new = [item for item in deployments if item["flow_id"] == old["flow_id"] and item["name"] in declared]
        is_paused = old["paused"] or (old["schedules"] and not any(item["active"] for item in old["schedules"]))
        for item in new if is_paused else []:
            server.request(api, f"deployments/{item['id']}", {"paused": True}, method="PATCH")
        if new:
            server.request(api, f"automations/owned-by/prefect.deployment.{old['id']}", method="DELETE")
            server.request(api, f"deployments/{old['id']}", method="DELETE")
            flow = server.request(api, f"flows/{old['flow_id']}")["name"]
            names = " and ".join(f"{flow}/{item['name']}" for item in new)
            print(f"{flow}/{project} is now {names}{' (paused)' if is_paused else ''}")


def worker_arguments(project: str) -> list[str]:
    return ["worker", "start", "--pool", project, "--type", "process", "--name", _worker_name(project)]


def online_workers(api: str, pool: str, state: dict[str, Any]) -> list[str]:
    """Return the workers of a pool that are online.

    The server lists the worker of this folder for a while after it has ended.
    """
    try:
        workers = server.request(api, f"work_pools/{pool}/workers/filter", {})
    except WorkspaceError:
        return []
    online = [worker["name"] for worker in workers if worker["status"] == "ONLINE"]
    return [name for name in online if name != _worker_name(pool) or server.is_running(state.get("worker"))]


def resume_runs(api: str, project: str) -> None:
    """Reschedule the runs whose worker died; cancel those that were being cancelled.

    Without a worker no run of the pool has a process. A run that was started `MAX_ATTEMPTS` times may be the
    cause of its worker's death: it becomes *Crashed*, with a notification.
    """
    unfinished = {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}
    for run in server.request(api, "flow_runs/filter", {"work_pools": _named(project), "flow_runs": unfinished}):
        crashed_run.mark_tasks(api, run["id"])
        if run["state_type"] == "CANCELLING":
            state: dict[str, Any] = {"type": "CANCELLED", "name": "Cancelled", "message": "its worker ended"}
        elif run["run_count"] >= MAX_ATTEMPTS:
            state = {"type": "CRASHED", "name": "Crashed", "message": f"its worker ended {run['run_count']} times while it ran"}
            flow = server.request(api, f"flows/{run['flow_id']}")["name"]
            notifications.send(flow, run["name"], run["id"], "Crashed", state["message"])
        else:
            state = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "its worker ended, it runs again",
                     "state_details": {"scheduled_time": datetime.now(UTC).isoformat()}}  # fmt: skip
        server.request(api, f"flow_runs/{run['id']}/set_state", {"state": state, "force": True})
        print(f"{run['name']}: {state['message']}")


@dataclass(frozen=True)
class DeploymentStatus:
    """A deployment, its next run and how its last run ended; times are ISO 8601 in UTC, as the server has them."""

    name: str  # FLOW/DEPLOYMENT
    paused: bool
    schedules: list[str]
    next_run: str | None = None
    last_run: str | None = None
    last_state: str | None = None

    def describe(self) -> str:
        due = _local_time(self.next_run) if self.next_run else ", ".join(self.schedules) or "no schedule"
        ended = f"; last {self.last_state} at {_local_time(self.last_run)}" if self.last_run else ""
        return f"{self.name:<32} {due}{' (paused)' if self.paused else ''}{ended}"


def deployments(api: str, project: str) -> list[DeploymentStatus]:
    """Return the deployments of the project, sorted by name."""
    items = server.request(api, "deployments/filter", {"work_pools": _named(project)})
    return sorted((_deployment(api, item) for item in items), key=lambda status: status.name)


def _deployment(api: str, deployment: dict[str, Any]) -> DeploymentStatus:
    flow = server.request(api, f"flows/{deployment['flow_id']}")["name"]
    query: dict[str, Any] = {"deployments": {"id": {"any_": [deployment["id"]]}}, "limit": 1}
    future = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}, "sort": "EXPECTED_START_TIME_ASC"}
    past = {"flow_runs": {"state": {"type": {"not_any_": ["SCHEDULED"]}}}, "sort": "EXPECTED_START_TIME_DESC"}
    upcoming, last = (server.request(api, "flow_runs/filter", query | filters) for filters in (future, past))
    schedules = [
        " ".join(value for value in item["schedule"].values() if isinstance(value, str))
        for item in deployment["schedules"]
        if item["active"]
    ]
    return DeploymentStatus(
        f"{flow}/{deployment['name']}",
        deployment["paused"],
        schedules,
        upcoming[0]["expected_start_time"] if upcoming else None,
        last[0]["expected_start_time"] if last else None,
        last[0]["state_name"] if last else None,
    )


def _local_time(timestamp: str) -> str:
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).astimezone().strftime("%a %Y-%m-%d %H:%M")


def _worker_name(project: str) -> str:
    return f"{project} on {socket.gethostname()}"


def _named(name: str) -> dict[str, Any]:
    return {"name": {"any_": [name]}}
