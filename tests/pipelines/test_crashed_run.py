"""What is done in the place of a flow run whose process was killed."""

from __future__ import annotations

import subprocess
import sys

from pipelines import crashed_run, server


def mark(monkeypatch, run: crashed_run.Run, requests) -> None:
    monkeypatch.setattr(server, "request", requests)
    monkeypatch.setattr(sys, "argv", crashed_run.command(run)[2:])
    crashed_run.main()


def test_a_killed_run_and_its_tasks_are_crashed(monkeypatch):
    """The unfinished tasks become Crashed, and the run where no worker sees that its process has ended."""
    crashed = []

    def request(api, path, content):
        if path.endswith("set_state"):
            crashed.append(path.removesuffix("/set_state"))
            assert content["state"]["type"] == "CRASHED"
        return [{"id": "task"}] if path == "task_runs/filter" else [{"id": "run"}]

    mark(monkeypatch, crashed_run.Run("run", "api", True, []), request)
    assert crashed == ["task_runs/task"]
    mark(monkeypatch, crashed_run.Run("run", "api", False, []), request)
    assert crashed[1:] == ["task_runs/task", "flow_runs/run"]


def test_the_temporary_server_of_a_killed_run_is_ended(monkeypatch):
    """The temporary server of the process is ended, also where it does not respond, and no other process."""
    child = [sys.executable, "-c", "input()"]
    with (
        subprocess.Popen([*child, crashed_run.TEMPORARY_SERVER], stdin=subprocess.PIPE) as temporary,
        subprocess.Popen(child, stdin=subprocess.PIPE) as other,
    ):
        run = crashed_run.describe("run", "http://127.0.0.1:1/api", has_worker=False)
        assert [pid for pid, _ in run.servers] == [temporary.pid]
        mark(monkeypatch, crashed_run.Run(run.flow_run_id, run.api, False, [(other.pid, 0.0), *run.servers]), server.request)
        assert temporary.wait(60) != 0
        assert other.poll() is None
