"""A Prefect server that several projects share, on PostgreSQL, and a machine that goes off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests import postgresql
from tests.pipelines.processes import wait_until
from tests.pipelines.projects import Project, create_project

pytestmark = pytest.mark.pipeline


def serve(project: Project, database: str, log: Path) -> subprocess.Popen[bytes]:
    """Start a server as docs/scheduling.md describes, and wait until it responds."""
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(project.port)]
    environment = project.environment | {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{database}", "PREFECT_HOME": str(log.parent / "server"),
    }  # fmt: skip
    with log.open("ab") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)

    def is_healthy() -> bool:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            return project.request("health", method="GET") is True
        except OSError:
            return False

    wait_until(is_healthy)
    return process


def test_runs_continue_after_a_reboot(tmp_path):
    """With PREFECT_API_URL only a worker is started, for a server that must respond. Server and worker, killed during a
    run, come back, and the run is repeated and completes. `stop` leaves the server alone.
    """
    if postgresql.PROGRAMS is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    project = create_project(tmp_path / "small")
    environment = {"PREFECT_API_URL": project.api}
    assert "remedy:" in project.run("pipelines.schedule", "start", code=2, **environment)
    with postgresql.database("prefect") as database:
        server = serve(project, database, tmp_path / "server.log")
        try:
            project.run("pipelines.schedule", "start", **environment)
            assert set(project.schedule_state()) == {"api", "worker", "folder"}
            project.prepare(left="hang")
            run_id = project.deploy_run("repro", targets=["left"])
            project.pids("left")
            worker = psutil.Process(project.schedule_state()["worker"]["pid"])
            processes = [worker, *worker.children(recursive=True)]
            for process in processes:  # the machine goes off
                process.kill()
            os.killpg(server.pid, signal.SIGKILL)
            psutil.wait_procs(processes, timeout=120)
            server.wait()
            project.prepare()
            server = serve(project, database, tmp_path / "server.log")
            assert project.state(run_id)[0] == "Running"
            unit = project.start("pipelines.schedule", "worker", **environment)  # as its unit of systemd does
            wait_until(lambda: project.state(run_id)[0] == "Completed")
            unit.terminate()
            assert "runs again" in unit.communicate(timeout=180)[0]
            assert project.ends("left") == 1
            project.run("pipelines.schedule", "stop", **environment)
            assert server.poll() is None
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()
