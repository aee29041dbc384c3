"""Data and results elsewhere, with the real DVC: a source at an address, and a remote from which a fresh clone has everything."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.states import Completed, State

from darkroom import cli
from darkroom.core.errors import ParamsError, SourceError
from darkroom.data import remote_files
from pipelines import flow_runtime, retrain
from pipelines.dvc_runner import DvcRunner
from pipelines.process_groups import ProcessGroups
from pipelines.repro import Options
from tests.conftest import ROOT
from tests.data.test_remote_files import server  # noqa: F401
from tests.data.test_webdataset import samples, write
from tests.pipelines.projects import create_project

pytestmark = pytest.mark.pipeline

BUCKET = "darkroom-tests"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1", "DARKROOM_TRACKING": "off",
    "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
}  # fmt: skip


def run(folder: Path, *command: str) -> str:
    """Run a command in a folder; return what it prints."""
    path = os.pathsep.join((str(Path(sys.executable).parent), str(ROOT / ".venv/bin"), os.environ["PATH"]))
    modules = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    environment = os.environ | ENVIRONMENT | {"PATH": path, "PYTHONPATH": modules}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def dvc(folder: Path, *arguments: str) -> str:
    return run(folder, sys.executable, "-m", "dvc", *arguments)


@contextmanager
def remote(kind: str, tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the address of an empty remote of DVC's, a folder or a bucket of a server of moto's, and its settings."""
    if kind == "folder":
        yield str(tmp_path / "remote"), {}
        return
    pytest.importorskip("dvc_s3", reason="the extra s3 is not installed")
    boto3 = pytest.importorskip("boto3")
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    bucket = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    bucket.start()
    try:
        endpoint = f"http://127.0.0.1:{bucket.get_host_and_port()[1]}"
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=endpoint, **keys).create_bucket(Bucket=BUCKET)
        yield f"s3://{BUCKET}/store", {"endpointurl": endpoint}
    finally:
        bucket.stop()


def test_a_fresh_clone_runs_nothing(server, tmp_path, monkeypatch):  # noqa: F811
    """What is at an address is copied once and named by its version; after push and pull a clone needs neither server nor stage.

    The remote is a bucket where the extra s3 is installed, else a folder.
    """
    kind = "s3" if all(map(importlib.util.find_spec, ("dvc_s3", "moto"))) else "folder"
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    served, address = server
    project, clone = tmp_path / "project", tmp_path / "clone"
    with remote(kind, tmp_path) as (store, settings):
        assert cli.main(["new", str(project), "--data", address, "--weights", "random"]) == 0
        dvc(project, "repro", "ingest")
        copied = served.served
        assert "didn't change" in dvc(project, "repro", "ingest")
        assert served.served == copied
        dvc(project, "remote", "add", "-d", "store", store)
        for key, value in settings.items():
            dvc(project, "remote", "modify", "store", key, value)
        run(project, "git", "add", "-A")
        run(project, "git", "commit", "-qm", "data")
        dvc(project, "push", "names", "fetch@url", "ingest")
        run(tmp_path, "git", "clone", "-q", str(project), str(clone))
        served.status = 503
        dvc(clone, "pull", "names", "fetch@url", "ingest")
        assert "Running stage" not in dvc(clone, "repro", "ingest")
        manifest = "data/ingested/manifest.parquet"
        assert (clone / manifest).read_bytes() == (project / manifest).read_bytes()
    served.status = 200
    served.content = write(tmp_path / "served" / "more.tar", samples(70)).read_bytes()
    monkeypatch.chdir(project)
    assert cli.main(["recipe", "--data", address]) == 0
    assert "fetch@url" in dvc(project, "repro", "ingest")
    assert (project / "data/raw/url/set.tar").read_bytes() == served.content


def test_a_retraining_takes_what_is_at_the_address_now(server, tmp_path, monkeypatch):  # noqa: F811
    """A source that changes between two runs of the flow is a reason, and is copied into the worktree of the flow alone.

    The commit of the results names its version. A server that does not answer is a temporary failure.
    """
    served, address = server
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    project = create_project(tmp_path / "project").folder
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    stages["stages"] = {name: stages["stages"][name] for name in ("names", "fetch", "ingest")}
    (project / "dvc.yaml").write_text(yaml.safe_dump(stages))
    for folder in ("data", "backbones"):
        (project / folder).mkdir()
    for name in ("data/label_fixes.csv", "data/splits.csv", "backbones/README.md"):
        shutil.copy(ROOT / name, project / name)
    monkeypatch.chdir(project)
    assert cli.main(["recipe", "--data", address]) == 0
    run(project, "git", "add", "src", "backbones", "data", "params.yaml", "dvc.yaml")
    run(project, "git", "commit", "-qm", "images at an address")
    dvc(project, "repro")
    copied = (project / "data/raw/url/set.tar").read_bytes()
    monkeypatch.setattr(flow_runtime, "run_exclusively", lambda work, wait: enter(work))
    monkeypatch.setattr(retrain, "run_graph", repro)

    assert retrain.retrain.fn(branch="retrained").name == "Skipped"
    served.content = write(tmp_path / "served" / "more.tar", samples(70)).read_bytes()
    state = retrain.retrain.fn(branch="retrained")
    assert "fetch.version" in state.message
    tree = project / ".darkroom/worktrees/retrain"
    assert (tree / "data/raw/url/set.tar").read_bytes() == served.content
    assert (project / "data/raw/url/set.tar").read_bytes() == copied
    assert run(project, "git", "status", "--porcelain", "params.yaml") == ""
    version = yaml.safe_load((tree / "params.yaml").read_text())["fetch"]["version"]
    assert version in run(project, "git", "show", "retrained:params.yaml")
    assert version in run(project, "git", "show", "retrained:dvc.lock")
    assert retrain.retrain.fn(branch="retrained").name == "Skipped"
    assert "fetch.version" in retrain.retrain.fn(latest=False).message
    assert (tree / "data/raw/url/set.tar").read_bytes() == copied
    served.status = 503
    with pytest.raises(ParamsError) as caught:
        retrain.retrain.fn()
    assert caught.value.retryable


def enter(work: Callable[[ProcessGroups], State[Any]]) -> State[Any]:
    """Do the work of a flow."""
    with ProcessGroups() as processes:
        return work(processes)


def repro(runner: DvcRunner, options: Options) -> State[Any]:
    """Run a graph by DVC alone."""
    result = runner.dvc("repro")
    assert result.returncode == 0, result.output
    return Completed(message="ran")


def test_a_bucket_is_copied(tmp_path, monkeypatch):
    """A folder of a bucket is listed with its ETags and copied, by the credentials of the environment."""
    with remote("s3", tmp_path) as (store, settings):
        fsspec = pytest.importorskip("fsspec")
        for name, value in (ENVIRONMENT | {"AWS_ENDPOINT_URL": settings["endpointurl"]}).items():
            monkeypatch.setenv(name, value)
        system = fsspec.filesystem("s3", skip_instance_cache=True)
        for i in range(3):
            system.pipe(f"{store}/photos/cat/{i}.png", bytes([i]) * 100)
        listing = remote_files.list_files(f"{store}/photos")
        assert [(file.name, file.size) for file in listing.files] == [(f"cat/{i}.png", 100) for i in range(3)]
        assert all(file.identity.startswith("ETag") for file in listing.files)
        (tmp_path / "out").mkdir()
        remote_files.copy(tmp_path / "out", f"{store}/photos", listing.version, tmp_path / "scratch")
        assert (tmp_path / "out/cat/2.png").read_bytes() == bytes([2]) * 100
        system.pipe(f"{store}/photos/cat/2.png", b"x" * 100)
        assert remote_files.list_files(f"{store}/photos").version != listing.version
        with pytest.raises(SourceError, match="there is nothing"):
            remote_files.list_files(f"s3://{BUCKET}/nothing")
