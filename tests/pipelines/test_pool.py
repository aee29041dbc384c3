"""Stages on other machines: a real server, workers with clones of their own, a bare repository and a folder as DVC's remote."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from pipelines import flow_runtime, pool_runs, pool_setup
from tests.pipelines.processes import wait_until
from tests.pipelines.projects import Project, fill_project

pytestmark = pytest.mark.team

PASSWORD = "team:its password"
SERVER = {"PREFECT_SERVER_API_AUTH_STRING": PASSWORD, "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true"}
GRAPH = """\
stages:
  data:
    cmd: python step.py data input.txt
    deps: [step.py, input.txt]
    outs:
      - data.txt: {persist: true}
  left:
    cmd: python step.py left data.txt
    deps: [step.py, data.txt]
    outs: [left.txt]
  mine:
    cmd: python step.py mine mine.in
    deps: [step.py, mine.in]
    outs: [mine.txt]
  both:
    cmd: python step.py both left.txt mine.txt
    deps: [step.py, left.txt, mine.txt]
    outs:
      - both.txt: {cache: false}
"""
REMOTE = """\
[core]
    analytics = false
    remote = store
['remote "store"']
    url = {}
"""
# $SHARED is what one sees of all machines: who began and who ended, and `NAME.hangs` while a step must not end
STEP = """\
import os, pathlib, sys, time
shared, name = pathlib.Path(os.environ["SHARED"]), sys.argv[1]
note = lambda what: (shared / f"{name}.{what}").open("a").write(os.getcwd() + "\\n")
note("begins")
deadline = time.monotonic() + 300
while (shared / f"{name}.hangs").exists() and time.monotonic() < deadline:
    time.sleep(0.05)
pathlib.Path(f"{name}.txt").write_text("".join(pathlib.Path(path).read_text() for path in sys.argv[2:]))
note("ends")
"""
# a flow that takes a worker for dead after one heartbeat and a half: a killed one may leave its run in the state Running
IMPATIENT = """
import sys
from pipelines import command_line, pool_runs
from pipelines.repro import repro
pool_runs.SILENCE = 45
sys.exit(command_line.main(repro, ["--pool", "machines"]))
"""


@pytest.fixture
def project(tmp_path):
    """A project with a bare repository and a folder as remotes, and a server with a password."""
    project = Project(tmp_path / "project")
    project.folder.mkdir()
    shared = tmp_path / "shared"
    shared.mkdir()
    project.environment |= {
        "PREFECT_API_URL": project.api, "PREFECT_API_AUTH_STRING": PASSWORD, "SHARED": str(shared),
        "PREFECT_HOME": str(tmp_path / "home"),
    }  # fmt: skip
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(project.port)],
            env=project.environment | SERVER, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        fill_project(project)
        (project.folder / "dvc.yaml").write_text(GRAPH)
        (project.folder / "step.py").write_text(STEP)
        (project.folder / ".dvc" / "config").write_text(REMOTE.format(tmp_path / "store"))
        project.git("commit", "-qam", "a graph")
        project.git("init", "-q", "--bare", str(tmp_path / "remote.git"))
        project.git("remote", "add", "origin", str(tmp_path / "remote.git"))
        (project.folder / "input.txt").write_text("changed, and not committed ")
        (project.folder / "mine.in").write_text("in no commit")
        yield project
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def lines(project: Project, name: str) -> list[str]:
    """Return the folders in which a step has begun or ended."""
    file = Path(project.environment["SHARED"], name)
    return file.read_text().splitlines() if file.exists() else []


def is_up(project: Project) -> bool:
    try:
        return project.request("health", method="GET") is True
    except OSError:
        return False


def test_stages_run_on_other_machines(project, tmp_path):
    """Stages run where workers are, with uncommitted changes; those that need or write a file of this folder alone run here.

    A worker is killed amid a stage: another one takes it over, nothing else runs twice, and dvc.lock is that of `dvc repro`. What
    the remote has is not run again. The stages of a commit that is retrained run there, too.
    """
    wait_until(lambda: is_up(project))
    workers = {
        str(tmp_path / name): project.start("pipelines.pool_worker", "machines", "--folder", str(tmp_path / name))
        for name in ("alpha", "beta")
    }  # fmt: skip
    try:
        online = {"status": {"any_": ["ONLINE"]}}
        wait_until(lambda: is_made(project) and len(project.request("work_pools/machines/workers/filter", workers=online)) == 2)
        hangs = Path(project.environment["SHARED"], "left.hangs")
        hangs.touch()
        flow = subprocess.Popen(
            [sys.executable, "-c", IMPATIENT], cwd=project.folder, env=project.environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        wait_until(lambda: lines(project, "left.begins"))
        killed = next(folder for folder in workers if lines(project, "left.begins")[0].startswith(folder))
        workers[killed].kill()
        wait_until(lambda: len(lines(project, "left.begins")) == 2)
        hangs.unlink()
        output = flow.communicate(timeout=180)[0]
        assert flow.returncode == 0, output[-4000:]
        assert "another one takes it over" in output
        assert [line.startswith(killed) for line in lines(project, "left.begins")] == [True, False]
        assert all(len(lines(project, f"{name}.ends")) == 1 for name in ("data", "left", "mine", "both"))
        assert lines(project, "mine.ends") == lines(project, "both.ends") == [str(project.folder)]
        assert not any(line.startswith(str(project.folder)) for line in lines(project, "data.ends"))
        assert (project.folder / "both.txt").read_text() == "changed, and not committed in no commit"
        deployment = project.deployments()["stage", "machines"]
        assert deployment["path"] is None
        assert "/" not in deployment["entrypoint"]
        assert deployment["job_variables"]["env"] == {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(pool_setup.HEARTBEAT)}
        assert 3 * pool_setup.HEARTBEAT < pool_runs.SILENCE
        assert project.git("ls-remote", "origin") == ""
        lock = locked(project)
        project.git("clean", "-qfdx", "--exclude=src", "--exclude=pipelines", "--exclude=mine.in")
        project.git("clean", "-qfdX", ".dvc")
        with project.default_server():
            assert "2 of 4 stages ran: mine, both" in project.flow("repro", "--pool", "machines")
        assert all(len(lines(project, f"{name}.ends")) == 1 for name in ("data", "left"))
        assert locked(project) == lock
        project.run("dvc", "repro", "--force", "--quiet")
        assert locked(project) == lock

        (project.folder / "input.txt").write_text("committed ")
        project.git("add", "mine.in")
        project.git("commit", "-qam", "another input")
        with project.default_server():
            assert "ran: data, left, both; reason" in project.flow("retrain", "--pool", "machines")
        ended = {name: lines(project, f"{name}.ends")[-1] for name in ("data", "left", "both")}
        assert [path.startswith(str(project.folder)) for path in ended.values()] == [False, False, True]
        assert (project.folder / ".darkroom/worktrees/retrain/both.txt").read_text() == "committed in no commit"
        assert locked(project) == lock
        assert project.git("ls-remote", "origin") == ""
    finally:
        for worker in workers.values():
            worker.terminate()
            worker.communicate()


def test_an_interrupted_flow_ends_without_its_server(project):
    """A flow that waits for a pool, whose server has died, ends on SIGTERM in `END_TIMEOUT`, with the exit code of one that was
    interrupted, and its stage with it; Prefect's clients alone would wait for minutes."""
    wait_until(lambda: is_up(project))
    project.request("work_pools/", name="machines", type="process")
    project.request("work_pools/machines/workers/heartbeat", name="one that takes nothing", heartbeat_interval_seconds=600)
    hangs = Path(project.environment["SHARED"], "mine.hangs")
    hangs.touch()
    flow = project.start("pipelines.repro", "--pool", "machines")
    try:
        wait_until(lambda: lines(project, "mine.begins"))
        output = iter(flow.stdout or ())
        assert any("data is the flow run" in line for line in output)
        children = psutil.Process(flow.pid).children(recursive=True)
        for process in psutil.process_iter(["cmdline"]):
            if str(project.port) in (process.info["cmdline"] or ()):
                process.kill()
        wait_until(lambda: not is_up(project))
        flow.terminate()
        interrupted = time.monotonic()
        rest = "".join(output)
        assert flow.wait(180) == flow_runtime.INTERRUPTED
        assert time.monotonic() - interrupted < flow_runtime.END_TIMEOUT + 30
        assert "ended without the Prefect server" in rest
        assert "Traceback" not in rest
        assert psutil.wait_procs(children, timeout=60)[1] == []
        assert not lines(project, "mine.ends")
    finally:
        flow.kill()


def locked(project: Project) -> dict[str, Any]:
    """Return the content of dvc.lock; the order of its stages is that in which they ended."""
    content: dict[str, Any] = yaml.safe_load((project.folder / "dvc.lock").read_text())
    return content


def is_made(project: Project) -> bool:
    return any(pool["name"] == "machines" for pool in project.request("work_pools/filter"))
