"""A real `mlflow server`, on PostgreSQL where it is installed, whose artifacts go through it: what happens when several use it,
and when it goes away."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image

from tests import postgresql
from tests.conftest import ROOT
from tests.postgresql import free_port

pytestmark = pytest.mark.pipeline
PLAIN = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "DARKROOM_TRACKING", "DARKROOM_PIPELINE", "DVC_STAGE", "DVC_EXP_NAME")


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Iterator[str]:
    """Yield the address of a database: PostgreSQL's, or SQLite's where that is not installed."""
    if postgresql.PROGRAMS is None:
        yield f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'mlflow.db'}"
        return
    with postgresql.database("mlflow") as where:
        yield f"postgresql+pg8000://{where}"


class Server:
    """An MLflow server that can be killed and started again, on one port."""

    def __init__(self, database: str, place: Path) -> None:
        self.database, self.place, self.port = database, place, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        command = [
            sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self.database, "--artifacts-destination",
            str(self.place / "artifacts"), "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
        ]  # fmt: skip
        log = (self.place / "server.log").open("ab")
        self.process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=self.place,
            env=environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"),
        )
        _until(lambda: _responds(f"{self.uri}/health"), self.place / "server.log")

    def kill(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in PLAIN}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": str(ROOT / "src"), **more}


def _responds(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _until(happened, log: Path, seconds: float = 400) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, log.read_text()[-3000:]
        time.sleep(0.2)


@pytest.fixture(scope="module")
def server(database, tmp_path_factory) -> Iterator[Server]:
    server = Server(database, tmp_path_factory.mktemp("server"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


def runs_of(server: Server, filters: str = "") -> tuple[MlflowClient, list[Run]]:
    """Return a client of the server, and its runs."""
    client = MlflowClient(server.uri)
    return client, list(client.search_runs([item.experiment_id for item in client.search_experiments()], filters))


def test_it_runs_on_postgresql(server):
    """The server of these tests keeps its records in PostgreSQL."""
    if postgresql.PROGRAMS is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    assert server.database.startswith("postgresql")


def clone(place: Path, lr: float) -> Path:
    """Make a project of its own whose pipeline ends with the baseline."""
    place.mkdir()
    for name in ("dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, place)
    for name in ("src", "recipes"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (place / "data").mkdir()
    for name in ("label_fixes.csv", "splits.csv"):
        shutil.copy(ROOT / "data" / name, place / "data")
    for name in ("models/transfer/.keep", "models/finetune/.keep"):
        (place / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / name, place / name)
    draw = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (place / "photos" / label).mkdir(parents=True)
        for i in range(40):
            Image.fromarray(draw.integers(0, 256, (20, 20, 3), np.uint8)).save(place / "photos" / label / f"{i}.png")
    own = environment(PYTHONPATH=str(place / "src"))
    values = ["fetch.datasets=[]", "ingest.source=photos", f"baseline.lr={lr}", "baseline.epochs=3", "augment.views=2"]
    subprocess.run(["git", "init", "-q"], cwd=place, check=True)
    for command in (["dvc", "init", "-q"], ["darkroom", "recipe", "--set", *values]):
        subprocess.run([sys.executable, "-m", *command], cwd=place, env=own, check=True, capture_output=True)
    return place


def test_two_clones_at_once_neither_lose_nor_mix_runs(server, tmp_path):
    """Two pipelines in two clones against one server: each has a parent of its own with its own stages and
    all their epochs."""
    places = {lr: clone(tmp_path / f"clone {lr}", lr) for lr in (0.001, 0.002)}
    at_work = [
        subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro", "baseline"], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=environment(MLFLOW_TRACKING_URI=server.uri, PYTHONPATH=str(place / "src")), text=True,
        ) for place in places.values()
    ]  # fmt: skip
    for process in at_work:
        output, _ = process.communicate(timeout=400)
        assert process.returncode == 0, output
    for place in places.values():
        subprocess.run(
            [sys.executable, "-m", "darkroom", "sync"], cwd=place, check=True, capture_output=True,
            env=environment(MLFLOW_TRACKING_URI=server.uri, PYTHONPATH=str(place / "src")),
        )  # fmt: skip
    client, runs = runs_of(server)
    assert {run.info.status for run in runs} == {"FINISHED"}
    pipelines = {run.data.tags["darkroom.pipeline"] for run in runs}
    assert len(pipelines) == 2
    rates = set()
    for pipeline in pipelines:
        mine = {run.data.tags["darkroom.stage"]: run for run in runs if run.data.tags["darkroom.pipeline"] == pipeline}
        assert sorted(mine) == ["augment", "baseline", "ingest", "pipeline"]
        parent = mine.pop("pipeline").info.run_id
        assert {run.data.tags["mlflow.parentRunId"] for run in mine.values()} == {parent}
        rates.add(mine["baseline"].data.params["baseline.lr"])
        assert len(client.get_metric_history(mine["baseline"].info.run_id, "val_loss")) == 3
        assert sorted(file.path for file in client.list_artifacts(mine["ingest"].info.run_id)) == ["data.html", "manifest.parquet"]
    assert rates == {"0.001", "0.002"}


TRAINING = """
import os, sys, time
from pathlib import Path
from darkroom.tracking import records
with records.start_run("baseline", {"baseline.lr": 0.1}, []) as run:
    for epoch in range(1, 41):
        run.log_epoch({"epoch": epoch, "val_accuracy": epoch / 40})
        Path("epoch").write_text(str(epoch))
        while epoch == 10 and not Path("go on").exists(): time.sleep(0.05)
        time.sleep(0.02)
    Path("plot.txt").write_text("plot")
    run.log_artifact(Path("plot.txt"))
"""


def test_a_server_that_goes_away_costs_nothing(server, tmp_path):
    """A server killed in the middle of a run: the run goes on, the next stage says so, and later everything
    is there once."""
    own = environment(MLFLOW_TRACKING_URI=server.uri, DARKROOM_PIPELINE="outage", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    training = subprocess.Popen([sys.executable, "-c", TRAINING], cwd=tmp_path, env=own)
    outage = "tags.`darkroom.pipeline` = 'outage'"

    def epochs() -> list[int]:
        client, runs = runs_of(server, f"{outage} and params.stage = 'baseline'")
        return [len(client.get_metric_history(run.info.run_id, "val_accuracy")) for run in runs]

    _until(lambda: epochs() == [10], tmp_path / "epoch")
    server.kill()
    (tmp_path / "go on").touch()
    assert training.wait(300) == 0  # it did not wait for anybody
    assert (tmp_path / "epoch").read_text() == "40"
    unreachable = tmp_path / ".darkroom" / "journal" / "unreachable"
    _until(unreachable.exists, tmp_path / "epoch")
    later = "from darkroom.tracking import records\nwith records.start_run('evaluate', {}, []): pass"
    stage = subprocess.run([sys.executable, "-c", later], cwd=tmp_path, env=own, capture_output=True, text=True)
    assert "evaluate: MLflow cannot be reached" in stage.stderr
    failing = subprocess.run([sys.executable, "-m", "darkroom", "sync"], cwd=tmp_path, env=own, capture_output=True, text=True)
    assert failing.returncode == 75
    assert "nothing is lost" in failing.stderr
    server.start()
    done = subprocess.run([sys.executable, "-m", "darkroom", "sync"], cwd=tmp_path, env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    client, listed = runs_of(server, outage)
    runs = {run.info.run_name.split(" 20")[0]: run for run in listed}
    assert sorted(runs) == ["baseline", "evaluate", "outage"]
    assert len(listed) == 3
    baseline = runs["baseline"].info
    assert baseline.status == "FINISHED"
    assert [metric.step for metric in client.get_metric_history(baseline.run_id, "val_accuracy")] == list(range(1, 41))
    assert [file.path for file in client.list_artifacts(baseline.run_id)] == ["plot.txt"]
    assert not list((tmp_path / ".darkroom" / "journal").glob("*/record.jsonl"))


def test_the_champion_answers_over_http(server, tmp_path):
    """`mlflow models serve -m models:/NAME@champion` says of a JPEG what the checkpoint says, in JSON that
    any client reads."""
    registered = subprocess.run(
        [sys.executable, "-c", REGISTER],
        cwd=tmp_path,
        env=environment(MLFLOW_TRACKING_URI=server.uri, PYTHONPATH=f"{ROOT / 'src'}{os.pathsep}{ROOT}"),
        capture_output=True,
        text=True,
    )
    assert registered.returncode == 0, registered.stderr[-3000:]
    expected = json.loads(registered.stdout.splitlines()[-1])
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        "models:/served@champion",
        "--env-manager",
        "local",
        "--port",
        str(port),
    ]
    log = tmp_path / "serve.log"
    with log.open("wb") as out:
        serving = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment(MLFLOW_TRACKING_URI=server.uri, PYTHONPATH=""),
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        _until(lambda: _responds(f"http://127.0.0.1:{port}/ping"), log)
        images = [base64.b64encode(content).decode() for content in ((tmp_path / "photo.jpg").read_bytes(), b"no image")]
        body = json.dumps({"dataframe_split": {"columns": ["image"], "data": [[image] for image in images]}}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"})
        text = urllib.request.urlopen(request, timeout=60).read().decode()
        assert "NaN" not in text
        good, bad = json.loads(text)["predictions"]
    finally:
        os.killpg(serving.pid, signal.SIGKILL)
    assert good["probabilities"] == pytest.approx(expected, abs=1e-4)
    assert (good["label"], good["error"]) == (max(expected, key=expected.get), None)
    assert (bad["label"], bad["probabilities"]) == (None, None)
    assert "no image" in bad["error"]


REGISTER = """
import json
from pathlib import Path
import numpy as np
from PIL import Image
from darkroom.models import weight_files
from darkroom.inference.classifier import Classifier
from darkroom.tracking import registry
from tests.tracking.test_registry import checkpoint, pack
place = Path.cwd()
folder = checkpoint(place / "model", 1)
(place / "package" / registry.EVALUATION).mkdir(parents=True)
(place / "package" / registry.EVALUATION / "trained-on.txt").write_text("1")
pack(folder, place / "package")
digest = weight_files.checkpoint_digest(folder)
version = registry.register("served", folder, place / "package", digest, {registry.MODEL: "baseline"}, "")
registry.promote("served", version.version, "the first")
Image.fromarray(np.random.default_rng(5).integers(0, 256, (90, 120, 3), np.uint8)).save("photo.jpg")
classifier = Classifier.load(folder)
(answer,) = classifier.predict_files([Path("photo.jpg").read_bytes()])
print(json.dumps(dict(zip(classifier.classes, map(float, answer.probabilities)))))
"""
