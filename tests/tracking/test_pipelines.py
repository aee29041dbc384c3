"""A pipeline in MLflow: one parent, the stages that ran, and those that had no need to."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from darkroom.cli import main
from darkroom.config import dvc_graph
from darkroom.tracking import changes, mlflow_client, pipelines, records, uploader
from darkroom.tracking.entities import OUTPUTS, PARENT, PIPELINE, REUSED
from darkroom.tracking.pipelines import Pipeline

CHAIN = ["ingest", "transfer", "evaluate"]
CURRENT = pipelines.current
GONE = 2**22 + 1  # no process has this number


@pytest.fixture(autouse=True)
def project(workspace):
    Path("params.yaml").write_text("backbones: [a, b]\n")
    Path("dvc.yaml").write_text("stages:\n  ingest: {}\n  transfer: {}\n  evaluate: {}\n")
    lock({"ingest": "1", "transfer": "2", "evaluate": "3"})


def lock(outs: dict[str, str]) -> None:
    """Write a dvc.lock in which each stage depends on the one before."""
    lines = ["stages:"]
    for stage, above in zip(outs, ["", *outs], strict=False):
        lines += [f"  {stage}:", *([f"    deps: [{{path: out/{above}, md5: '{outs[above]}'}}]"] if above else [])]
        lines.append(f"    outs: [{{path: out/{stage}, md5: '{outs[stage]}'}}]")
    Path("dvc.lock").write_text("\n".join(lines) + "\n")


def run(monkeypatch, key, *stages, failed="", command=("dvc", "repro")):
    """Act as a pipeline whose dvc process is gone, in which these stages ran."""
    pipeline = Pipeline(key, "dvc repro", pid=GONE, started=1.0, command=list(command))
    monkeypatch.setattr(pipelines, "current", lambda: pipeline)
    for stage in stages:
        try:
            with records.start_run(stage, {}, []):
                if stage == failed:
                    raise ValueError("it broke")
        except ValueError:
            pass
    os.utime("dvc.lock", (time.time(), time.time()))  # `touch` may give an older time


def dvc(*commands: list[str]) -> str:
    """Run commands of the real DVC in a new repository here, in one process; return the output of the last one."""
    subprocess.run(["git", "init", "-q"], check=True)
    code = f"from dvc.cli import main; assert not any([main(words) for words in {[['init', '-q'], *commands]!r}])"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def noted() -> list[Pipeline]:
    return [pipelines.read(folder) for folder in pipelines.folders()]


def children(key):
    client = mlflow_client.client()
    query = f"tags.`{PIPELINE}` = '{key}' and tags.`darkroom.stage` != 'pipeline'"
    return {run.data.tags["darkroom.stage"]: run for run in client.search_runs([mlflow_client.experiment(client)], query)}


def parent(key):
    client = mlflow_client.client()
    query = f"tags.`{PIPELINE}` = '{key}' and tags.`darkroom.stage` = 'pipeline'"
    (parent_run,) = client.search_runs([mlflow_client.experiment(client)], query)
    return client, parent_run


@pytest.mark.slow
def test_a_stage_that_was_up_to_date_leads_to_the_run_that_made_it(monkeypatch):
    """What DVC skipped is a child called reused, with a link to the run whose outputs are there; the parent
    has dvc.lock."""
    run(monkeypatch, "one", *CHAIN)
    uploader.upload(until_empty=True)
    lock({"ingest": "1", "transfer": "2", "evaluate": "4"})
    run(monkeypatch, "two", "evaluate")
    uploader.upload(until_empty=True)
    first, second = children("one"), children("two")
    assert {name: REUSED in run.data.tags for name, run in second.items()} == {
        "ingest": True, "transfer": True, "evaluate": False,
    }  # fmt: skip
    for stage in ("ingest", "transfer"):
        assert second[stage].data.tags[REUSED] == first[stage].info.run_id
        assert f"runs/{first[stage].info.run_id})" in second[stage].data.tags["mlflow.note.content"]
        assert second[stage].info.status == "FINISHED"
    client, above = parent("two")
    assert {run.data.tags["mlflow.parentRunId"] for run in second.values()} == {above.info.run_id}
    assert [item.path for item in client.list_artifacts(above.info.run_id)] == ["dvc.lock"]
    assert above.data.tags["mlflow.note.content"].startswith("1 stage ran, 2 up to date.")
    assert noted() == []


@pytest.mark.slow
def test_dvc_lock_is_that_of_the_end(monkeypatch):
    """What happens to dvc.lock before MLflow can be reached changes nothing of what an earlier pipeline
    reused."""
    run(monkeypatch, "one", *CHAIN)
    before = {name: stage.outputs_sha256 for name, stage in dvc_graph.read_lock().items()}
    pipelines.close_ended()
    lock({"ingest": "7", "transfer": "8", "evaluate": "9"})
    run(monkeypatch, "two", *CHAIN)
    uploader.upload(until_empty=True)
    assert {stage: run.data.tags[OUTPUTS] for stage, run in children("one").items()} == before
    assert all(run.data.tags[OUTPUTS] != before[stage] for stage, run in children("two").items())


@pytest.mark.slow
def test_the_outputs_of_an_experiment_are_those_of_its_commit(monkeypatch, tmp_path):
    """Where DVC has removed the folder of an experiment before anybody copied its last dvc.lock, the one of its commit counts,
    and not that of an earlier experiment with its name."""
    for since, outputs in ((1.0, True), (time.time() + 60, False)):
        key = f"tidy-owl-{since}"
        gone = Pipeline(key, "tidy-owl", since, str(tmp_path / "gone"), pid=GONE, started=1.0, command=["dvc", "exp", "run"])
        monkeypatch.setattr(pipelines, "current", lambda gone=gone: gone)
        with records.start_run("transfer", {}, []):
            pass
        if outputs:
            git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
            for words in (
                ["init", "-q"],
                ["add", "dvc.lock"],
                ["commit", "-qm", "one"],
                ["update-ref", "refs/exps/a/b/tidy-owl", "HEAD"],
            ):
                subprocess.run([*git, *words], check=True)
        uploader.upload(until_empty=True)
        assert (OUTPUTS in children(key)["transfer"].data.tags) == outputs


def test_a_later_pipeline_closes_an_earlier_one(monkeypatch):
    """The first stage of the next pipeline notes that the one before has ended, with dvc.lock as it was
    left."""
    run(monkeypatch, "one", "ingest")
    run(monkeypatch, "two", "transfer")
    assert {pipeline.key: bool(pipeline.ended) for pipeline in noted()} == {"one": True, "two": False}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stages", "failed", "command", "reused"),
    [
        (["transfer"], "transfer", ["dvc", "repro"], ["ingest"]),  # evaluate was not reached
        (["transfer"], "", ["dvc", "repro", "transfer"], ["ingest"]),  # nor a target
        (["transfer"], "", ["dvc", "repro", "dvc.yaml:transfer"], ["ingest"]),
        (["transfer"], "", ["dvc", "repro", "-f"], ["evaluate", "ingest"]),
        (["transfer"], "", ["dvc", "repro", "--glob", "trans*"], ["ingest"]),
        (["transfer"], "", ["dvc", "exp", "run", "-n", "ingest"], ["evaluate", "ingest"]),  # a name, and no target
    ],
)  # fmt: skip
def test_only_stages_that_dvc_checked_were_reused(monkeypatch, stages, failed, command, reused):
    """After a failure, or with targets, only the stages above those that ran are known to have been up to
    date."""
    run(monkeypatch, "one", *stages, failed=failed, command=command)
    uploader.upload(until_empty=True)
    assert sorted(name for name, run in children("one").items() if REUSED in run.data.tags) == reused
    assert parent("one")[1].info.status == ("FAILED" if failed else "FINISHED")


def test_a_stage_with_older_inputs_was_not_up_to_date(monkeypatch):
    """A stage whose entry in dvc.lock has older inputs was not checked, whatever the command of dvc; nor were
    those below."""
    run(monkeypatch, "one", "ingest")
    text = Path("dvc.lock").read_text()
    Path("dvc.lock").write_text(text.replace("deps: [{path: out/ingest, md5: '1'}]", "deps: [{path: out/ingest, md5: '0'}]"))
    uploader.upload(until_empty=True)
    assert sorted(children("one")) == ["ingest"]


def test_dvc_that_ended_early_is_not_finished(monkeypatch):
    """Where dvc ended before it noted what a stage wrote, nothing below counts as up to date, and the
    pipeline was killed."""
    run(monkeypatch, "one", "transfer")
    os.utime("dvc.lock", (1, 1))
    uploader.upload(until_empty=True)
    assert sorted(children("one")) == ["ingest", "transfer"]
    assert parent("one")[1].info.status == "KILLED"


def test_a_damaged_note_costs_no_stage(monkeypatch):
    """A pipeline's note that was torn by a power cut does not keep later stages from running."""
    torn = pipelines.PIPELINES / "torn"
    torn.mkdir(parents=True)
    (torn / "pipeline.json").write_text("")
    run(monkeypatch, "one", "ingest")
    assert uploader.upload(until_empty=True) == 1
    assert noted() == []


def test_a_failed_run_has_no_outputs(monkeypatch):
    """A failed run, and one whose outputs never reached dvc.lock, is not tagged with outputs of an earlier
    run."""
    run(monkeypatch, "one", "ingest", "transfer", failed="transfer")
    os.utime("dvc.lock", (1, 1))
    uploader.upload(until_empty=True)
    assert not [run for run in children("one").values() if OUTPUTS in run.data.tags]


def test_a_pipeline_with_a_damaged_lock_is_uploaded_without_it(monkeypatch):
    """Where a power failure has left a damaged copy of dvc.lock, the pipeline is uploaded and ends, without outputs, and nothing is
    set aside.
    """
    run(monkeypatch, "one", "ingest")
    Path("dvc.lock").write_bytes(b"\0" * 200)
    pipelines.close_ended()
    uploader.upload(until_empty=True)
    client, above = parent("one")
    assert not client.list_artifacts(above.info.run_id)
    assert above.info.status != "RUNNING"
    assert not records.damaged()
    assert OUTPUTS not in children("one")["ingest"].data.tags
    lock({"ingest": "1", "transfer": "2", "evaluate": "3"})
    run(monkeypatch, "two", "ingest")
    uploader.upload(until_empty=True)
    assert OUTPUTS in children("two")["ingest"].data.tags
    assert noted() == []


@pytest.mark.slow
def test_a_flow_in_which_nothing_ran_is_one_run_with_results(monkeypatch):
    """`darkroom finished` makes one run, without children, of stages that were all up to date; called twice, it doubles
    nothing. The run has the figures of the best model and says that nothing changed."""
    run(monkeypatch, "one", "ingest", "transfer")
    with records.start_run("evaluate", {}, []) as record:
        record.log_metrics({"transfer.accuracy": 0.9, "transfer.val_accuracy": 0.8, "baseline.accuracy": 0.1})
        record.set_tags({"darkroom.best": "transfer"})
    os.utime("dvc.lock", (time.time(), time.time()))
    uploader.upload(until_empty=True)
    monkeypatch.setattr(pipelines, "current", CURRENT)
    monkeypatch.setenv("DARKROOM_PIPELINE", "flow")
    for _ in range(2):
        assert main(["finished", "--pipeline", "flow", *CHAIN]) == 0
        uploader.upload(until_empty=True)
    assert children("flow") == {}
    first, second = parent("one")[1], parent("flow")[1]
    assert second.info.status == "FINISHED"
    for above in (first, second):
        assert above.data.metrics == {"test_accuracy": 0.9, "best_val_accuracy": 0.8}
        assert above.data.tags["darkroom.model"] == "transfer"
    assert first.info.run_name == changes.FIRST
    assert second.info.run_name == f"{changes.NOTHING} · flow"


def test_a_pipeline_is_named_by_what_changed(monkeypatch):
    """The run of a pipeline is named by the params that differ from those of the pipeline before it, and by its experiment,
    also when it has failed."""
    run(monkeypatch, "one", *CHAIN)
    uploader.upload(until_empty=True)
    text = Path("dvc.lock").read_text()
    with_params = "    params: {params.yaml: {transfer: {lr: %s}}}\n    outs: [{path: out/transfer"
    Path("dvc.lock").write_text(text.replace("    outs: [{path: out/transfer", with_params % "0.003"))
    run(monkeypatch, "two", "transfer")
    uploader.upload(until_empty=True)
    Path("dvc.lock").write_text(text.replace("    outs: [{path: out/transfer", with_params % "0.01"))
    run(monkeypatch, "three", "transfer", "evaluate", failed="evaluate")
    uploader.upload(until_empty=True)
    names = [parent(key)[1].info.run_name for key in ("one", "two", "three")]
    assert names == [changes.FIRST, changes.FORCED, "transfer.lr 0.003 → 0.01"]


def test_a_stage_that_was_tried_again_counts_as_it_ended(monkeypatch):
    """Where a flow tries a failed stage again and it then succeeds, the pipeline has succeeded."""
    run(monkeypatch, "one", "transfer", failed="transfer")
    run(monkeypatch, "one", "transfer")
    uploader.upload(until_empty=True)
    assert parent("one")[1].info.status == "FINISHED"


def test_a_running_pipeline_is_left_alone(monkeypatch):
    """While its dvc process runs a pipeline is not ended, and its run is running."""
    started = psutil.Process().create_time()
    pipeline = Pipeline("one", "dvc repro", pid=os.getpid(), started=started, command=["dvc"])
    monkeypatch.setattr(pipelines, "current", lambda: pipeline)
    with records.start_run("ingest", {}, []):
        pass
    uploader.upload(until_empty=True)
    assert parent("one")[1].info.status == "RUNNING"
    assert [pipeline.ended for pipeline in noted()] == [0.0]


def test_a_stage_that_ends_during_an_upload_is_one_that_ran(monkeypatch):
    """Where the last stage of a pipeline runs, and DVC ends, after an upload has listed the records, that stage is uploaded before
    the pipeline ends: it is not taken for one that was up to date, and the pipeline's run does not stay as running."""
    listed = uploader.pending

    def list_then_run():
        folders = listed()
        monkeypatch.setattr(uploader, "pending", listed)
        with records.start_run("transfer", {}, []):
            pass
        os.utime("dvc.lock", (time.time(), time.time()))
        dvc_process.kill()
        dvc_process.wait()
        return folders

    with subprocess.Popen(["sleep", "600"]) as dvc_process:
        started = psutil.Process(dvc_process.pid).create_time()
        pipeline = Pipeline("one", "dvc repro", pid=dvc_process.pid, started=started, command=["dvc", "repro"])
        monkeypatch.setattr(pipelines, "current", lambda: pipeline)
        with records.start_run("ingest", {}, []):
            pass
        monkeypatch.setattr(uploader, "pending", list_then_run)
        uploader.upload(until_empty=True)
    assert [REUSED in children("one")[stage].data.tags for stage in ("ingest", "transfer")] == [False, False]
    assert {run.info.status for run in (*children("one").values(), parent("one")[1])} == {"FINISHED"}
    assert noted() == []


def test_a_pipeline_whose_end_is_not_announced_ends(monkeypatch):
    """Where DARKROOM_PIPELINE is set and `darkroom finished` is not run, the uploader ends the pipeline when
    nothing happens."""
    monkeypatch.setenv("DARKROOM_PIPELINE", 'it\'s "mine"')
    monkeypatch.setattr(uploader, "IDLE", 0.6)
    with records.start_run("ingest", {}, []):
        pass
    assert uploader.upload() == 1
    assert parent("it_s _mine_")[1].info.status == "FINISHED"
    assert noted() == []


def test_a_damaged_pipeline_does_not_hold_up_the_others(monkeypatch, capsys):
    """A pipeline whose files cannot be read is set aside with the reason, and the next one is ended."""
    run(monkeypatch, "one", "ingest")
    run(monkeypatch, "two", "ingest")
    damaged = next(pipeline for pipeline in noted() if pipeline.key == "one")
    (damaged.path / "dvc.lock").unlink()
    (damaged.path / "dvc.lock").mkdir()
    uploader.upload(until_empty=True)
    assert parent("two")[1].info.status == "FINISHED"
    assert noted() == []
    assert damaged.path.name in capsys.readouterr().err
    ((name, reason),) = records.damaged().items()
    assert name == damaged.path.name
    assert "dvc.lock" in reason


@pytest.mark.slow
def test_stages_are_named_as_dvc_names_them():
    """Matrix stages are listed by item, and the names are those that DVC lists."""
    Path("dvc.yaml").write_text(
        "stages:\n  one: {cmd: 'true'}\n  two: {matrix: {backbone: '${backbones}'}, cmd: 'true ${item.backbone}'}\n"
        "  three: {matrix: {x: [1], y: [p, q]}, cmd: 'true ${item.x} ${item.y}'}\n"
    )
    Path("dvc.lock").unlink()
    listed = dvc(["stage", "list", "--name-only"])
    assert sorted(dvc_graph.stage_names()) == sorted(listed.split())


def test_a_pipeline_that_begins_again_is_not_forgotten(monkeypatch):
    """Where a stage runs once more under the name of a pipeline that is being settled, it is kept for the
    next upload."""
    run(monkeypatch, "one", "ingest")
    (pipeline,) = noted()
    pipelines.close(pipeline)
    pipelines.join()
    pipelines.forget(pipeline)
    assert [item.key for item in noted()] == ["one"]
    pipelines.close(pipeline)
    pipelines.forget(pipeline)
    assert noted() == []


ODD = ("on", "off", "yes", "no", "null", "true", "1e3", "12:30", "017", "2026-11-28", "0o17", "1_000", ".inf", "~", "=", "<<")


@pytest.mark.slow
def test_every_folder_name_is_text(monkeypatch):
    """DVC writes YAML 1.2, where `on` and `12:30` are text: data folders of any such name have digests, and
    stop no upload."""
    names = [Path("data", name) for name in ODD] + [Path(name) for name in ODD]
    for name in names:
        name.mkdir(parents=True)
        (name / "a.txt").write_text(str(name))
    outs = "".join(f"    - {str(name)!r}\n" for name in names)
    Path("dvc.yaml").write_text(f"stages:\n  ingest:\n    cmd: 'true'\n    outs:\n{outs}")
    Path("dvc.lock").unlink()
    dvc(["commit", "-q", "-f"])
    lock = Path("dvc.lock").read_text()
    assert "path: on\n" in lock  # not quoted: the point of this test
    stage = dvc_graph.read_lock()["ingest"]
    assert set(stage.outs) == {str(name) for name in names}
    assert all(len(md5) == 36 for md5 in stage.outs.values())
    assert set(dvc_graph.digests([str(name) for name in names])) == {str(name) for name in names}
    run(monkeypatch, "one", "ingest")
    assert uploader.upload(until_empty=True) == 1
    assert noted() == []
    assert records.damaged() == {}


def test_a_pipeline_of_the_version_before_is_settled(monkeypatch):
    """The files of a pipeline that an earlier Darkroom left are read."""
    folder = Pipeline("old", "").path
    folder.mkdir(parents=True)
    about = {"key": "old", "name": "dvc repro", "pid": GONE, "born": 12.0, "command": ["dvc", "repro"], "since": 1.0, "folder": "."}
    (folder / "pipeline.json").write_text(json.dumps({**about, "names": CHAIN}))
    uploader.upload(until_empty=True)
    assert parent("old")[1].info.status == "FINISHED"


def test_a_stage_that_moves_to_another_machine_has_one_run(monkeypatch):
    """With the key that the leading machine gives, a stage that was killed, and that runs again elsewhere, is one finished run, and
    only the leading machine ends the pipeline.
    """
    monkeypatch.setenv("DARKROOM_PIPELINE", "night 1")
    monkeypatch.setattr(records, "start_uploader", lambda: None)
    for attempt in range(2):
        monkeypatch.setenv("DARKROOM_RUN_KEY", "its-key")
        monkeypatch.setattr(records, "NUMBERS", itertools.count())  # each attempt is a process of its own
        with records.start_run("ingest", {"size": 1}, []) as record:
            record.log_metrics({"loss": 1.0})
        if attempt == 0:  # the first one was killed before its end
            file = record.folder / records.RECORD
            file.write_text("".join(file.read_text().splitlines(keepends=True)[:-2]))
            monkeypatch.delenv("DARKROOM_RUN_KEY")
            assert not pipelines.folders()
        uploader.sync()
    monkeypatch.delenv("DARKROOM_RUN_KEY")
    main(["finished", "--pipeline", "night 1", "ingest"])
    uploader.sync()
    client = mlflow_client.client()
    runs = client.search_runs([mlflow_client.experiment(client)])
    assert sorted((run.data.tags["darkroom.stage"], run.info.status) for run in runs) == [
        ("ingest", "FINISHED"),
        ("pipeline", "FINISHED"),
    ]


def test_two_machines_that_begin_a_pipeline_share_its_run(monkeypatch):
    """Where two machines have made the run of a pipeline at the same moment, one is left, with the stages of both."""
    client = mlflow_client.client()
    experiment = mlflow_client.experiment(client)
    for stage in ("ingest", "transfer"):
        parent = client.create_run(experiment, 1, {PIPELINE: "k", "darkroom.stage": "pipeline"}).info.run_id
        client.create_run(experiment, 2, {PIPELINE: "k", "darkroom.stage": stage, PARENT: parent})
    monkeypatch.setenv("DARKROOM_PIPELINE", "k")
    monkeypatch.setattr(records, "start_uploader", lambda: None)
    main(["finished", "--pipeline", "k"])
    uploader.sync()
    runs = {run.data.tags["darkroom.stage"]: run for run in client.search_runs([experiment])}
    assert sorted(runs) == ["ingest", "pipeline", "transfer"]
    assert {runs[stage].data.tags[PARENT] for stage in ("ingest", "transfer")} == {runs["pipeline"].info.run_id}
