"""A Prefect server and a worker for this folder, on this machine alone, and the deployments of prefect.yaml.

`start` can be repeated: what runs is left alone, what does not is started, and deployments are brought up to date. Server and
worker go on when the terminal is closed; after a reboot `start` brings them back (docs/scheduling.md has units that do it).
With PREFECT_API_URL set only a worker is started, for that server.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import psutil

from darkroom.core import locks
from darkroom.core.errors import DarkroomError, WorkspaceError
from pipelines import notifications, server

LOGS = Path(".darkroom/schedule")
HOME = Path(".prefect")
PORT = 4200
TRIES = 3  # of a run whose worker ends meanwhile
STARTING = 180.0  # seconds in which a server or a worker must be there
STOPPING = 40.0  # seconds in which it must have ended: a worker first ends the runs that it has started


def start(port: int | None) -> None:
    """Start what does not run yet, and deploy; print where it is."""
    known = _known()
    api = os.environ.get("PREFECT_API_URL", "")
    if not api or ("server" in known and api == known["api"]):
        api = known["api"] if _runs(known.get("server")) else _start_server(port or known.get("port"), known)
    elif not server.answers(api):
        raise WorkspaceError(f"no Prefect server answers at {api}", "start it, or unset PREFECT_API_URL for one of this folder")
    environment = _environment(api)
    project = environment["DARKROOM_PROJECT"]
    pools = [pool["name"] for pool in _asked(api, "work_pools/filter")]
    if project not in pools:
        _prefect(environment, "work-pool", "create", project, "--type", "process")
    _prefect(environment, "--no-prompt", "deploy", "--all")
    known = _known() | {"api": api}
    if not _runs(known.get("worker")) and not _workers(api, project, {}):
        _resume(api, project)
        known["worker"] = _launch("worker", _as_worker(project), environment)
    _write(known)
    until = time.monotonic() + STARTING
    while not _workers(api, project, known):
        if time.monotonic() > until or not _runs(known["worker"]):
            raise WorkspaceError("the worker does not start:\n" + _last("worker"), f"see {LOGS / 'worker.log'}")
        time.sleep(0.5)


def worker() -> NoReturn:
    """Become the worker of this folder, once the server answers: for a unit of systemd, which starts it again when it ends."""
    api = os.environ.get("PREFECT_API_URL", "") or _known().get("api", "")
    until = time.monotonic() + STARTING
    while not (api and server.answers(api)):
        if not api or time.monotonic() > until:
            raise WorkspaceError(
                f"no Prefect server answers at {api or 'any address'}", "set PREFECT_API_URL to that of the server"
            )
        time.sleep(0.3)
    environment = _environment(api)
    project = environment["DARKROOM_PROJECT"]
    if not _workers(api, project, {}):
        _resume(api, project)
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", "prefect", *_as_worker(project)], environment)


def _as_worker(project: str) -> list[str]:
    return ["worker", "start", "--pool", project, "--type", "process", "--name", _worker(project)]


def _resume(api: str, project: str) -> None:
    """Let runs that ended with their worker, when the machine went off, run again; one that was being cancelled is cancelled.

    Without a worker none of the pool's runs has a process, and nobody else would ever end them. A run that was begun TRIES times
    may be what ends its worker: it is given up, and people hear of it.
    """
    cut = {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}
    for run in _asked(api, "flow_runs/filter", {"deployments": {"name": {"any_": [project]}}, "flow_runs": cut}):
        now = datetime.now(UTC).isoformat()
        state: dict[str, Any] = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "its worker ended, it runs again",
                                 "state_details": {"scheduled_time": now}}  # fmt: skip
        if run["state_type"] == "CANCELLING":
            state = {"type": "CANCELLED", "name": "Cancelled", "message": "its worker ended"}
        elif run["run_count"] >= TRIES:
            state = {"type": "CRASHED", "name": "Crashed", "message": f"its worker ended {run['run_count']} times while it ran"}
            notifications.tell(_asked(api, f"flows/{run['flow_id']}")["name"], run["name"], run["id"], "Crashed", state["message"])
        _asked(api, f"flow_runs/{run['id']}/set_state", {"state": state, "force": True})
        print(f"{run['name']}: {state['message']}")


def _start_server(port: int | None, known: dict[str, Any]) -> str:
    wanted = port or PORT
    taken = _taken(wanted)
    if taken and port:
        raise WorkspaceError(f"port {port} is taken by another process", "choose another one: `make schedule PORT=4300`")
    if taken:
        wanted = next(number for number in range(PORT + 1, PORT + 1000) if not _taken(number))
        print(f"port {PORT} is taken, the server listens on {wanted}")
    api = f"http://127.0.0.1:{wanted}/api"
    process = _launch("server", ["server", "start", "--host", "127.0.0.1", "--port", str(wanted)], _environment(api))
    _write(known | {"api": api, "port": wanted, "server": process})
    until = time.monotonic() + STARTING
    while not server.answers(api):
        if time.monotonic() > until or not _runs(process):
            raise WorkspaceError("the server does not start:\n" + _last("server"), f"see {LOGS / 'server.log'}")
        time.sleep(0.3)
    return api


def status() -> int:
    """Print what runs and what comes next; return 0 where server and worker run, 1 else."""
    known = _known()
    api = known.get("api", "")
    up = bool(api) and server.answers(api)
    print(f"server     {_said(known.get('server'), up, api.removesuffix('/api'))}")
    project = _environment(api)["DARKROOM_PROJECT"]
    workers = _workers(api, project, known) if up else []
    print(f"worker     {_said(known.get('worker'), bool(workers), ', '.join(workers))}")
    if not up:
        print("start them with `make schedule`")
        return 1
    deployments = _asked(api, "deployments/filter", {"deployments": {"name": {"any_": [project]}}})
    print("\n".join(sorted(_line(api, deployment) for deployment in deployments)))
    return 0 if workers else 1


def _line(api: str, deployment: dict[str, Any]) -> str:
    """Return when a deployment will run next, and how its last run ended."""
    flow = _asked(api, f"flows/{deployment['flow_id']}")["name"]
    chosen: dict[str, Any] = {"deployments": {"id": {"any_": [deployment["id"]]}}, "limit": 1}
    coming = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}, "sort": "EXPECTED_START_TIME_ASC"}
    past = {"flow_runs": {"state": {"type": {"not_any_": ["SCHEDULED"]}}}, "sort": "EXPECTED_START_TIME_DESC"}
    following, last = (_asked(api, "flow_runs/filter", chosen | which) for which in (coming, past))
    slots = [
        " ".join(value for value in item["schedule"].values() if isinstance(value, str))
        for item in deployment["schedules"]
        if item["active"]
    ]
    when = _local(following[0]["expected_start_time"]) if following else ", ".join(slots) or "when it is asked for"
    how = f"; last {last[0]['state_name']} at {_local(last[0]['expected_start_time'])}" if last else ""
    return f"{flow:<10} {when}{' (paused)' if deployment['paused'] else ''}{how}"


def stop() -> None:
    """End worker and server; what they were running is ended too, and goes on where it was when it is started again."""
    known = _known()
    if not known:
        print("nothing runs")
        return
    for name in ("worker", "server"):
        if not _runs(known.get(name)):
            print(f"{name:<10} did not run")
            continue
        process = psutil.Process(known[name]["pid"])
        tree = [process, *process.children(recursive=True)]
        process.send_signal(signal.SIGTERM)
        _, left = psutil.wait_procs(tree, timeout=STOPPING)
        for one in left:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        print(f"{name:<10} ended")
    _write({key: value for key, value in known.items() if key == "port"})


def _known() -> dict[str, Any]:
    try:
        return dict(json.loads(server.KNOWN.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _write(content: dict[str, Any]) -> None:
    server.KNOWN.parent.mkdir(parents=True, exist_ok=True)
    working = server.KNOWN.with_suffix(".new")
    working.write_text(json.dumps(content), encoding="utf-8")
    working.replace(server.KNOWN)


def _runs(process: dict[str, Any] | None) -> bool:
    """Tell whether a process that was started still runs, and not another one under its number."""
    try:
        found = psutil.Process(process["pid"]) if process else None
        return bool(found and process and found.create_time() == process["born"] and found.status() != psutil.STATUS_ZOMBIE)
    except (psutil.NoSuchProcess, KeyError):
        return False


def _launch(name: str, arguments: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """Start a process that outlives this one and its terminal."""
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / f"{name}.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
            start_new_session=True,
        )  # fmt: skip
    return {"pid": process.pid, "born": psutil.Process(process.pid).create_time()}


def _environment(api: str) -> dict[str, str]:
    defaults = {"PREFECT_HOME": str(HOME.resolve()), "DARKROOM_PROJECT": server.project(), "DARKROOM_TIMEZONE": _timezone()}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return defaults | os.environ | {"PREFECT_API_URL": api, "PATH": path}


def _timezone() -> str:
    """Return the name of the machine's time zone."""
    if name := os.environ.get("TZ", "").lstrip(":"):
        return name
    place = os.path.realpath("/etc/localtime")
    return place.partition("/zoneinfo/")[2] or "UTC"


def _prefect(environment: dict[str, str], *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "prefect", *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise WorkspaceError(f"prefect {' '.join(arguments)} failed:\n{said}", "correct prefect.yaml, then `make schedule` again")


def _asked(api: str, what: str, content: dict[str, Any] | None = None) -> Any:
    """Return what Prefect's API answers: to a filter or another content, or about one thing."""
    import urllib.request

    body = json.dumps(content or {}).encode() if content is not None or what.endswith("/filter") else None
    request = urllib.request.Request(f"{api}/{what}", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.loads(response.read())
    except OSError as error:
        raise WorkspaceError(f"the Prefect server at {api} refuses: {error}", f"see {LOGS / 'server.log'}") from error


def _worker(project: str) -> str:
    """Return what the worker of this folder is called."""
    return f"{project} on {socket.gethostname()}"


def _workers(api: str, pool: str, known: dict[str, Any]) -> list[str]:
    """Return the workers of a pool that are online; the server takes that of this folder for such a while longer than it runs."""
    try:
        found = [worker["name"] for worker in _asked(api, f"work_pools/{pool}/workers/filter") if worker["status"] == "ONLINE"]
    except WorkspaceError:
        return []
    return [name for name in found if name != _worker(pool) or _runs(known.get("worker"))]


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _last(name: str) -> str:
    return "\n".join((LOGS / f"{name}.log").read_text(encoding="utf-8", errors="replace").splitlines()[-15:])


def _said(process: dict[str, Any] | None, up: bool, where: str) -> str:
    number = f" (process {process['pid']})" if process and _runs(process) else ""
    return f"runs{number}: {where}" if up else f"does not answer{number}" if number else "does not run"


def _local(moment: str) -> str:
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).astimezone().strftime("%a %Y-%m-%d %H:%M")


def main(arguments: list[str] | None = None) -> int:
    """Do what is asked; return 0, 1 where `status` finds that something does not run, 2 for a mistake with a remedy."""
    parser = argparse.ArgumentParser("python -m pipelines.schedule", description=__doc__)
    parser.add_argument("what", choices=("start", "status", "stop", "worker"))
    parser.add_argument("--port", type=int, help=f"of the server (default: {PORT}, or the next one that is free)")
    given = parser.parse_args(arguments)
    try:
        if given.what == "status":
            return status()
        if given.what == "worker":
            worker()
        with locks.hold(LOGS.with_name("schedule.lock")):
            if given.what == "stop":
                stop()
                return 0
            start(given.port)
        return status()
    except DarkroomError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
