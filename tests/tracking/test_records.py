"""The record of a run: written without MLflow, uploaded once, never lost."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, RESOURCE_DOES_NOT_EXIST
from mlflow.utils.validation import _validate_logged_model_name
from requests import JSONDecodeError

from darkroom.cli import main
from darkroom.config import dvc_graph
from darkroom.core.errors import WorkspaceError
from darkroom.tracking import home, mlflow_client, pipelines, records, registry, uploader, uploader_process, views
from darkroom.tracking import runs as uploads


@pytest.fixture(autouse=True)
def night_run(workspace, monkeypatch):
    monkeypatch.setenv("DARKROOM_PIPELINE", "night run")


def record(name="transfer@vgg16", error=None):
    """Record a run with an entry of each kind."""
    try:
        with records.start_run(name, {"transfer.lr": 0.1}, ["data/in"]) as run:
            for epoch in (1, 2, 3):
                run.log_epoch({"epoch": epoch, "val_accuracy": epoch / 10})
            run.set_tags({"darkroom.model": "transfer/vgg16"})
            run.log_checkpoint("transfer/vgg16", "f" * 64, {"best_val_accuracy": 0.3}, 3)
            run.log_dataset("digits", "data/raw/digits", "a" * 64, {"images": 5})
            Path("plot.txt").write_text("plot")
            run.log_artifact(Path("plot.txt"), "plots")
            run.log_table("per_class", ["class", "recall"], [["cat", 0.5]])
            if error:
                raise error
    except ValueError:
        pass


def runs():
    """Return MLflow's client, its runs by name, and all of them."""
    client = mlflow_client.client()
    listed = client.search_runs([mlflow_client.experiment(client)])
    return client, {run.info.run_name.split(" 20")[0]: run for run in listed}, listed


def history(client, run, key="val_accuracy"):
    return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, key)]


@pytest.mark.slow
def test_members_are_below_the_run_of_their_study(workspace):
    """A record with a parent becomes a run below the parent's, by its own name, and not one of the pipeline's stages; a view is
    a saved view of the experiment, to which the note of the parent's run links."""
    with records.start_run("study@depth", {"epochs": 1}, []) as study:
        for seed in range(2):
            with records.start_run("study@depth", {"seed": seed}, [], f"deep · seed {seed}", study) as member:
                member.log_metrics({"val_accuracy": 0.5}, 1)
        study.save_view("study-depth", views.study(study.key, ["depth"]), "deeper is better")
    assert uploader.upload(until_empty=True) == 3
    client, by_name, listed = runs()
    above = by_name["study@depth"]
    assert len(listed) == 4  # and the pipeline
    for seed in range(2):
        tags = by_name[f"deep · seed {seed}"].data.tags
        assert tags["mlflow.parentRunId"] == above.info.run_id
        assert "darkroom.pipeline" not in tags
    assert above.data.tags["mlflow.parentRunId"] == by_name["night run"].info.run_id
    experiment = client.get_experiment(mlflow_client.experiment(client))
    saved = json.loads(experiment.tags["mlflow.sharedViewState.study-depth"])
    assert saved["name"] == "Study: depth"
    matching = client.search_runs([experiment.experiment_id], json.loads(saved["state"])["searchFilter"])
    assert {run.info.run_name for run in matching} == {"deep · seed 0", "deep · seed 1"}
    note = above.data.tags["mlflow.note.content"]
    assert note.startswith("deeper is better")
    assert f"(#/experiments/{experiment.experiment_id}/runs?viewStateShareKey=study-depth" in note


def test_a_record_becomes_a_run(workspace):
    """Params, metrics of every epoch, tags, data set, files, duration and parent are in MLflow; nothing is
    left to upload."""
    Path("dvc.lock").write_text("stages:\n  ingest:\n    outs:\n    - path: data\n      md5: abc.dir\n")
    record()
    assert uploader.upload(until_empty=True) == 1
    client, by_name, _ = runs()
    run, parent = by_name["transfer@vgg16"], by_name["first run · night run"]
    assert run.info.status == "FINISHED"
    assert run.data.params == {"stage": "transfer", "backbone": "vgg16", "transfer.lr": "0.1"}
    assert history(client, run) == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert run.data.metrics["duration_seconds"] > 0
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert run.data.tags["input.data/in"] == "abc.dir"
    assert {item.dataset.name: item.dataset.digest for item in run.inputs.dataset_inputs} == {
        "digits": "a" * 36, "data/in": "abc.dir",
    }  # fmt: skip
    assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["per_class.json", "plots"]
    assert [item.path for item in client.list_artifacts(run.info.run_id, "plots")] == ["plots/plot.txt"]
    assert json.loads(run.data.tags["mlflow.loggedArtifacts"]) == [{"path": "per_class.json", "type": "table"}]
    table = client.download_artifacts(run.info.run_id, "per_class.json", str(workspace))
    assert json.loads(Path(table).read_text()) == {"columns": ["class", "recall"], "data": [["cat", 0.5]]}
    assert records.pending() == []


def test_keys_of_a_later_version_are_ignored(workspace):
    """A record has lines of every kind, and keys of a later version are ignored."""
    record()
    file = records.pending()[0] / records.RECORD
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert {line["kind"] for line in lines} == {"start", "metrics", "tags", "model", "data", "file", "table", "end"}
    file.write_text("".join(json.dumps(line | {"colour": "red"}) + "\n" for line in lines))
    assert uploader.upload(until_empty=True) == 1
    client, by_name, _ = runs()
    assert history(client, by_name["transfer@vgg16"]) == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert records.damaged() == {}


def test_a_record_of_the_version_before_is_uploaded(workspace):
    """Records that an earlier Darkroom left are uploaded, with its spellings of entries."""
    folder = home.RECORDS / "1-a"
    (folder / "files").mkdir(parents=True)
    (folder / "files" / "t.json").write_text("{}")
    lines = [
        {"kind": "start", "time": 1.0, "key": "1-a", "stage": "baseline", "pipeline": {}, "params": {"a": 1}, "inputs": {},
         "tags": {}, "pid": 1, "born": 7.0},
        {"kind": "table", "time": 1.0, "name": "t.json"},
        {"kind": "model", "time": 1.0, "name": "baseline", "sha256": "f" * 64, "values": {"best_val_accuracy": 0.5}, "step": 2},
        {"kind": "scores", "time": 1.0, "sha256": "f" * 64, "values": {"test_accuracy": 0.4}, "data": "data/test", "step": 0},
        {"kind": "end", "time": 2.0, "status": "FINISHED", "error": ""},
    ]  # fmt: skip
    (folder / "record.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert uploader.upload(until_empty=True) == 1
    run = runs()[1]["baseline"]
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"best_val_accuracy": 0.5, "test_accuracy": 0.4})


@pytest.mark.parametrize("model", ["baseline", "transfer/timm/vit_tiny.augreg_in21k", "finetune/own/my_net.MyNet"])
def test_every_model_has_a_name_that_mlflow_takes(model):
    """MLflow takes the name that a model gets there, also where a backbone has a tag or is a class."""
    name = mlflow_client.logged_model_name(model)
    _validate_logged_model_name(name)
    assert name.startswith(model.partition("/")[0])


def test_a_checkpoint_is_a_logged_model_with_its_metrics(workspace):
    """The checkpoint of a run is a logged model once, with validation metrics; `evaluate` adds its own to
    model and run."""
    Path("dvc.lock").write_text("stages:\n  ingest:\n    outs:\n    - {path: data, md5: abc.dir}\n")
    record()
    with records.start_run("evaluate", {}, ["data/test"]) as run:
        run.log_scores("f" * 64, {"test_accuracy": 0.4}, "data/test")
        run.log_scores("0" * 64, {"test_accuracy": 0.9}, "data/test")  # of no run
    uploader.upload(until_empty=True)
    client, by_name, _ = runs()
    trained = by_name["transfer@vgg16"]
    (model,) = client.search_logged_models([mlflow_client.experiment(client)])
    assert (model.source_run_id, str(model.status)) == (trained.info.run_id, "READY")
    assert model.tags["darkroom.checkpoint_sha256"] == "f" * 64
    assert {(item.key, item.value, item.dataset_name, item.dataset_digest) for item in model.metrics} == {
        ("best_val_accuracy", 0.3, "data/in", "abc.dir"), ("test_accuracy", 0.4, "data/test", "abc.dir"),
    }  # fmt: skip
    assert trained.data.metrics["test_accuracy"] == 0.4
    assert [item.model_id for item in trained.outputs.model_outputs] == [model.model_id]


def test_runs_of_one_pipeline_have_one_parent(workspace):
    """Two stages of a pipeline are children of one run, which fails where a child fails."""
    record("one")
    record("two", ValueError("it broke"))
    uploader.upload(until_empty=True)
    _, by_name, listed = runs()
    assert len(listed) == 3
    assert by_name["two"].info.status == by_name["night run"].info.status == "FAILED"
    assert by_name["two"].data.tags["darkroom.error"] == "it broke"


@pytest.mark.slow
def test_uploading_twice_doubles_nothing(workspace, monkeypatch):
    """An upload that is repeated from the beginning, since its process was killed at the end, changes nothing
    in MLflow."""
    record()
    with records.start_run("evaluate", {}, []) as run:
        run.log_scores("f" * 64, {"test_accuracy": 0.4}, "data/test")

    def state():
        client, by_name, listed = runs()
        (model,) = client.search_logged_models([mlflow_client.experiment(client)])
        run = by_name["transfer@vgg16"]
        inputs = sorted(item.dataset.name for item in run.inputs.dataset_inputs)
        metrics = sorted((item.key, item.value) for item in model.metrics)
        histories = [history(client, run, key) for key in ("val_accuracy", "test_accuracy", "best_val_accuracy")]
        outputs = [item.model_id for item in run.outputs.model_outputs]
        return len(listed), run.info.status, inputs, metrics, histories, outputs, run.data.params

    for folder in records.pending():
        uploads.Upload(folder, mlflow_client.client()).advance()
    first = state()
    assert len(records.pending()) == 2
    assert uploader.upload(until_empty=True) == 2
    assert state() == first


def test_an_upload_goes_on_after_a_torn_line(workspace):
    """A line that is not whole yet waits; the rest is uploaded as soon as it is."""
    record()
    file = records.pending()[0] / records.RECORD
    content = file.read_bytes()
    lines = content.splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:3]) + lines[3][:5])
    upload = uploads.Upload(file.parent, mlflow_client.client())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "is_alive", lambda folder: True)
        assert not upload.advance()
    file.write_bytes(content)
    assert upload.advance()
    client, by_name, listed = runs()
    assert len(listed) == 2
    assert [step for step, _ in history(client, by_name["transfer@vgg16"])] == [1, 2, 3]


KILLED = """
import time
from pathlib import Path
from darkroom.tracking import records
records.start_uploader = lambda: None
with records.start_run("baseline", {}, []) as run:
    run.log_metrics({"a": 1.0})
    Path("recorded").touch()
    time.sleep(600)
"""


@pytest.mark.slow
def test_the_run_of_a_killed_stage_ends(workspace):
    """A run is RUNNING while its stage's process lives, and KILLED when that has been killed; its metrics are
    there."""
    stage = subprocess.Popen([sys.executable, "-c", KILLED])
    while not Path("recorded").exists():
        assert stage.poll() is None
        time.sleep(0.05)
    assert uploader.upload(until_empty=True) == 0
    assert runs()[1]["baseline"].info.status == "RUNNING"
    stage.kill()
    stage.wait()
    assert uploader.upload(until_empty=True) == 1
    run = runs()[1]["baseline"]
    assert (run.info.status, run.data.metrics["a"]) == ("KILLED", 1.0)


def test_a_record_without_a_whole_line_is_removed(workspace):
    """What a stage left that was killed before it had written its first line is removed."""
    (home.RECORDS / "1-a").mkdir(parents=True)
    (home.RECORDS / "1-a" / records.RECORD).write_text('{"kind": "sta')
    uploader.upload(until_empty=True)
    assert records.pending() == []
    assert runs()[2] == []


STAGE = """
import json, subprocess, sys
from darkroom.tracking import pipelines
print(json.dumps([pipelines.join().key, pipelines.join().name, pipelines.join().pid]), flush=True)
"""


@pytest.mark.slow
def test_a_pipeline_is_the_dvc_process_above_the_stage(workspace, monkeypatch):
    """Inside DVC runs are grouped by the dvc process above the stage; two processes are two pipelines."""
    monkeypatch.delenv("DARKROOM_PIPELINE")
    monkeypatch.setenv("DVC_STAGE", "dvc.yaml:transfer@vgg16")
    dvc = f"import subprocess, sys; [subprocess.run([sys.executable, '-c', {STAGE!r}]) for _ in range(2)]  # dvc"
    keys = set()
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", dvc], stdout=subprocess.PIPE, text=True)
        stages = [json.loads(line) for line in process.communicate(timeout=120)[0].splitlines()]
        assert len(stages) == 2
        assert stages[0] == stages[1]
        key, name, pid = stages[0]
        assert (name, pid) == ("dvc repro", process.pid)
        keys.add(key)
    assert len(keys) == 2
    assert [pipelines.read(folder).has_ended for folder in pipelines.folders()] == [True, True]


def test_tracking_can_be_off(workspace, monkeypatch):
    """With DARKROOM_TRACKING=off a stage records nothing, and calls the same methods."""
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    record()
    assert not home.RECORDS.exists()
    assert sorted(path.name for path in workspace.iterdir()) == ["mlflow.db", "plot.txt"]


def test_the_record_costs_no_heavy_import(workspace):
    """A stage that records a run imports neither MLflow, pandas nor torch for it, nor does a command that
    makes requests."""
    code = (
        "import sys; from darkroom.tracking import lineage, records, registry; records.start_uploader = lambda: None\n"
        "with records.start_run('x', {}, []) as run: run.log_metrics({'a': 1})\n"
        "assert not {'mlflow', 'pandas', 'torch', 'sqlalchemy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_digests_come_from_the_nearest_output(tmp_path):
    """A path inside an output has the digest of that output; one that no stage wrote has none."""
    lock = tmp_path / "dvc.lock"
    lock.write_text("stages:\n  a:\n    outs:\n    - {path: data/x, md5: 1.dir}\n    - {path: data/x2, md5: '2'}\n")
    assert dvc_graph.digests(["data/x/train", "data/x2", "elsewhere"], lock) == {"data/x/train": "1.dir", "data/x2": "2"}


def test_a_damaged_record_does_not_hold_up_the_others(workspace, capsys):
    """A record that cannot be read is set aside by name, with the reason, and the next one is uploaded."""
    record("damaged")
    folder = records.pending()[0]
    (folder / records.RECORD).write_text('{"kind": "start", "time": 1.0}\n')
    record("whole")
    assert uploader.upload(until_empty=True) == 1
    assert "whole" in runs()[1]
    ((name, reason),) = records.damaged().items()
    assert name == folder.name
    assert "missing" in reason
    assert name in capsys.readouterr().err


@pytest.mark.parametrize("end", ["\n", ""])
def test_a_record_that_was_damaged_is_never_taken_for_an_empty_one(workspace, end):
    """A record whose stage is gone and whose lines cannot be read is set aside, also where its first line has no end; one that a
    killed stage had not begun is removed.
    """
    for name, text in (("nested", "[" * 100_000 + end), ("begun", "")):
        (home.RECORDS / name).mkdir(parents=True)
        (home.RECORDS / name / records.RECORD).write_text(text)
    uploader.upload(until_empty=True)
    assert set(records.damaged()) == {"nested"}
    assert records.pending() == []


@pytest.mark.slow
@pytest.mark.parametrize("error", [RuntimeError("never seen"), AssertionError()])
def test_an_unforeseen_error_of_one_record_stops_no_other(workspace, monkeypatch, capsys, error):
    """It is set aside and named; `darkroom sync` tries it again, says why it fails, and uploads it once it
    works."""
    record("first")
    record("second")
    name = records.pending()[0].name
    original = uploads.Upload._upload_model

    def fail(self, sha256, values, step, name, data):
        if self.params["stage"] == "first":
            raise error
        original(self, sha256, values, step, name, data)

    monkeypatch.setattr(uploads.Upload, "_upload_model", fail)
    assert uploader.upload(until_empty=True) == 1
    assert runs()[1]["second"].info.status == "FINISHED"
    capsys.readouterr()
    assert main(["sync"]) == 1
    out = capsys.readouterr().out
    assert name in out
    assert type(error).__name__ in out
    assert "darkroom sync" in out
    monkeypatch.setattr(uploads.Upload, "_upload_model", original)
    assert main(["sync"]) == 0
    assert runs()[1]["first"].info.status == "FINISHED"
    assert records.damaged() == {}


def test_an_error_of_a_running_stage_sets_it_aside_at_its_end(workspace, monkeypatch):
    """The record of a stage at work stays in its place until the stage has ended, so that it is whole when it
    is tried again."""
    monkeypatch.setattr(uploads.Upload, "_upload_data", lambda *_: 1 / 0)
    with records.start_run("ingest", {}, []) as run:
        run.log_dataset("digits", "data/raw/digits", "a" * 64, {})
        assert uploader.upload(until_empty=True) == 0
        assert records.pending() == [run.folder]
        Path("late.txt").write_text("late")
        run.log_artifact(Path("late.txt"))
    uploader.upload(until_empty=True)
    (name,) = records.damaged()
    assert (home.DAMAGED / name / "files" / "late.txt").exists()


@pytest.mark.slow
def test_a_run_that_was_deleted_does_not_hold_up_the_others(workspace, capsys):
    """A run that somebody deleted in MLflow is set aside; metrics of its checkpoint are left out; others
    arrive."""
    record("first")
    uploader.upload(until_empty=True)
    client, by_name, _ = runs()
    client.delete_run(by_name["first"].info.run_id)
    with records.start_run("evaluate", {}, []) as run:
        run.log_scores("f" * 64, {"test_accuracy": 0.4}, "data/test")
    with records.start_run("at work", {}, []) as run:
        uploader.upload(until_empty=True)
        client.delete_run(runs()[1]["at work"].info.run_id)
        run.log_metrics({"a": 1.0})
        record("whole")
    uploader.upload(until_empty=True)
    assert {"evaluate", "whole"} <= set(runs()[1])
    assert records.pending() == []
    assert len(records.damaged()) == 1
    assert str(home.DAMAGED) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MlflowException("the database is restarting", error_code=BAD_REQUEST), True),
        (MlflowException("no room"), True),
        (ConnectionError("gone"), True),
        (JSONDecodeError("a page of some proxy's", "<html>", 0), True),
        (PermissionError("mlruns"), True),
        (MlflowException("no such run", error_code=RESOURCE_DOES_NOT_EXIST), False),
        (FileNotFoundError("plot.png"), False),
        (IsADirectoryError(errno.EISDIR, "a folder in the place of a plot"), False),
        (OSError(errno.ENAMETOOLONG, "a damaged name"), False),
        (OSError(errno.ENOSPC, "a full disk"), True),
        (RuntimeError("never seen"), False),
        (AttributeError("x"), False),
    ],
)
def test_errors_of_server_network_and_disk_are_temporary(error, expected):
    """What a later attempt may mend is told apart from an error of the record."""
    assert uploader.is_temporary(error) == expected


def test_a_temporary_error_sets_nothing_aside(workspace, monkeypatch):
    """After a temporary error a record is kept and uploaded later; meanwhile the others are uploaded."""
    error = MlflowException("the database is restarting", error_code=BAD_REQUEST)
    record("first")
    with records.start_run("second", {}, []):
        pass
    with monkeypatch.context() as patch:
        patch.setattr(uploads.Upload, "_upload_model", lambda *_: (_ for _ in ()).throw(error))
        with pytest.raises(MlflowException):
            uploader.upload(until_empty=True)
    assert len(records.pending()) == 1
    assert runs()[1]["second"].info.status == "FINISHED"
    assert uploader.upload(until_empty=True) == 1
    assert records.damaged() == {}


def test_a_database_that_has_no_room_to_grow_is_not_begun_with(workspace, monkeypatch, capsys):
    """Where the disk of a local database is all but full, an upload and a registration say what it needs, with exit code 75, before
    they write anything, also while the uploader works; records are kept. Of a server nothing is asked."""
    record("first")
    fact = rf"mlflow\.db needs more than {mlflow_client.GROWTH / 1e6:.1f} MB, and 1\.2 MB are free"
    client = mlflow_client.client()
    before = Path("mlflow.db").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1_200_000))
        assert main(["sync"]) == 75
        assert re.search(fact, capsys.readouterr().err)
        for call in (
            lambda: uploader._advance(client, {}, 0.0),
            lambda: registry.add_version(client, "darkroom", {}, "", lambda model_id: None),
        ):
            with pytest.raises(WorkspaceError, match=fact) as caught:
                call()
            assert caught.value.code == 75
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        mlflow_client.require_space()
    assert Path("mlflow.db").read_bytes() == before
    assert records.damaged() == {}
    assert uploader.upload(until_empty=True) == 1


def test_stages_at_work_are_followed_after_a_sync(workspace, monkeypatch):
    """`darkroom sync` takes over from the uploader, and starts it again where something is still under
    way."""
    started = []
    monkeypatch.setattr(uploader, "start_uploader", lambda: started.append(1))
    with records.start_run("at work", {}, []):
        uploader.sync()
    assert started == [1]
    uploader.sync()
    assert started == [1]


def test_an_uploaded_run_stays_finished(workspace, monkeypatch):
    """Where the uploader is killed between the last entry and the removal of the record, the run stays
    finished."""
    record()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        upload = uploads.Upload(records.pending()[0], mlflow_client.client())
        assert upload.advance()
    assert uploader.upload(until_empty=True) == 1
    assert runs()[1]["transfer@vgg16"].info.status == "FINISHED"


@pytest.fixture
def no_server(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def test_a_server_that_does_not_respond_is_named(workspace, no_server):
    """`darkroom sync` without a server names it, with a remedy, and keeps the record."""
    record()
    with pytest.raises(WorkspaceError, match=r"127\.0\.0\.1:9"):
        uploader.sync()
    assert len(records.pending()) == 1


def test_a_stage_tells_that_mlflow_cannot_be_reached(workspace, monkeypatch, capsys):
    """Where the uploader cannot reach the server, the next stage tells at its end; once it can, none does."""
    record("first")
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        assert uploader_process.main() == 1
    record("second")
    message = capsys.readouterr().err
    assert "second: MLflow cannot be reached" in message
    assert "darkroom sync" in message
    assert uploader.sync() == 2
    record("third")
    assert "third" not in capsys.readouterr().err


def test_metrics_of_a_run_at_work_are_sent_together(workspace):
    """Metrics wait for METRICS_INTERVAL after the last ones, and nothing else does; at the end all are there,
    once."""
    client = mlflow_client.client()
    with records.start_run("baseline", {}, []) as run:
        upload = uploads.Upload(run.folder, client)

        def steps():
            return [item.step for item in client.get_metric_history(upload.run_id, "val_loss")]

        run.log_epoch({"epoch": 1, "val_loss": 1.0})
        upload.advance(interval=60)
        assert steps() == [1]
        for epoch in (2, 3):
            run.log_epoch({"epoch": epoch, "val_loss": 1 / epoch})
            run.set_tags({"epoch": str(epoch)})
            upload.advance(interval=60)
        assert steps() == [1]
        assert client.get_run(upload.run_id).data.tags["epoch"] == "3"
        upload.advance(interval=0)
        assert steps() == [1, 2, 3]
        run.log_epoch({"epoch": 4, "val_loss": 0.1})
    assert upload.advance(interval=60)
    assert steps() == [1, 2, 3, 4]


def test_the_machine_is_sampled_after_a_runs_own_metrics(workspace, monkeypatch):
    """Samples of processor and memory wait until a run has metrics of its own or has ended, and none is
    lost."""
    monkeypatch.setattr(uploader, "SAMPLE_INTERVAL", 0.0)
    client, sampler, key = mlflow_client.client(), uploader.Sampler(), "system/cpu_utilization_percentage"
    with records.start_run("early", {}, []) as early, records.start_run("other", {}, []) as other:
        pair = [uploads.Upload(run.folder, client) for run in (early, other)]
        for _ in range(2):
            for upload in pair:
                upload.advance()
            sampler.sample(pair)
        assert not client.get_run(pair[0].run_id).data.metrics
        early.log_metrics({"own": 1.0})
        pair[0].advance()
    for upload in pair:
        assert upload.advance()
        metrics = client.get_run(upload.run_id).data.metrics
        assert {"system/system_memory_usage_megabytes", "system/disk_usage_percentage"} <= set(metrics)
        assert [item.step for item in client.get_metric_history(upload.run_id, key)] == [0, 1]


@pytest.mark.slow
def test_the_uploader_is_one_process_that_ends(workspace):
    """The real process uploads what it finds; a second one leaves at once, without MLflow; the first ends when it is asked
    to."""
    record()
    process = subprocess.Popen([sys.executable, "-m", "darkroom.tracking.uploader_process"])
    while records.pending():
        assert process.poll() is None
        time.sleep(0.05)
    second = (
        "import sys\nfrom darkroom.tracking import uploader_process\nsys.exit(uploader_process.main() or 'mlflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", second], check=False).returncode == 0
    assert process.poll() is None
    uploader.STOP.touch()
    assert process.wait(120) == 0
    assert runs()[1]["transfer@vgg16"].info.status == "FINISHED"


def test_an_interrupted_stage_has_failed(workspace):
    """Ctrl+C ends the run as failed, like any other error."""
    with pytest.raises(KeyboardInterrupt), records.start_run("baseline", {}, []):
        os.kill(os.getpid(), signal.SIGINT)
    uploader.upload(until_empty=True)
    assert runs()[1]["baseline"].info.status == "FAILED"
