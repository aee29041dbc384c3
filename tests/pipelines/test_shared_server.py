"""A Prefect server that several projects share, on PostgreSQL, and a machine that goes off."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests import postgresql
from tests.pipelines.processes import wait_until
from tests.pipelines.projects import Project, fill_project

pytestmark = pytest.mark.pipeline
PASSWORD = "team:its password"


def serve(project: Project, database: str, log: Path) -> subprocess.Popen[bytes]:
    """Start a server as docs/scheduling.md describes; `await_server` waits until it responds."""
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(project.port)]
    environment = project.environment | {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{database}", "PREFECT_HOME": str(log.parent / "server"),
        "PREFECT_SERVER_API_AUTH_STRING": PASSWORD, "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    }  # fmt: skip
    with log.open("ab") as file:
        return subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)


def await_server(project: Project, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server responds."""

    def is_healthy() -> bool:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            return project.request("health", method="GET") is True
        except OSError:
            return False

    wait_until(is_healthy)


def test_runs_continue_after_a_reboot(tmp_path):
    """With PREFECT_API_URL only a worker is started, for a server that must respond, with the person's password for it. Server
    and worker, killed during a run, come back, and the run is repeated and completes. `stop` leaves the server alone.
    """
    if postgresql.PROGRAMS is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    (tmp_path / "small").mkdir()
    project, log = Project(tmp_path / "small"), tmp_path / "server.log"
    with postgresql.database("prefect") as database:
        server = serve(project, database, log)  # it migrates its database while the project is made
        try:
            fill_project(project)
            project.environment["PREFECT_API_URL"] = "http://127.0.0.1:9/api"  # where nobody responds
            assert "remedy:" in project.schedule("start", code=2)
            project.environment["PREFECT_API_URL"] = project.api
            await_server(project, server, log)
            assert "remedy: set PREFECT_API_AUTH_STRING" in project.schedule("start", code=2)
            project.environment["PREFECT_API_AUTH_STRING"] = PASSWORD
            project.request("work_pools/", name="small", type="process")  # a pool that exists is used
            project.schedule("start")
            assert set(project.schedule_state()) == {"api", "worker", "folder"}
            assert PASSWORD not in (project.folder / ".prefect" / "profiles.toml").read_text()
            project.prepare(left="hang")
            run_id = project.deploy_run("repro", targets=["left"])
            project.pids("left")
            worker = psutil.Process(project.schedule_state()["worker"]["pid"])
            processes = [worker, *worker.children(recursive=True)]
            for process in processes:  # the machine goes off
                with contextlib.suppress(psutil.NoSuchProcess):  # it ended with the one before
                    process.kill()
            os.killpg(server.pid, signal.SIGKILL)
            psutil.wait_procs(processes, timeout=120)
            server.wait()
            project.prepare()
            server = serve(project, database, log)
            await_server(project, server, log)
            assert project.state(run_id)[0] == "Running"
            unit = project.start("pipelines.schedule", "worker")  # as its unit of systemd does
            wait_until(lambda: project.state(run_id)[0] == "Completed")
            unit.terminate()
            assert "runs again" in unit.communicate(timeout=180)[0]
            assert project.ends("left") == 1
            project.schedule("stop")
            assert server.poll() is None
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()
