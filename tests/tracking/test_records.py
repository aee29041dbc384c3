"""The record of a run: kept without MLflow, delivered once, never lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from requests import JSONDecodeError

from darkroom.core.errors import WorkspaceError
from darkroom.tracking import mlflow_client, provenance, records, system_metrics, uploader
from darkroom.tracking import runs as runs_


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DARKROOM_TRACKING", raising=False)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    monkeypatch.setenv("DARKROOM_PIPELINE", "night run")
    monkeypatch.setattr(records, "start_delivery", lambda: None)
    return tmp_path


def record(name="transfer@vgg16", error=None):
    try:
        with records.run(name, {"transfer.lr": 0.1}, ["data/in"]) as run:
            for epoch in (1, 2, 3):
                run.epoch({"epoch": epoch, "val_accuracy": epoch / 10})
            run.tag({"darkroom.model": "transfer/vgg16"})
            run.model("transfer/vgg16", "f" * 64, {"best_val_accuracy": 0.3}, 3)
            run.data("digits", "data/raw/digits", "a" * 64, {"images": 5})
            Path("plot.txt").write_text("plot")
            run.file(Path("plot.txt"), "plots")
            run.table("per_class", ["class", "recall"], [["cat", 0.5]])
            if error:
                raise error
    except ValueError:
        pass


def runs():
    client = mlflow_client.client()
    found = client.search_runs([mlflow_client.experiment(client)])
    return client, {run.info.run_name.split(" 20")[0]: run for run in found}, found


def test_a_record_becomes_a_run(workspace):
    """Params, metrics of every epoch, tags, data set, files, duration and parent are in MLflow; nothing is left to deliver."""
    Path("dvc.lock").write_text("stages:\n  ingest:\n    outs:\n    - path: data\n      md5: abc.dir\n")
    record()
    assert uploader.deliver(until_empty=True) == 1
    client, found, _ = runs()
    run, parent = found["transfer@vgg16"], found["night run"]
    assert run.info.status == "FINISHED"
    assert run.data.params == {"stage": "transfer", "backbone": "vgg16", "transfer.lr": "0.1"}
    assert [metric.value for metric in client.get_metric_history(run.info.run_id, "val_accuracy")] == [0.1, 0.2, 0.3]
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
    assert uploader.journals() == []


def test_a_checkpoint_is_a_logged_model_with_its_figures(workspace):
    """The checkpoint of a run is a logged model once, with validation figures; `evaluate` adds its own to model and run."""
    Path("dvc.lock").write_text("stages:\n  ingest:\n    outs:\n    - {path: data, md5: abc.dir}\n")
    record()
    with records.run("evaluate", {}, ["data/test"]) as run:
        run.scores("f" * 64, {"test_accuracy": 0.4}, "data/test")
        run.scores("0" * 64, {"test_accuracy": 0.9}, "data/test")  # of nobody's
    uploader.deliver(until_empty=True)
    client, found, _ = runs()
    made = found["transfer@vgg16"]
    (model,) = client.search_logged_models([mlflow_client.experiment(client)])
    assert (model.source_run_id, str(model.status)) == (made.info.run_id, "READY")
    assert model.tags["darkroom.checkpoint_sha256"] == "f" * 64
    assert {(item.key, item.value, item.dataset_name, item.dataset_digest) for item in model.metrics} == {
        ("best_val_accuracy", 0.3, "data/in", "abc.dir"), ("test_accuracy", 0.4, "data/test", "abc.dir"),
    }  # fmt: skip
    assert made.data.metrics["test_accuracy"] == 0.4
    assert [item.model_id for item in made.outputs.model_outputs] == [model.model_id]


def test_runs_of_one_pipeline_have_one_parent(workspace):
    """Two stages of a pipeline are children of one run, whose status is failed once a child failed."""
    record("one")
    record("two", ValueError("it broke"))
    uploader.deliver(until_empty=True)
    _, found, listed = runs()
    assert len(listed) == 3
    assert found["two"].info.status == found["night run"].info.status == "FAILED"
    assert found["two"].data.tags["darkroom.error"] == "it broke"


def test_a_pipeline_is_the_dvc_process_above_the_command(monkeypatch):
    """Inside DVC, runs are grouped by the dvc process above the command, also where another process works for it."""
    monkeypatch.delenv("DARKROOM_PIPELINE", raising=False)
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    monkeypatch.setenv("DVC_STAGE", "dvc.yaml:transfer@vgg16")
    command = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True); sys.stdin.read()"
    above = subprocess.Popen([sys.executable, "-c", f"{command}  # dvc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        below = int(above.stdout.readline())
        monkeypatch.setenv("DARKROOM_COMMAND", str(below))
        found = provenance.pipeline()
        assert found["key"].startswith(f"dvc-{above.pid}-")
        assert found["name"] == "dvc repro"
    finally:
        above.kill()
        os.kill(below, signal.SIGKILL)


def test_delivery_goes_on_where_it_stopped(workspace):
    """A delivery that ends in the middle of a record loses and doubles nothing, even where it forgot what it had done."""
    record()
    folder = uploader.journals()[0]
    whole = (folder / "record.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    (folder / "record.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:5])
    assert uploader.deliver(until_empty=True) == 0
    (folder / "delivered.json").unlink()
    (folder / "record.jsonl").write_bytes(whole)
    assert uploader.deliver(until_empty=True) == 1
    client, found, listed = runs()
    assert len(listed) == 2
    history = client.get_metric_history(found["transfer@vgg16"].info.run_id, "val_accuracy")
    assert [metric.step for metric in history] == [1, 2, 3]


def test_a_stage_that_vanished_is_ended(workspace):
    """The run of a process that was killed ends as killed instead of running for ever."""
    record()
    folder = uploader.journals()[0]
    lines = (folder / "record.jsonl").read_text().splitlines()
    start = json.loads(lines[0]) | {"pid": 2**22 + 1}
    (folder / "record.jsonl").write_text(json.dumps(start) + "\n" + lines[1] + "\n")
    uploader.deliver(until_empty=True)
    uploader.deliver(until_empty=True)
    assert runs()[1]["transfer@vgg16"].info.status == "KILLED"


def test_tracking_can_be_off(workspace, monkeypatch):
    """With DARKROOM_TRACKING=off a stage records nothing, and calls the same methods."""
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    record()
    assert not records.JOURNAL.exists()


def test_the_record_costs_no_mlflow_import(tmp_path):
    """A stage that records a run has not imported MLflow, pandas or torch for it."""
    code = (
        "import sys; from darkroom.tracking import journal; journal.start_delivery = lambda: None\n"
        "with journal.run('x', {}, []) as run: run.metrics({'a': 1})\n"
        "assert not {'mlflow', 'pandas', 'torch'} & set(sys.modules)"
    )
    environment = os.environ | {"DARKROOM_PIPELINE": "x", "DARKROOM_TRACKING": "on"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env=environment)


def test_digests_come_from_the_nearest_output(tmp_path):
    """A path inside an output has the digest of that output; one that no stage wrote has none."""
    lock = tmp_path / "dvc.lock"
    lock.write_text("stages:\n  a:\n    outs:\n    - {path: data/x, md5: 1.dir}\n    - {path: data/x2, md5: '2'}\n")
    assert provenance.digests(["data/x/train", "data/x2", "elsewhere"], lock) == {
        "data/x/train": "1.dir",
        "data/x2": "2",
    }


def test_a_damaged_record_does_not_hold_up_the_others(workspace, capsys):
    """A record that cannot be read is set aside by name, and the next one is delivered."""
    record("damaged")
    (uploader.journals()[0] / "record.jsonl").write_text('{"kind": "start"}\n')
    record("whole")
    assert uploader.deliver(until_empty=True) == 1
    assert "whole" in runs()[1]
    assert len(list(uploader.DAMAGED.iterdir())) == 1


def test_a_run_that_was_deleted_does_not_hold_up_the_others(workspace, capsys):
    """What MLflow refuses, since somebody deleted the run, is set aside; figures of its checkpoint are left out; others arrive."""
    record("first")
    uploader.deliver(until_empty=True)
    client, found, _ = runs()
    client.delete_run(found["first"].info.run_id)
    with records.run("evaluate", {}, []) as run:
        run.scores("f" * 64, {"test_accuracy": 0.4}, "data/test")
    with records.run("at work", {}, []) as run:
        uploader.deliver(until_empty=True)
        client.delete_run(runs()[1]["at work"].info.run_id)
        run.metrics({"a": 1.0})
        record("whole")
    uploader.deliver(until_empty=True)
    _, found, _ = runs()
    assert {"evaluate", "whole"} <= set(found)
    assert uploader.journals() == []
    assert "cannot be delivered, and is kept in" in capsys.readouterr().err


@pytest.mark.parametrize("error", [
    MlflowException("the database is restarting", error_code=BAD_REQUEST), MlflowException("no room"), ConnectionError("gone"),
    JSONDecodeError("a page of some proxy's", "<html>", 0), PermissionError("mlruns"),
])  # fmt: skip
def test_what_may_work_later_is_kept(workspace, monkeypatch, error):
    """A server or disk that fails for now sets no record aside: it is delivered as soon as it works again."""
    record()
    monkeypatch.setattr(runs_.Delivery, "_model", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(type(error)):
        uploader.deliver(until_empty=True)
    monkeypatch.undo()
    monkeypatch.chdir(workspace)
    assert len(uploader.journals()) == 1
    assert uploader.deliver(until_empty=True) == 1
    assert not list(uploader.DAMAGED.iterdir())


def test_stages_at_work_are_followed_after_a_sync(workspace, monkeypatch):
    """`darkroom sync` takes the delivery over, and gives it back where something is still under way."""
    started = []
    monkeypatch.setattr(uploader, "start_delivery", lambda: started.append(1))
    with records.run("at work", {}, []):
        uploader.sync()
    assert started == [1]
    uploader.sync()
    assert started == [1]


def test_a_delivered_run_stays_finished(workspace, monkeypatch):
    """Where the delivery ends between the last record and the removal of the journal, the run stays finished."""
    record()
    monkeypatch.setattr(uploader.shutil, "rmtree", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        uploader.deliver(until_empty=True)
    monkeypatch.undo()
    monkeypatch.chdir(workspace)
    assert uploader.deliver(until_empty=True) == 1
    assert runs()[1]["transfer@vgg16"].info.status == "FINISHED"


def test_a_server_that_is_not_there_is_named(workspace, monkeypatch):
    """`darkroom sync` without a server says so with a remedy, and keeps the record."""
    record()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(WorkspaceError, match=r"127\.0\.0\.1:9"):
        uploader.sync()
    assert len(uploader.journals()) == 1


def test_a_stage_says_that_its_run_is_not_in_mlflow(workspace, monkeypatch, capsys):
    """Where the delivering process cannot reach the server, the next stage says so at its end; once it can, none does."""
    record("first")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert uploader.main() == 1
    record("second")
    assert "second: this run is not in MLflow yet" in capsys.readouterr().err
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert uploader.sync() == 2
    record("third")
    assert "third" not in capsys.readouterr().err


def test_metrics_of_a_run_at_work_are_sent_together(workspace):
    """Metrics wait while the last ones were sent just now, and nothing else does; at the end all of them are there, once."""
    with records.run("baseline", {}, []) as run:
        delivery = runs_.Delivery(run.folder, mlflow_client.client())
        delivery.advance(rest=60)
        for epoch in (1, 2):
            run.epoch({"epoch": epoch, "val_loss": 1 / epoch})
            delivery.advance(rest=60)
        assert not mlflow_client.client().get_metric_history(delivery.state["run"], "val_loss")
        delivery.advance(rest=0)
        run.epoch({"epoch": 3, "val_loss": 0.1})
        run.tag({"darkroom.model": "baseline"})
        delivery.advance(rest=60)
        assert [item.step for item in mlflow_client.client().get_metric_history(delivery.state["run"], "val_loss")] == [1, 2, 3]
    assert delivery.advance(rest=60)


def test_the_machine_is_sampled_after_a_runs_own_metrics(workspace, monkeypatch):
    """Samples of processor and memory wait until a run has metrics of its own or has ended, and none is lost."""
    monkeypatch.setattr(system_metrics, "EVERY", 0.0)
    monkeypatch.setattr(system_metrics, "TOGETHER", 2)
    sent: list[tuple[str, str, int]] = []

    class Client:
        def log_batch(self, run, metrics):
            sent.extend((run, metric.key, metric.step) for metric in metrics)

    machine = system_metrics.System()
    machine.sample(Client(), {"early": False, "other": False})
    machine.sample(Client(), {"early": False})  # the other one has ended
    assert {run for run, *_ in sent} == {"other"}
    machine.sample(Client(), {"early": False})
    assert {run for run, *_ in sent} == {"other"}
    sent_before = len(sent)
    machine.sample(Client(), {"early": True})
    machine.sample(Client(), {"early": True})  # one sample alone is not sent
    assert len(sent) > sent_before
    cpu = [(run, step) for run, key, step in sent if key == "system/cpu_utilization_percentage"]
    assert cpu == [("other", 0), ("early", 0), ("early", 1), ("early", 2)]
    assert {"system/system_memory_usage_megabytes", "system/disk_usage_percentage"} <= {key for _, key, _ in sent}
