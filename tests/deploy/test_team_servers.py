"""Two people and two projects against MLflow and Prefect as deploy/ starts them: users, S3, PostgreSQL, a GPU that is shared, a
machine that goes off."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image

from tests import postgresql
from tests.conftest import ROOT
from tests.pipelines.processes import wait_until
from tests.pipelines.projects import Project, create_project
from tests.tracking.clones import make_clones
from tests.tracking.test_registry import checkpoint, pack

if postgresql.PROGRAMS is None:
    pytest.skip("PostgreSQL is not installed: apt-get install postgresql", allow_module_level=True)
for library in ("flask_wtf", "boto3", "moto"):
    pytest.importorskip(library, reason="the extras dev and s3 are not installed")

from tests.deploy.people import Person, run_pipeline  # noqa: E402
from tests.deploy.team_servers import BUCKET, SECRETS, Team, bucket_client, started  # noqa: E402

pytestmark = pytest.mark.team
REGISTER = """
import sys
from pathlib import Path
from darkroom.models import weight_files
from darkroom.tracking import registry
folder, package = map(Path, sys.argv[1:])
version = registry.register("team", folder, package, weight_files.checkpoint_digest(folder), {registry.MODEL: "baseline"}, "")
registry.promote("team", version.version, "it is good")
print(version.version)
"""


@pytest.fixture(scope="module")
def team(tmp_path_factory) -> Iterator[Team]:
    with started(tmp_path_factory.mktemp("team")) as team:
        yield team


def write_package(model: Path, package: Path) -> None:
    (package / "evaluation").mkdir(parents=True)
    (package / "evaluation" / "trained-on.txt").write_text("1")  # a bucket has no empty folders
    pack(model, package)


@pytest.fixture(scope="module")
def people(team, tmp_path_factory) -> list[Person]:
    """Return two people with a clone each, in which a pipeline has run; the first has registered a champion."""
    place = tmp_path_factory.mktemp("people")
    clones = make_clones(place, ("0.001", "0.002"), team.environment)
    people = [Person(team, name, folder) for name, folder in zip(("alice", "bob"), clones, strict=True)]
    model, package = checkpoint(place / "model", 1), place / "package"
    write_package(model, package)
    for person in people:
        settings = (ROOT / "params.yaml").read_text().replace("  name: darkroom", "  name: team")
        (person.folder / "params.yaml").write_text(settings)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(run_pipeline, people))
    assert people[0].run("-c", REGISTER, str(model), str(package)).splitlines()[-1] == "1"
    return people


def check_runs(client: MlflowClient, runs: Iterable[Run]) -> None:
    """Check that each of two pipelines has a parent of its own with its own stages, all their epochs and their artifacts."""
    assert {run.info.status for run in runs} == {"FINISHED"}
    pipelines = {run.data.tags["darkroom.pipeline"] for run in runs}
    assert len(pipelines) == 2
    rates = set()
    for pipeline in pipelines:
        stages = {run.data.tags["darkroom.stage"]: run for run in runs if run.data.tags["darkroom.pipeline"] == pipeline}
        assert sorted(stages) == ["augment", "baseline", "ingest", "pipeline"]
        parent = stages.pop("pipeline").info.run_id
        assert {run.data.tags["mlflow.parentRunId"] for run in stages.values()} == {parent}
        (rate,) = {run.data.params["baseline.lr"] for run in stages.values()}
        rates.add(rate)
        for stage, run in stages.items():
            history = client.get_metric_history(run.info.run_id, "val_loss")
            assert [metric.value for metric in history] == [float(rate) / epoch for epoch in (1, 2, 3)]
            (artifact,) = client.list_artifacts(run.info.run_id)
            assert artifact.file_size == len(f"{stage} {rate}")
    assert rates == {"0.001", "0.002"}


def test_two_users_share_runs_and_models(team, people, monkeypatch):
    """Two pipelines of two users of MLflow, run at once, neither lose nor mix runs of their experiment; files are in the bucket,
    and each sees and uses the other's champion, without a key of the bucket."""
    alice, bob = people
    assert not any(key.startswith("AWS_") for key in bob.environment)
    for key, value in bob.login.items():
        monkeypatch.setenv(key, value)
    client = MlflowClient(team.mlflow)
    (experiment,) = [item for item in client.search_experiments() if item.name == "darkroom"]
    check_runs(client, client.search_runs([experiment.experiment_id]))
    keys = [item["Key"] for item in bucket_client(team.bucket).list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert any(key.startswith("mlflow/") and key.endswith("model.safetensors") for key in keys)
    assert "champion" in bob.darkroom("models")
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (90, 120, 3), np.uint8)).save(bob.folder / "photo.jpg")
    assert "version 1 of team" in bob.darkroom("predict", "photo.jpg")
    model, package = checkpoint(bob.folder / "model", 2), bob.folder / "package"
    write_package(model, package)
    assert bob.run("-c", REGISTER, str(model), str(package)).splitlines()[-1] == "2"
    assert "2 challenger champion" in alice.darkroom("models")


def test_a_wrong_password_is_one_sentence(people):
    """A password that MLflow refuses ends a command with its remedy and code 2, also while an uploader with the right one runs,
    and loses no run."""
    alice, _ = people
    (alice.folder / "lr").write_text("0.5")
    alice.run("-m", "dvc", "repro", "-q", MLFLOW_TRACKING_PASSWORD="wrong")
    for command in (("models",), ("promote", "1")):
        output = alice.darkroom(*command, code=2, MLFLOW_TRACKING_PASSWORD="wrong")
        assert "refuses this user or password" in output
        assert "remedy: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in output
        assert "Traceback" not in output
    alice.darkroom("sync")
    assert not list((alice.folder / ".darkroom").glob("damaged/*"))
    assert not list((alice.folder / ".darkroom" / "journal").glob("*/record.jsonl"))


@pytest.fixture(scope="module")
def clones(team, tmp_path_factory) -> list[Project]:
    """Return two clones that share a GPU, with the password of the team's Prefect."""
    projects = [create_project(tmp_path_factory.mktemp(name) / name) for name in ("one", "two")]
    for project in projects:
        project.api = f"{team.prefect}/api"
        project.environment |= {
            "PREFECT_API_URL": project.api, "PREFECT_API_AUTH_STRING": SECRETS["PREFECT_AUTH_STRING"],
            "DARKROOM_CONCURRENCY_LIMIT": "gpu-0",
        }  # fmt: skip
    return projects


def test_stages_of_two_clones_share_a_gpu(clones):
    """While a stage of one clone holds the only slot of the limit, that of another waits, says so, and starts when the slot is
    free. Without the limit on the server, and with a wrong password, a flow is refused before a stage runs."""
    one, two = clones
    assert "remedy: set PREFECT_API_AUTH_STRING" in one.run("darkroom", "flow", "repro", code=2, PREFECT_API_AUTH_STRING="a:b")
    assert "prefect global-concurrency-limit create gpu-0" in one.run("darkroom", "flow", "repro", code=2)
    one.run("prefect", "global-concurrency-limit", "create", "gpu-0", "--limit", "1")
    one.prepare(left="hang")
    two.prepare()
    first = one.start("darkroom", "flow", "repro", "left")
    one.pids("left")
    second = two.start("darkroom", "flow", "repro", "left")
    assert "gpu-0" in next(line for line in second.stdout or [] if "waits: all slots" in line)
    assert not (two.folder / "log" / "left.started").exists()
    one.open_gate("left")
    for process in (first, second):
        output, _ = process.communicate(timeout=180)
        assert process.returncode == 0, output
    assert one.ends("left") == two.ends("left") == 1


def test_runs_continue_after_a_reboot(team, tmp_path):
    """With PREFECT_API_URL only a worker is started, for a server that must respond, with the person's password for it. Server
    and worker, killed during a run, come back, and the run is repeated and completes. `stop` leaves the server alone.
    """
    project = create_project(tmp_path / "small")
    project.environment["PREFECT_API_URL"] = "http://127.0.0.1:9/api"  # where nobody responds
    assert "remedy:" in project.schedule("start", code=2)
    project.api = project.environment["PREFECT_API_URL"] = f"{team.prefect}/api"
    assert "remedy: set PREFECT_API_AUTH_STRING" in project.schedule("start", code=2)
    password = project.environment["PREFECT_API_AUTH_STRING"] = SECRETS["PREFECT_AUTH_STRING"]
    project.request("work_pools/", name="small", type="process")  # a pool that exists is used
    project.schedule("start")
    assert set(project.schedule_state()) == {"api", "worker", "folder"}
    assert password not in (project.folder / ".prefect" / "profiles.toml").read_text()
    project.prepare(left="hang")
    run_id = project.deploy_run("repro", targets=["left"])
    project.pids("left")
    worker = psutil.Process(project.schedule_state()["worker"]["pid"])
    processes = [worker, *worker.children(recursive=True)]
    for process in processes:  # the machine goes off
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended with the one before
            process.kill()
    team.stop("prefect", signal.SIGKILL)
    psutil.wait_procs(processes, timeout=120)
    project.prepare()
    team.start("prefect")
    team.await_response("prefect", "/api/health")
    assert project.state(run_id)[0] == "Running"
    unit = project.start("pipelines.schedule", "worker")  # as its unit of systemd does
    wait_until(lambda: project.state(run_id)[0] == "Completed")
    unit.terminate()
    assert "runs again" in unit.communicate(timeout=180)[0]
    assert project.ends("left") == 1
    project.schedule("stop")
    assert team.processes["prefect"].poll() is None


def test_a_backup_brings_everything_back(team, people, tmp_path):
    """After databases and bucket are lost, `restore.sh` brings back users, versions and files as `backup.sh` has copied them; it
    refuses while a server runs."""
    if not shutil.which("aws"):
        pytest.skip("AWS's command is not installed: pip install awscli")
    scripts = {
        "DATABASE": f"env PGHOST={team.database['PGHOST']} PGPORT={team.database['PGPORT']}", "AWS": "aws",
        "AWS_ENDPOINT_URL": team.bucket, "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    saved = team.run("backup.sh", **scripts)
    assert saved.returncode == 0, saved.stderr
    backup = saved.stdout.strip()
    assert team.run("restore.sh", backup, **scripts).returncode != 0
    for name in ("mlflow", "prefect"):
        team.stop(name)
    bucket = bucket_client(team.bucket)
    for item in bucket.list_objects_v2(Bucket=BUCKET)["Contents"]:
        bucket.delete_object(Bucket=BUCKET, Key=item["Key"])
    restored = team.run("restore.sh", backup, **scripts)
    assert restored.returncode == 0, restored.stderr
    team.start("mlflow")
    team.await_response("mlflow", "/health")
    _, bob = people
    shutil.rmtree(bob.folder / ".darkroom" / "versions", ignore_errors=True)
    assert "of team" in bob.darkroom("predict", "photo.jpg")
