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
from tests.pipelines.test_flows import Project, small, until

pytestmark = pytest.mark.pipeline


def serve(project: Project, database: str, log: Path) -> subprocess.Popen[bytes]:
    """Start a server as docs/scheduling.md says, and wait until it answers."""
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(project.port)]
    environment = project.environment | {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{database}", "PREFECT_HOME": str(log.parent / "server"),
    }  # fmt: skip
    with log.open("ab") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)

    def answers() -> bool:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            return project.asked("health", method="GET") is True
        except OSError:
            return False

    until(answers, 120)
    return process


def test_after_a_reboot_everything_goes_on(tmp_path):
    """Server and worker, killed in the middle of a run, come back, and the run that was cut off runs again to its end."""
    if postgresql.PROGRAMS is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    project = small(tmp_path / "small")
    shared = {"PREFECT_API_URL": project.api}
    with postgresql.database("prefect") as database:
        server = serve(project, database, tmp_path / "server.log")
        try:
            assert "worker     runs" in project.run("pipelines.schedule", "start", **shared)
            first = project.deployed("repro")
            until(lambda: project.state(first)[0] == "Completed", 120)
            project.how(left="sleep 300")
            cut = project.deployed("repro")
            until(lambda: (project.place / "log" / "left.pid").exists(), 120)
            worker = psutil.Process(int(project.known()["worker"]["pid"]))
            gone = [worker, *worker.children(recursive=True)]
            for process in gone:  # the machine goes off
                process.kill()
            os.killpg(server.pid, signal.SIGKILL)
            psutil.wait_procs(gone, timeout=20)
            server.wait()
            project.how()
            server = serve(project, database, tmp_path / "server.log")
            assert project.state(cut)[0] == "Running"
            back = project.start("pipelines.schedule", "worker", **shared)  # as its unit does
            until(lambda: project.state(cut)[0] == "Completed", 120)
            assert "stages ran" in project.state(cut)[1]
            back.terminate()
            assert "its worker ended, it runs again" in back.communicate(timeout=60)[0]
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()
