"""A real `mlflow server`, on PostgreSQL where it is installed, whose artifacts go through it: what happens when several use it,
and when it goes away."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.pyfunc import scoring_server
from PIL import Image

from darkroom.inference.classifier import Classifier
from darkroom.models import weight_files
from darkroom.tracking import mlflow_client, registry, views
from tests import postgresql
from tests.browser import tab
from tests.conftest import ROOT
from tests.postgresql import free_port
from tests.tracking.test_registry import checkpoint, pack

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


def test_mlflow_refuses_other_hosts_and_origins(server):
    """MLflow's own checks are on, as in the server of `darkroom ui`: a page whose name leads to this machine, and one of another
    origin, change nothing and read nothing."""
    body, url = b'{"name": "attacked"}', f"{server.uri}/api/2.0/mlflow/experiments/create"
    for headers in ({"Host": "attacker.example.org"}, {"Origin": "https://attacker.example.org"}):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"} | headers))
    assert MlflowClient(server.uri).get_experiment_by_name("attacked") is None


def runs_of(server: Server, filters: str = "") -> tuple[MlflowClient, list[Run]]:
    """Return a client of the server, and its runs."""
    client = MlflowClient(server.uri)
    return client, list(client.search_runs([item.experiment_id for item in client.search_experiments()], filters))


def test_it_runs_on_postgresql(server):
    """The server of these tests keeps its records in PostgreSQL."""
    if postgresql.PROGRAMS is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    assert server.database.startswith("postgresql")


def test_its_pages_open_on_runs(server, tmp_path, monkeypatch, own_mlflow):
    """The address that `darkroom ui` prints first opens MLflow's table of runs, with the columns of the view."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    address = mlflow_client.view_addresses(server.uri)[views.PIPELINES]
    client = mlflow_client.client()
    run = client.create_run(mlflow_client.experiment(client), run_name="transfer.lr 0.003 → 0.01")
    for key in ("test_accuracy", "best_val_accuracy", "other"):
        client.log_metric(run.info.run_id, key, 0.5)
    with tab() as page:
        page.goto(address)
        page.get_by_text("transfer.lr 0.003 → 0.01").first.wait_for(timeout=120_000)
        columns = set(page.locator("[role=columnheader]").all_inner_texts())
    assert {"test_accuracy", "best_val_accuracy"} <= columns
    assert "other" not in columns


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


def test_the_champion_answers_over_http(server, tmp_path, monkeypatch, own_mlflow):
    """The app of `mlflow models serve -m models:/NAME@champion` says of a JPEG what the checkpoint says, in JSON that any
    client reads."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    folder = checkpoint(tmp_path / "model", 1)
    package = tmp_path / "package"
    (package / registry.EVALUATION).mkdir(parents=True)
    (package / registry.EVALUATION / "trained-on.txt").write_text("1")
    pack(folder, package)
    version = registry.register(
        "served", folder, package, weight_files.checkpoint_digest(folder), {registry.MODEL: "baseline"}, ""
    )  # fmt: skip
    registry.promote("served", version.version, "the first")
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (90, 120, 3), np.uint8)).save("photo.jpg")
    photo = Path("photo.jpg").read_bytes()
    classifier = Classifier.load(folder)
    (prediction,) = classifier.predict_files([photo])
    expected = dict(zip(classifier.classes, map(float, prediction.probabilities), strict=True))
    model = mlflow_client.library().pyfunc.load_model("models:/served@champion")
    images = [base64.b64encode(content).decode() for content in (photo, b"no image")]
    with TestClient(scoring_server.init(model)) as client:
        request = {"dataframe_split": {"columns": ["image"], "data": [[image] for image in images]}}
        response = client.post("/invocations", json=request)
    assert response.status_code == 200
    assert "NaN" not in response.text
    good, bad = response.json()["predictions"]
    assert good["probabilities"] == pytest.approx(expected, abs=1e-4)
    assert (good["label"], good["error"]) == (max(expected, key=expected.get), None)
    assert (bad["label"], bad["probabilities"]) == (None, None)
    assert "no image" in bad["error"]
