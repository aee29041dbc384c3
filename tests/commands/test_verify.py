"""Stages that run again beside their first results."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from darkroom import cli
from darkroom.commands import verify
from darkroom.core import environment
from darkroom.tracking import queries
from darkroom.tracking.entities import ENVIRONMENT, OUTPUTS, Run

STEP = """\
import json, pathlib, sys
value = float(pathlib.Path("../photos/value.txt").read_text()) + float(pathlib.Path("data/made.txt").read_text())
pathlib.Path("out").mkdir()
pathlib.Path("out/model.json").write_text(json.dumps({"loss": value}))
pathlib.Path("out/name.txt").write_text("always")
"""


@pytest.fixture
def changed(monkeypatch) -> dict[str, list[str]]:
    """Return what DVC reports as changed, to fill."""
    stages: dict[str, list[str]] = {}
    monkeypatch.setattr(verify, "_changes", lambda: stages)
    return stages


@pytest.fixture
def project(tmp_path, monkeypatch, changed, own_mlflow) -> Path:
    """Return a project in which a stage has run: its inputs are an output and a file outside."""
    folder = tmp_path / "project"
    for name in ("data", "out", "../photos"):
        (folder / name).mkdir(parents=True)
    (folder / "../photos/value.txt").write_text("1.5")
    (folder / "data/made.txt").write_text("1")
    (folder / "step.py").write_text(STEP)
    outs = {"model.json": json.dumps({"loss": 2.5}), "name.txt": "always"}
    for name, text in outs.items():
        (folder / "out" / name).write_text(text)
    (folder / "dvc.yaml").write_text("stages: {train: {}}\n")
    (folder / "params.yaml").write_text("{}\n")
    listing = json.dumps([{"md5": md5(text), "relpath": name} for name, text in outs.items()])
    cache = folder / ".dvc/cache/files/md5" / md5(listing)[:2]
    cache.mkdir(parents=True)
    (cache / f"{md5(listing)[2:]}.dir").write_text(listing)
    deps = "".join(f"    - path: {path}\n      md5: x\n" for path in ("../photos", "data/made.txt", "step.py"))
    (folder / "dvc.lock").write_text(
        f"schema: '2.0'\nstages:\n  train:\n    cmd: {sys.executable} step.py\n    deps:\n{deps}    outs:\n"
        f"    - path: out\n      md5: {md5(listing)}.dir\n"
    )
    monkeypatch.chdir(folder)
    return folder


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def run(capsys, *arguments: str, code: int) -> list[dict]:
    assert cli.main(["verify", "--json", *arguments]) == code
    return json.loads(capsys.readouterr().out)


def test_networks_of_ones_own_are_found_where_a_stage_runs_again(project, capsys):
    """A stage that runs again has the project's own networks, of today and earlier, though it does not depend on their folder."""
    for place in ("backbones", ".darkroom/own-backbones"):
        (project / place).mkdir(parents=True)
        (project / place / "net.py").touch()
    assertion = "import pathlib; assert all(pathlib.Path(p, 'net.py').exists() for p in ('backbones', '.darkroom/own-backbones'))\n"
    (project / "step.py").write_text(assertion + STEP)
    assert run(capsys, code=0)[0]["result"] == "identical"


def test_the_same_again_is_identical_and_changes_nothing(project, capsys):
    """A stage runs in a folder of its own, which vanishes; the outputs of the project stay as they are."""
    before = {path: path.stat().st_mtime_ns for path in project.rglob("*") if path.is_file()}
    (row,) = run(capsys, code=0)
    assert (row["stage"], row["result"], row["identical"], row["files"]) == ("train", "identical", 2, [])
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not (project / ".darkroom" / "verify").exists()
    assert not (project / "../photos/out").exists()


@pytest.mark.parametrize(("value", "result", "code"), [("1.50001", "within tolerance", 0), ("1.6", "different", 1)])
def test_numbers_may_differ_by_the_tolerance(project, value, result, code, monkeypatch, capsys):
    """A larger difference is exit code 1; the cause is what differs from the recorded environment."""
    stage = verify.dvc_graph.read_lock()["train"]
    recorded = {ENVIRONMENT + key: text for key, text in environment.describe().items()} | {OUTPUTS: stage.outputs_sha256}
    libraries = f"{ENVIRONMENT}libraries"
    recorded[libraries] = recorded[libraries].replace("torch ", "torch 0.", 1)
    monkeypatch.setattr(
        queries, "runs", lambda: [Run("1", "train", "FINISHED", 0.0, {}, {}, {"darkroom.stage": "train"} | recorded)]
    )
    (project / "../photos/value.txt").write_text(value)
    (row,) = run(capsys, "train", code=code)
    assert row["result"] == result
    (file,) = row["files"]
    assert (file["file"], file["outcome"]) == ("out/model.json", result)
    assert row["difference"] == pytest.approx((float(value) - 1.5) / (float(value) + 1))
    (cause,) = row["causes"]
    assert cause.startswith("libraries: torch 0.")


def test_what_is_not_the_same_run_does_not_run(project, changed, capsys):
    """A stage whose code or params have changed is not run, and named with what changed; nor is one that DVC does not know."""
    changed["train"] = ["step.py modified"]
    (row,) = run(capsys, code=1)
    assert (row["result"], row["causes"]) == ("not run", ["step.py modified"])
    assert cli.main(["verify", "trian"]) == 2
    assert 'did you mean "train"' in capsys.readouterr().err
    assert cli.main(["verify", "--cache", "train"]) == 2


def test_what_cannot_be_compared_is_not_called_different(project, capsys):
    """Without the list of a folder's files in DVC's cache nothing runs, and the remedy fetches it."""
    (listing,) = (project / ".dvc/cache/files/md5").rglob("*.dir")
    listing.unlink()
    (row,) = run(capsys, code=1)
    assert row["result"] == "failed"
    assert "dvc fetch" in row["causes"][0]


def test_a_stage_that_fails_is_reported_with_its_output(project, capsys):
    """The others would still run; the exit code is 1."""
    (project / "data/made.txt").write_text("no number")
    (row,) = run(capsys, code=1)
    assert row["result"] == "failed"
    assert "no number" in row["causes"][0]
