"""The runs of a study on other machines: a real server, two workers, one of which is killed, and MLflow."""

from __future__ import annotations

import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.pipelines.processes import is_alive, wait_until
from tests.pipelines.projects import Project
from tests.pipelines.test_pool import is_made, is_up, lines, project  # noqa: F401
from tests.studies.conftest import SETTINGS, TINY, contents, write_images

pytestmark = pytest.mark.team

# what a machine does when it begins a job: it notes its folder and its process, and hangs while no job shall end
NOTES = """\
import os, pathlib, sys, time
if "study-member" in sys.orig_argv:
    shared, job = pathlib.Path(os.environ["SHARED"]), pathlib.Path(sys.orig_argv[-1]).stem
    with (shared / f"{job}.begins").open("a") as file:
        file.write(f"{os.getcwd()} {os.getpid()}\\n")
    deadline = time.monotonic() + 300
    while (shared / "hangs").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
"""
STUDY = ("study", "cnn", "--size", "smoke", "--json")


def test_the_runs_of_a_study_are_trained_on_other_machines(project, tmp_path):  # noqa: F811
    """Images of a file of this folder go there, each job runs once, but for that of a killed worker, which another one takes over.

    The results have the bytes of a local run, MLflow has one run a member, and a second machine trains nothing.
    """
    prepare(project, tmp_path)
    shared = Path(project.environment["SHARED"])
    wait_until(lambda: is_up(project))
    workers = {
        str(tmp_path / name): project.start("pipelines.pool_worker", "machines", "--folder", str(tmp_path / name))
        for name in ("alpha", "beta")
    }  # fmt: skip
    processes = list(workers.values())
    try:
        online = {"status": {"any_": ["ONLINE"]}}
        wait_until(lambda: is_made(project) and len(project.request("work_pools/machines/workers/filter", workers=online)) == 2)
        (shared / "hangs").touch()
        study = start(project, "--pool", "machines", DARKROOM_TRACKING="")
        processes.append(study)
        wait_until(lambda: len(begun(shared)) == 2)
        job, (attempt,) = next(iter(begun(shared).items()))
        killed = next(name for name in workers if attempt.startswith(name))
        workers[killed].kill()
        wait_until(lambda: not is_alive(int(attempt.split()[-1])))
        (shared / "hangs").unlink()
        output, notices = study.communicate(timeout=600)
        assert study.returncode == 0, notices[-4000:]
        assert "another one takes it over" in notices
        attempts = begun(shared)
        assert [line.startswith(killed) for line in attempts.pop(job)] == [True, False]
        assert len(attempts) == 2
        assert all(len(folders) == 1 and not folders[0].startswith(str(project.folder)) for folders in attempts.values())
        assert project.git("ls-remote", "origin") == ""
        assert project.git("status", "--porcelain", "dvc.yaml", "dvc.lock") == ""
        results = contents(project.folder / "studies/results/cnn")
        project.run("darkroom", "sync", DARKROOM_TRACKING="")
        assert members(project) == 9

        for name in (".darkroom/studies", "studies/results"):
            shutil.rmtree(project.folder / name)
        again, notices = start(project, "--pool", "machines").communicate(timeout=600)
        assert again == output
        assert "0 of 3 jobs ran" in notices
        assert contents(project.folder / "studies/results/cnn") == results
        assert len(begun(shared)) == 3

        for name in (".darkroom/studies", "studies/results"):
            shutil.rmtree(project.folder / name)
        assert start(project).communicate(timeout=600)[0] == output
        assert contents(project.folder / "studies/results/cnn") == results
    finally:
        for process in processes:
            process.terminate()
            process.communicate()


def test_a_flow_has_the_runs_of_its_studies_trained_there(project, tmp_path):  # noqa: F811
    """`darkroom flow study --pool` runs a study here, and its runs on the worker; dvc.lock has the command as it is."""
    prepare(project, tmp_path)
    studies = project.folder / "studies"
    command = f"cd .. && python -m darkroom {' '.join(STUDY)} --set {shlex.join([*TINY, *SETTINGS['cnn']])}"
    stage = {"matrix": {"name": ["cnn"]}, "cmd": command, "outs": ["results/${item.name}"]}
    (studies / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"study": stage}}))
    (studies / ".dvc").mkdir()
    shutil.copy(ROOT / "studies/.dvc/config", studies / ".dvc")
    shared, folder = Path(project.environment["SHARED"]), tmp_path / "alpha"
    wait_until(lambda: is_up(project))
    assert "no work pool machines" in project.run("pipelines.study", "cnn", "--pool", "machines", code=2)
    worker = project.start("pipelines.pool_worker", "machines", "--folder", str(folder))
    try:
        online = {"status": {"any_": ["ONLINE"]}}
        wait_until(lambda: is_made(project) and project.request("work_pools/machines/workers/filter", workers=online))
        flow = project.start("pipelines.study", "cnn", "--pool", "machines")
        output = flow.communicate(timeout=600)[0]
        assert flow.returncode == 0, output[-4000:]
        assert "1 of 1 stages ran: study@cnn" in output
        assert len(begun(shared)) == 3
        assert all(line.startswith(str(folder)) for attempts in begun(shared).values() for line in attempts)
        assert yaml.safe_load((studies / "dvc.lock").read_text())["stages"]["study@cnn"]["cmd"] == command
        assert (studies / "results/cnn/index.html").exists()
    finally:
        worker.terminate()
        worker.communicate()


def prepare(project: Project, tmp_path: Path) -> None:  # noqa: F811
    """Put a study and its images into the project, and what notes where jobs begin into the environment."""
    (project.folder / "studies").mkdir()
    shutil.copy(ROOT / "studies/params.yaml", project.folder / "studies")
    write_images(project.folder)
    for file, line, changed in (
        ("pipelines/pool_runs.py", "SILENCE = 120.0", "SILENCE = 45.0"),
        ("src/darkroom/studies/jobs.py", "WORK = 1e12", "WORK = 1.7e6"),  # three of these runs
    ):
        text = (project.folder / file).read_text()
        assert line in text
        (project.folder / file).write_text(text.replace(line, changed))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/sitecustomize.py").write_text(NOTES)
    project.environment["PYTHONPATH"] += f":{tmp_path / 'notes'}"


def start(project: Project, *options: str, **environment: str) -> subprocess.Popen[str]:  # noqa: F811
    command = [sys.executable, "-m", "darkroom", *STUDY, *options, "--set", *TINY, *SETTINGS["cnn"]]
    return subprocess.Popen(
        command,
        cwd=project.folder,
        env=project.environment | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def begun(shared: Path) -> dict[str, list[str]]:
    """Return the folders and processes in which each job has begun."""
    return {file.stem: file.read_text().splitlines() for file in sorted(shared.glob("*.begins"))}


def members(project: Project) -> int:  # noqa: F811
    """Return the number of MLflow's runs that are members of a study."""
    with sqlite3.connect(project.folder / "mlflow.db") as database:
        (count,) = database.execute("select count(*) from tags where key = 'mlflow.parentRunId'").fetchone()
    return int(count)
