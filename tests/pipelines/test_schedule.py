"""The server and the worker of a folder, without starting them."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import make_url

from darkroom.core.errors import WorkspaceError
from pipelines import notifications, schedule, server, work_pool
from tests import servers


def test_a_reused_process_id_is_another_process():
    """A process counts as running only if it began when the state file says so."""
    process = {"pid": os.getpid(), "born": psutil.Process().create_time()}
    assert server.is_running(process)
    assert not server.is_running(process | {"born": time.time()})
    assert not server.is_running({"pid": 2**22 + 1, "born": 0.0})
    assert not server.is_running(None)


def test_the_time_zone_is_the_machines(monkeypatch):
    """TZ takes precedence over /etc/localtime; without both it is UTC."""
    monkeypatch.setenv("TZ", ":Europe/Lisbon")
    assert schedule._timezone() == "Europe/Lisbon"
    monkeypatch.delenv("TZ")
    monkeypatch.setattr(os.path, "realpath", lambda _: "/usr/share/zoneinfo/Asia/Kolkata")
    assert schedule._timezone() == "Asia/Kolkata"
    monkeypatch.setattr(os.path, "realpath", lambda _: "/etc/localtime")
    assert schedule._timezone() == "UTC"


def test_the_database_of_the_server_is_in_a_project_of_any_name(tmp_path, monkeypatch):
    """Where `?` is in the path, Prefect finds its database in the project, as elsewhere."""
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    for name in ("plain", 'it\'s "a"?#b\nc'):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        environment = schedule._environment("http://127.0.0.1:1/api")
        default = f"sqlite+aiosqlite:///{environment['PREFECT_HOME']}/prefect.db"
        url = environment.get("PREFECT_SERVER_DATABASE_CONNECTION_URL", default)
        assert make_url(url).database == str(tmp_path / name / ".prefect" / "prefect.db")


def test_a_run_whose_worker_died_runs_again_but_not_for_ever(monkeypatch):
    """It is rescheduled, crashes with a notification after the last attempt, and is cancelled if it was being
    cancelled.

    The tasks that it has left are Crashed.
    """
    unfinished = [("RUNNING", 1), ("PENDING", 0), ("RUNNING", work_pool.MAX_ATTEMPTS), ("CANCELLING", 1)]
    runs = [
        {"id": str(i), "name": f"run {i}", "flow_id": "f", "state_type": state, "run_count": count}
        for i, (state, count) in enumerate(unfinished)
    ]
    states, sent = {}, []

    def request(api, path, content=None):
        if path.endswith("set_state"):
            states[path.split("/")[1]] = content["state"]["type"]
            return None
        tasks = [{"id": "its task"}] if "0" in str(content) else []
        return {"flow_runs/filter": runs, "task_runs/filter": tasks}.get(path, {"name": "repro"})

    monkeypatch.setattr(server, "request", request)
    monkeypatch.setattr(notifications, "send", lambda *arguments: sent.append(arguments))
    work_pool.resume_runs("http://nowhere", "small")
    assert states == {"0": "SCHEDULED", "1": "SCHEDULED", "2": "CRASHED", "3": "CANCELLED", "its task": "CRASHED"}
    assert [arguments[:4] for arguments in sent] == [("repro", "run 2", "2", "Crashed")]


def test_a_failed_notification_is_reported(monkeypatch, capsys):
    """Where a channel fails, its variable and the reason are printed, and the other channel still works."""
    monkeypatch.setenv(notifications.COMMAND, "exit 3")
    monkeypatch.setenv(notifications.WEBHOOK, "no-address")
    notifications.send("repro", "run", "1", "Failed", "message")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(variable in line for variable, line in zip((notifications.COMMAND, notifications.WEBHOOK), lines, strict=True))


def test_a_failed_notification_names_no_secret(monkeypatch, capsys):
    """What is printed where a channel fails has neither the command nor the address, which may have a password or a token."""
    for command in ("exit 3 # pass123", "sleep 5 # pass123"):
        monkeypatch.setattr(notifications, "TIMEOUT", 0.2)
        monkeypatch.setenv(notifications.COMMAND, command)
        for address in ("pass123", "http://127.0.0.1:9/pass123\n", "http://me:pass123@127.0.0.1:9/", "file://nowhere/pass123"):
            monkeypatch.setenv(notifications.WEBHOOK, address)
            notifications.send("repro", "run", "1", "Failed", "message")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 16
    assert "pass123" not in "".join(lines)


@pytest.fixture(params=["silent", "drips", "drips a body"])
def silent(request) -> Iterator[str]:
    """Yield the address of a server that takes connections and never says anything, or a few bytes at a time for ever."""
    with servers.server(request.param) as address:
        yield f"http://{address}"


def test_a_silent_server_is_named(silent, monkeypatch, capsys):
    """A flow, `make schedule` and a notification wait for such a server for seconds, for its whole response, and then name it."""
    assert server.TIMEOUT <= 10
    monkeypatch.setattr(server, "TIMEOUT", 0.2)
    monkeypatch.setattr(server, "BUSY_TIMEOUT", 0.2)
    monkeypatch.setattr(notifications, "TIMEOUT", 0.2)
    monkeypatch.setenv(notifications.WEBHOOK, silent)
    began = time.monotonic()
    with pytest.raises(WorkspaceError, match=f"{silent}/api does not respond") as error:
        server.check_response(f"{silent}/api")
    assert error.value.retryable
    assert not server.is_healthy(f"{silent}/api")
    assert not server.is_open(f"{silent}/api")
    with pytest.raises(WorkspaceError, match="failed: "):
        server.request(f"{silent}/api", "flow_runs/1")
    notifications.send("repro", "run", "1", "Failed", "message")
    assert notifications.WEBHOOK in capsys.readouterr().err
    assert time.monotonic() - began < 45  # the server would go on for ever


def test_a_notification_of_a_drift_names_the_page(monkeypatch, tmp_path):
    """The text ends with the path of the page, and the command has it in a variable, to attach the file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(notifications.COMMAND, 'cat > text; printf %s "$DARKROOM_PAGE" > page')
    notifications.send("monitor", "run", "1", "Drifted", "message", page=Path("index.html"))
    assert Path("page").read_text() == str(tmp_path / "index.html")
    assert Path("text").read_text().endswith(f"message\nsee {tmp_path / 'index.html'}")


@pytest.mark.parametrize(("arguments", "fact"), [(["begin"], "start, status, stop"), (["start", "--port", "many"], "--port")])
def test_mistakes_have_a_remedy(arguments, fact, capsys):
    """An unknown action or an invalid port ends with exit code 2, and names what is valid."""
    assert schedule.main(arguments) == 2
    message = capsys.readouterr().err
    assert fact in message
    assert "remedy:" in message


def test_the_status_is_also_json(monkeypatch, tmp_path, capsys):
    """`status --json` has what the text has: the server, its workers, and each deployment with its next and its last run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(server, "read_state", lambda: {"api": "http://127.0.0.1:1/api"})
    monkeypatch.setattr(server, "is_healthy", lambda api: True)
    monkeypatch.setattr(server, "is_open", lambda api: False)
    monkeypatch.setattr(work_pool, "online_workers", lambda *_: ["w on h"])
    runs = [[], [{"expected_start_time": "2026-01-02T03:04:05Z", "state_name": "Completed"}]]
    deployment = {"id": "1", "name": "d", "flow_id": "2", "paused": True, "schedules": []}
    responses = {
        "deployments/filter": lambda: [deployment],
        "flows/2": lambda: {"name": "f"},
        "flow_runs/filter": lambda: runs.pop(0),
    }
    monkeypatch.setattr(server, "request", lambda api, path, content=None, method="": responses[path]())
    assert schedule.main(["status", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["server"]["address"] == "http://127.0.0.1:1"
    assert status["workers"] == ["w on h"]
    assert status["deployments"] == [
        {
            "name": "f/d",
            "paused": True,
            "schedules": [],
            "next_run": None,
            "last_run": "2026-01-02T03:04:05Z",
            "last_state": "Completed",
        }
    ]
    assert schedule.main(["stop", "--json"]) == 2
    assert "--json" in capsys.readouterr().err


def test_a_copy_of_the_project_does_not_own_the_processes_of_its_original(tmp_path, monkeypatch):
    """What `make schedule` started is known after the folder was renamed, and is not that of a copy, which would stop it."""
    original = tmp_path / "original"
    original.mkdir()
    monkeypatch.chdir(original)
    schedule._write_state({"api": "http://127.0.0.1:1/api", "worker": {"pid": 1}})
    state = server.read_state()
    assert state["worker"] == {"pid": 1}
    shutil.copytree(original, tmp_path / "copy")
    original.rename(tmp_path / "renamed")
    monkeypatch.chdir(tmp_path / "renamed")
    assert server.read_state() == state
    monkeypatch.chdir(tmp_path / "copy")
    assert server.read_state() == {}


def private(path: Path) -> bool:
    """Tell whether nobody but its owner can read a file."""
    return path.stat().st_mode & 0o077 == 0


def running(**fields):
    """Return this process as one that `make schedule` has started."""
    return {"pid": os.getpid(), "born": psutil.Process().create_time(), **fields}


def test_the_password_goes_to_the_own_server_alone(tmp_path, monkeypatch):
    """Clients log in to the server that runs here with its password; another address, or one where the own server has ended,
    gets none, and there the person's own variables count.
    """
    monkeypatch.chdir(tmp_path)
    own, foreign = "http://127.0.0.1:1/api", "https://prefect.example.org/api"
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:mine")
    for process, knows in ((running(api=own), True), (running(api=own, born=0.0), False), (running(), False)):
        schedule._write_state({"api": foreign, "server": process})
        server.password()
        assert server.credentials(own) == ({"PREFECT_API_AUTH_STRING": server.password()} if knows else {})
        assert server.credentials(foreign) == {}
    schedule._write_state({"server": running(api=own)})
    logins = [base64.b64decode(server._login(api)["Authorization"].split()[1]).decode() for api in (own, foreign)]
    assert logins == [server.password(), "me:mine"]
    monkeypatch.delenv("PREFECT_API_AUTH_STRING")
    assert server._login("https://me:mine@prefect.example.org/api")["Authorization"].startswith("Basic ")
    monkeypatch.setenv("PREFECT_API_KEY", "key")
    assert server._login(foreign) == {"Authorization": "Bearer key"}


def test_a_password_is_secret_and_lasts(tmp_path, monkeypatch):
    """Only its owner reads the password, also in the profile of `prefect`; it outlives the server, and a copy gets its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_API_URL", "")
    monkeypatch.setattr(schedule, "_is_port_taken", lambda port: False)
    _, arguments, environment = schedule._prepare_server(4321, {})
    password = server.password()
    assert environment["PREFECT_SERVER_API_AUTH_STRING"] == environment["PREFECT_API_AUTH_STRING"] == password
    assert environment["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:4321,http://localhost:4321"
    assert password not in " ".join(arguments)
    schedule._write_state({"server": running(api="http://127.0.0.1:4321/api")})
    schedule._write_profile("http://127.0.0.1:4321/api")
    profile = tomllib.loads(schedule.PROFILES.read_text())["profiles"]["darkroom"]
    assert profile["PREFECT_API_AUTH_STRING"] == profile["PREFECT_SERVER_API_AUTH_STRING"] == password
    assert all(map(private, (server.PASSWORD, schedule.PROFILES, schedule.PROFILES.parent, server.STATE)))
    schedule._prepare_server(4321, {"port": 4321})  # it was stopped
    assert server.password() == password
    schedule._prepare_server(4321, {})  # the state is that of another folder
    assert server.password() != password
    schedule._write_profile("https://prefect.example.org/api")
    assert tomllib.loads(schedule.PROFILES.read_text())["profiles"]["darkroom"] == {
        "PREFECT_API_URL": "https://prefect.example.org/api"
    }


def test_a_temporary_server_has_a_password(tmp_path, monkeypatch):
    """Where no server runs, the temporary one and its client get a password of their own, the same in processes below; with
    PREFECT_API_URL none is made up.
    """
    monkeypatch.chdir(tmp_path)
    names = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_PROFILE", *server.SETTINGS)
    for name in names:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.example.org/api")
    server.configure()
    assert "PREFECT_API_AUTH_STRING" not in os.environ
    assert os.environ["PREFECT_PROFILE"] == "ephemeral"  # not the one that has the password of the own server
    monkeypatch.delenv("PREFECT_API_URL")
    server.configure()
    password = os.environ["PREFECT_API_AUTH_STRING"]
    assert len(password) > 30
    server.configure()
    assert os.environ["PREFECT_SERVER_API_AUTH_STRING"] == os.environ["PREFECT_API_AUTH_STRING"] == password
    assert os.environ["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] != "*"


def test_a_server_of_an_older_version_is_replaced(tmp_path, monkeypatch, capsys):
    """A server that runs without a password, since an older version has started it, ends, and one with a password takes its
    port.
    """
    monkeypatch.chdir(tmp_path)
    old = "http://127.0.0.1:4321/api"
    schedule._write_state({"api": old, "port": 4321, "server": running(), "worker": running()})
    monkeypatch.setenv("PREFECT_API_URL", old)  # of `configure`, since it responds
    ended, started = [], []
    monkeypatch.setattr(schedule, "_end", lambda process: ended.append(process) or True)

    def launch(name, arguments, environment):
        started.append((name, arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(schedule, "_launch", launch)
    monkeypatch.setattr(schedule, "_is_port_taken", lambda port: False)
    with pytest.raises(KeyboardInterrupt):
        schedule.start(None)
    assert ended == [running(), running()]
    assert started == [("server", ["pipelines.prefect_server", "4321"])]
    assert "without a password" in capsys.readouterr().out


@pytest.mark.parametrize("of", [{}, {"api": "http://other/api"}, {"api": "http://this/api"}])
def test_a_worker_of_another_server_is_replaced(tmp_path, monkeypatch, of):
    """A worker that an older version has started, which knows no password, or that is for another server, ends, and one for this
    server starts; the worker of this server goes on."""
    monkeypatch.chdir(tmp_path)
    for name in ("online_workers", "resume_runs"):
        monkeypatch.setattr(work_pool, name, lambda *_: [])
    monkeypatch.setattr(schedule, "_launch", lambda *_: {"pid": 1, "born": 0.0})
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        schedule._write_state({"worker": schedule._identify(child.pid) | of})
        schedule._start_worker("http://this/api", "small", {})
        is_own = of == {"api": "http://this/api"}
        assert (child.poll() is None) == is_own
        worker = server.read_state()["worker"]
        assert (worker["pid"] == child.pid) == is_own
        assert worker["api"] == "http://this/api"
        child.kill()


def test_no_run_chooses_its_command(monkeypatch):
    """The pool's template takes neither the command nor the folder of a process from a run; what else is in it stays."""
    variables = {"env": {"default": {"A": "1"}}, "command": {}, "working_dir": {}}
    job = {name: f"{{{{ {name} }}}}" for name in variables}
    pool, patched = {"base_job_template": {"job_configuration": job, "variables": {"properties": variables}}}, []

    def request(api, path, content=None, method=""):
        if content:
            patched.append((path, method, content))
        return pool

    monkeypatch.setattr(server, "request", request)
    work_pool.fix_commands("http://nowhere", "small")
    template = {"job_configuration": {"env": "{{ env }}"}, "variables": {"properties": {"env": {"default": {"A": "1"}}}}}
    assert patched == [("work_pools/small", "PATCH", {"base_job_template": template})]
    work_pool.fix_commands("http://nowhere", "small")
    assert len(patched) == 1
