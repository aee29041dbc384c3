"""What is done in the place of a flow's process that was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from pipelines import crashed_run, process_watcher, server

SLEEP = [sys.executable, "-c", "input()"]


@pytest.mark.parametrize("has_worker", [True, False])
def test_a_killed_run_and_its_tasks_are_crashed(has_worker, monkeypatch):
    """The unfinished tasks become Crashed, and the run where no worker sees that its process has ended."""
    crashed = []

    def request(api, path, content):
        assert api == "api"
        if path.endswith("set_state"):
            crashed.append(path.removesuffix("/set_state"))
            assert content["state"]["type"] == "CRASHED"
        return [{"id": "task"}] if path == "task_runs/filter" else [{"id": "run"}]

    monkeypatch.setattr(server, "request", request)
    monkeypatch.setattr(sys, "argv", crashed_run.mark_command("api/", "run", has_worker)[2:])
    crashed_run.main()
    assert crashed == ["task_runs/task", *([] if has_worker else ["flow_runs/run"])]


def test_the_password_of_a_server_is_no_argument(monkeypatch):
    """The command that marks a run has the server's address without a password, which it finds in the environment."""
    asked = []
    monkeypatch.setattr(server, "request", lambda api, path, content: asked.append(api) or [])
    monkeypatch.setenv("PREFECT_API_URL", "http://me:pass123@host/api/")
    command = crashed_run.mark_command("http://me:pass123@host/api/", "run", has_worker=False)
    assert "pass123" not in " ".join(command)
    monkeypatch.setattr(sys, "argv", command[2:])
    crashed_run.main()
    assert set(asked) == {"http://me:pass123@host/api"}


def test_the_temporary_server_of_a_killed_process_is_ended(monkeypatch):
    """The temporary server of the process is ended, when the run is marked, and no other one, nor another process."""
    owned = os.environ | {crashed_run.OWNER: "1"}
    words = [(crashed_run.TEMPORARY_SERVER, owned), (crashed_run.TEMPORARY_SERVER, os.environ), ("", owned)]
    children = [subprocess.Popen([*SLEEP, word], env=environment, stdin=subprocess.PIPE) for word, environment in words]
    marking = subprocess.Popen([*SLEEP, process_watcher.__file__], env=owned, stdin=subprocess.PIPE)
    monkeypatch.setattr(sys, "argv", crashed_run.command("end-servers", "1")[2:])
    ending = threading.Thread(target=crashed_run.main)
    try:
        ending.start()
        ending.join(0.3)
        assert children[0].poll() is None
        marking.communicate(b"\n")
        ending.join(60)
        assert children[0].wait(60) != 0
        assert [child.poll() for child in children[1:]] == [None, None]
    finally:
        for child in children:
            child.kill()
            child.communicate()
