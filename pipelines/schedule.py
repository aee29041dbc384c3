"""Start a Prefect server and a worker for this folder, on this machine alone, and deploy prefect.yaml.

`start` can be repeated: it starts what does not run, and updates the deployments. Server and worker outlive
the terminal; after a reboot `start` brings them back (docs/scheduling.md has units of systemd that do so).
With PREFECT_API_URL set, only a worker is started, for that server. `prefect` in this folder then uses the
same server, by a profile in `.prefect`.

The server listens on the loopback device and has a password, in a file that its owner alone can read.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import psutil

from darkroom.core import locks, log_files
from darkroom.core.command_line import Choice, Command, json_option, run_command
from darkroom.core.errors import WorkspaceError, without_login
from pipelines import server, work_pool

LOGS = Path(".darkroom/schedule")
PREFECT_HOME = Path(".prefect")
PROFILES = PREFECT_HOME / "profiles.toml"  # prefect.toml names it
PORT = 4200
RETENTION = {  # of flow runs that have ended, with their logs and artifacts; events are kept for 7 days, Prefect's default
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(90 * 86400),
}  # fmt: skip
START_TIMEOUT = 180.0  # seconds until a server or a worker responds
STOP_TIMEOUT = 40.0  # seconds until it has ended: a worker first ends its runs


def start(port: int | None) -> None:
    """Start the server and the worker unless they run, and deploy prefect.yaml."""
    state = server.read_state()
    if server.is_running(state.get("server")) and "api" not in state["server"]:
        print("an older version started the server, without a password: it ends, with its worker, and starts again with one")
        stop()
        if os.environ.get("PREFECT_API_URL") == state["api"]:
            del os.environ["PREFECT_API_URL"]
        state = server.read_state()
    api = os.environ.get("PREFECT_API_URL", "")
    own = state.get("server", {}).get("api")
    if not api or api == own:
        api = own if server.is_running(state.get("server")) else _start_server(port or state.get("port"), state)
    elif not server.is_healthy(api):
        raise WorkspaceError(f"no Prefect server responds at {api}", "start it, or unset PREFECT_API_URL for one of this folder")
    environment = _environment(api)
    project = environment["DARKROOM_PROJECT"]
    if not work_pool.exists(api, project):
        _start_worker(api, project, environment)  # it creates the pool, into which nothing is deployed yet
        _wait_for("worker", server.read_state().get("worker"), lambda: work_pool.exists(api, project))
    _prefect(environment, "--no-prompt", "deploy", "--all")
    work_pool.replace_old_deployments(api, project)
    _write_profile(api)
    _start_worker(api, project, environment)
    state = server.read_state()
    _wait_for("worker", state.get("worker"), lambda: bool(work_pool.online_workers(api, project, state)))
    work_pool.fix_commands(api, project)


def _write_profile(api: str) -> None:
    """Let `prefect` in this folder use this server; a server that it starts here has the password too."""
    settings = {"PREFECT_API_URL": api} | server.credentials(api)
    if server.CLIENT in settings:
        settings |= _server_settings(api)
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    PREFECT_HOME.mkdir(exist_ok=True)
    PREFECT_HOME.chmod(0o700)  # its database has the parameters of all runs
    server.write_private(PROFILES, "\n".join(['active = "darkroom"', "", "[profiles.darkroom]", *lines, ""]))


def _server_settings(api: str) -> dict[str, str]:
    """Return the settings by which a server refuses whoever has no password, and pages of other origins."""
    address = api.removesuffix("/api")
    origins = f"{address},{address.replace('127.0.0.1', 'localhost')}"
    return {
        server.CLIENT: server.password(), server.SERVER: server.password(), "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origins,
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    }  # fmt: skip


def _start_worker(api: str, project: str, environment: dict[str, str]) -> None:
    """Start a worker unless one runs, and note the server's address; runs that a dead worker has left run again."""
    state = server.read_state() | {"api": api}
    worker = state.get("worker")
    if worker and worker.get("api") != api and _end(worker):
        print("the worker of another server, or of an older version, has ended")
    if not server.is_running(worker) and not work_pool.online_workers(api, project, {}):
        work_pool.resume_runs(api, project)
        state["worker"] = _launch("worker", ["prefect", *work_pool.worker_arguments(project)], environment) | {"api": api}
    _write_state(state)


def run_server(port: int | None) -> None:
    """Become the server of this folder: for a unit of systemd, which restarts it."""
    state = server.read_state()
    if server.is_running(state.get("server")):
        raise WorkspaceError(f"the server runs already (process {state['server']['pid']})", "`darkroom schedule stop` ends it")
    port, arguments, environment = _prepare_server(port or state.get("port"), state)
    _note_server(port, os.getpid(), state)
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", *arguments], environment)


def run_worker() -> None:
    """Become the worker of this folder when the server responds: for a unit of systemd, which restarts it."""
    api = os.environ.get("PREFECT_API_URL", "") or server.read_state().get("api", "")
    deadline = time.monotonic() + START_TIMEOUT
    while not (api and server.is_healthy(api)):
        if not api or time.monotonic() > deadline:
            raise WorkspaceError(f"no Prefect server responds at {api or 'any address'}", "set PREFECT_API_URL to its address")
        time.sleep(0.3)
    environment = _environment(api)
    project = environment["DARKROOM_PROJECT"]
    if not work_pool.online_workers(api, project, {}):
        work_pool.resume_runs(api, project)
    _write_state(server.read_state() | {"api": api, "worker": _identify(os.getpid()) | {"api": api}})
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", "prefect", *work_pool.worker_arguments(project)], environment)


def _start_server(requested: int | None, state: dict[str, Any]) -> str:
    """Start a server and return its address."""
    port, arguments, environment = _prepare_server(requested, state)
    process = _launch("server", arguments, environment)
    api = _note_server(port, process["pid"], state)
    _wait_for("server", process, lambda: server.is_healthy(api))
    return api


def _prepare_server(requested: int | None, state: dict[str, Any]) -> tuple[int, list[str], dict[str, str]]:
    """Return a free port, the arguments of Python and the environment of the server; it has a password."""
    port = requested or PORT
    if _is_port_taken(port):
        if requested:
            remedy = "choose another one: `darkroom schedule start --port 4300`"
            raise WorkspaceError(f"port {port} is taken by another process", remedy)
        port = next(number for number in range(PORT + 1, PORT + 1000) if not _is_port_taken(number))
        print(f"port {PORT} is taken, the server listens on {port}")
    server.password(keep=bool(state))  # a copy of the project has the password of its original
    api = _address(port)
    return port, ["pipelines.prefect_server", str(port)], RETENTION | _environment(api) | _server_settings(api)


def _note_server(port: int, pid: int, state: dict[str, Any]) -> str:
    """Note the server in the file of the state; return its address."""
    api = _address(port)
    _write_state(state | {"api": api, "port": port, "server": _identify(pid) | {"api": api}})
    return api


def _address(port: int) -> str:
    return f"http://127.0.0.1:{port}/api"


def _identify(pid: int) -> dict[str, Any]:
    return {"pid": pid, "born": psutil.Process(pid).create_time()}


def _wait_for(name: str, process: dict[str, Any] | None, is_ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while not is_ready():
        if time.monotonic() > deadline or not server.is_running(process):
            log = LOGS / f"{name}.log"
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
            raise WorkspaceError(f"the {name} does not start:\n" + "\n".join(lines[-15:]), f"see {log}")
        time.sleep(0.3)


def status(as_json: bool = False) -> int:
    """Print the server, the worker and the deployments; return 0 where server and worker run, 1 otherwise."""
    state = server.read_state()
    api = state.get("api", "")
    healthy = bool(api) and server.is_healthy(api)
    project = server.project()
    workers = work_pool.online_workers(api, project, state) if healthy else []
    deployments = work_pool.deployments(api, project) if healthy else []
    if as_json:
        click.echo(json.dumps({
            "server": {
                "running": healthy, "address": without_login(api).removesuffix("/api"), "password": bool(server.credentials(api)),
            },
            "workers": workers,
            "deployments": [asdict(deployment) for deployment in deployments],
        }, indent=2))  # fmt: skip
        return 0 if workers else 1
    print(f"server     {_describe(state.get('server'), healthy, without_login(api).removesuffix('/api'))}")
    if server.credentials(api):
        print(f"           the password of its pages is in {server.PASSWORD}")
    elif healthy and server.is_open(api):
        print("           without a password: whoever reaches it can run commands here, see docs/security.md")
    print(f"worker     {_describe(state.get('worker'), bool(workers), ', '.join(workers))}")
    if not healthy:
        print("start them with `darkroom schedule start`")
        return 1
    print(*(deployment.describe() for deployment in deployments), sep="\n")
    return 0 if workers else 1


def stop() -> None:
    """Stop worker and server, and with the worker its runs, which continue at the next start."""
    state = server.read_state()
    if not state:
        print("nothing runs")
        return
    for name in ("worker", "server"):
        print(f"{name:<10} {'stopped' if _end(state.get(name)) else 'did not run'}")
    _write_state({key: value for key, value in state.items() if key == "port"})


def _end(process: dict[str, Any] | None) -> bool:
    """End a process that was started, with its children; return whether it ran."""
    if not process or not server.is_running(process):
        return False
    running = psutil.Process(process["pid"])
    processes = [running, *running.children(recursive=True)]
    running.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=STOP_TIMEOUT)
    for child in alive:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    return True


def _write_state(state: dict[str, Any]) -> None:
    server.write_private(server.STATE, json.dumps(state | {"folder": server.folder_id()}))


def _launch(name: str, arguments: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """Start `python -m` as a process that outlives this one and its terminal."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log_files.trim(LOGS / f"{name}.log")
    with (LOGS / f"{name}.log").open("a", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
            start_new_session=True,
        )  # fmt: skip
    return _identify(process.pid)


def _environment(api: str) -> dict[str, str]:
    home = PREFECT_HOME.resolve()
    defaults = {"PREFECT_HOME": str(home), "DARKROOM_PROJECT": server.project(), "DARKROOM_TIMEZONE": _timezone()}
    if "?" in str(home):  # Prefect's own address of its database ends there: the file would be beside the project
        defaults["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = f"sqlite+aiosqlite:///{quote(str(home / 'prefect.db'))}"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return defaults | os.environ | {"PREFECT_API_URL": api, "PATH": path} | server.credentials(api)


def _timezone() -> str:
    """Return the name of the machine's time zone."""
    if name := os.environ.get("TZ", "").lstrip(":"):
        return name
    return os.path.realpath("/etc/localtime").partition("/zoneinfo/")[2] or "UTC"


def _prefect(environment: dict[str, str], *arguments: str) -> None:
    result = subprocess.run([sys.executable, "-m", "prefect", *arguments], env=environment, capture_output=True, text=True)
    if result.returncode:
        lines = (result.stdout + result.stderr).strip().splitlines()[-12:]
        problem = "\n".join([f"prefect {' '.join(arguments)} failed:", *lines])
        raise WorkspaceError(problem, "correct prefect.yaml, then `darkroom schedule start` again")


def _is_port_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _describe(process: dict[str, Any] | None, responds: bool, location: str) -> str:
    pid = f" (process {process['pid']})" if process and server.is_running(process) else ""
    return f"runs{pid}: {location}" if responds else f"does not respond{pid}" if pid else "does not run"


@click.command(cls=Command)
@click.argument("action", type=Choice(["start", "status", "stop", "server", "worker"]))
@click.option("--port", type=int, help=f"port of the server; default: {PORT}, or the next free one")
@json_option
def command(action: str, port: int | None, as_json: bool) -> int:
    """Start or stop the Prefect server and the worker of this folder, or print their status; `status` takes --json.

    `server` and `worker` become the server and the worker, for units of systemd.
    """
    if as_json and action != "status":
        raise click.UsageError("--json goes with status")
    if action == "server":
        run_server(port)
    elif action == "worker":
        run_worker()
    elif action != "status":
        with locks.hold(LOGS.with_name("schedule.lock")):
            if action == "stop":
                stop()
                return 0
            start(port)
    return status(as_json)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 0, 1 where server or worker do not run, or 2 for a mistake."""
    return run_command(command, "darkroom schedule", arguments)


if __name__ == "__main__":
    sys.exit(main())
