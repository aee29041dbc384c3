"""The server and the worker of a folder, without starting them."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import psutil
import pytest

from pipelines import notifications, schedule, server


def test_a_reused_process_id_is_another_process():
    """A process counts as running only if it began when the state file says so."""
    process = {"pid": os.getpid(), "born": psutil.Process().create_time()}
    assert schedule._is_running(process)
    assert not schedule._is_running(process | {"born": time.time()})
    assert not schedule._is_running({"pid": 2**22 + 1, "born": 0.0})
    assert not schedule._is_running(None)


def test_the_time_zone_is_the_machines(monkeypatch):
    """TZ takes precedence over /etc/localtime; without both it is UTC."""
    monkeypatch.setenv("TZ", ":Europe/Lisbon")
    assert schedule._timezone() == "Europe/Lisbon"
    monkeypatch.delenv("TZ")
    monkeypatch.setattr(os.path, "realpath", lambda _: "/usr/share/zoneinfo/Asia/Kolkata")
    assert schedule._timezone() == "Asia/Kolkata"
    monkeypatch.setattr(os.path, "realpath", lambda _: "/etc/localtime")
    assert schedule._timezone() == "UTC"


def test_a_run_whose_worker_died_runs_again_but_not_for_ever(monkeypatch):
    """It is rescheduled, crashes with a notification after the last attempt, and is cancelled if it was being
    cancelled.

    The tasks that it has left are Crashed.
    """
    unfinished = [("RUNNING", 1), ("PENDING", 0), ("RUNNING", schedule.MAX_ATTEMPTS), ("CANCELLING", 1)]
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
    schedule._resume_runs("http://nowhere", "small")
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
