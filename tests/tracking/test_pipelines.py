"""A pipeline in MLflow: one parent, the stages that ran, and those that had no need to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from darkroom.config import dvc_graph
from darkroom.tracking import mlflow_client, pipeline_runs, pipelines, provenance, records, uploader

CHAIN = ["ingest", "transfer", "evaluate"]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "DARKROOM_TRACKING", "DVC_STAGE", "DVC_EXP_NAME", "DARKROOM_PIPELINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(records, "start_delivery", lambda: None)
    Path("params.yaml").write_text("backbones: [a, b]\n")
    Path("dvc.yaml").write_text("stages:\n  ingest: {}\n  transfer: {}\n  evaluate: {}\n")
    lock({"ingest": "1", "transfer": "2", "evaluate": "3"})
    return tmp_path


def lock(outs: dict[str, str]) -> None:
    """Write a dvc.lock in which each stage depends on the one before."""
    lines = ["stages:"]
    for stage, above in zip(outs, ["", *outs], strict=False):
        lines += [f"  {stage}:", *([f"    deps: [{{path: out/{above}, md5: '{outs[above]}'}}]"] if above else [])]
        lines.append(f"    outs: [{{path: out/{stage}, md5: '{outs[stage]}'}}]")
    Path("dvc.lock").write_text("\n".join(lines) + "\n")


def ran(monkeypatch, key, *stages, failed="", command=("dvc", "repro")):
    """Act as a pipeline whose dvc process is gone, in which these stages ran."""
    about = {"key": key, "name": "dvc repro", "pid": 2**22 + 1, "born": 1.0, "command": list(command)}
    monkeypatch.setattr(provenance, "pipeline", lambda: about)
    for stage in stages:
        try:
            with records.run(stage, {}, []):
                if stage == failed:
                    raise ValueError("it broke")
        except ValueError:
            pass
    Path("dvc.lock").touch()


def children(key):
    client = mlflow_client.client()
    query = f"tags.`{pipeline_runs.PIPELINE}` = '{key}' and tags.`darkroom.stage` != 'pipeline'"
    return {run.data.tags["darkroom.stage"]: run for run in client.search_runs([mlflow_client.experiment(client)], query)}


def parent(key):
    client = mlflow_client.client()
    query = f"tags.`{pipeline_runs.PIPELINE}` = '{key}' and tags.`darkroom.stage` = 'pipeline'"
    (found,) = client.search_runs([mlflow_client.experiment(client)], query)
    return client, found


def test_a_stage_that_was_up_to_date_leads_to_the_run_that_made_it(workspace, monkeypatch):
    """What DVC skipped is a child called reused, with a link to the run whose outputs are there; the parent has dvc.lock."""
    ran(monkeypatch, "one", *CHAIN)
    uploader.deliver(until_empty=True)
    lock({"ingest": "1", "transfer": "2", "evaluate": "4"})
    ran(monkeypatch, "two", "evaluate")
    uploader.deliver(until_empty=True)
    first, second = children("one"), children("two")
    assert {name: "darkroom.reused" in run.data.tags for name, run in second.items()} == {
        "ingest": True, "transfer": True, "evaluate": False,
    }  # fmt: skip
    for stage in ("ingest", "transfer"):
        assert second[stage].data.tags["darkroom.reused"] == first[stage].info.run_id
        assert f"runs/{first[stage].info.run_id})" in second[stage].data.tags["mlflow.note.content"]
        assert second[stage].info.status == "FINISHED"
    client, above = parent("two")
    assert {run.data.tags["mlflow.parentRunId"] for run in second.values()} == {above.info.run_id}
    assert [item.path for item in client.list_artifacts(above.info.run_id)] == ["dvc.lock"]
    assert above.data.tags["mlflow.note.content"] == "1 stages ran, 2 were up to date."
    assert pipelines.every() == []


def test_dvc_lock_is_that_of_the_end(workspace, monkeypatch):
    """What happens to dvc.lock before MLflow can be reached changes nothing of what an earlier pipeline reused."""
    ran(monkeypatch, "one", *CHAIN)
    before = {stage: provenance.written(locked["outs"]) for stage, locked in dvc_graph.locked().items()}
    pipelines.close_ended()
    lock({"ingest": "7", "transfer": "8", "evaluate": "9"})
    ran(monkeypatch, "two", *CHAIN)
    uploader.deliver(until_empty=True)
    assert {stage: run.data.tags[pipeline_runs.OUTPUTS] for stage, run in children("one").items()} == before
    assert all(run.data.tags[pipeline_runs.OUTPUTS] != before[stage] for stage, run in children("two").items())


def test_a_later_pipeline_closes_an_earlier_one(workspace, monkeypatch):
    """The first stage of the next pipeline notes that the one before has ended, with dvc.lock as it was left."""
    ran(monkeypatch, "one", "ingest")
    ran(monkeypatch, "two", "transfer")
    assert {pipeline.about["key"]: bool(pipeline.end) for pipeline in pipelines.every()} == {"one": True, "two": False}


@pytest.mark.parametrize(
    ("stages", "failed", "command", "reused"),
    [
        (["transfer"], "transfer", ["dvc", "repro"], ["ingest"]),  # evaluate was not reached
        (["transfer"], "", ["dvc", "repro", "transfer"], ["ingest"]),  # nor asked for
        (["transfer"], "", ["dvc", "repro", "dvc.yaml:transfer"], ["ingest"]),
        (["transfer"], "", ["dvc", "repro", "-f"], ["evaluate", "ingest"]),
        (["transfer"], "", ["dvc", "repro", "--glob", "trans*"], ["ingest"]),
        (["transfer"], "", ["dvc", "exp", "run", "-n", "ingest"], ["evaluate", "ingest"]),  # a name, and no target
    ],
)  # fmt: skip
def test_only_what_was_looked_at_was_reused(workspace, monkeypatch, stages, failed, command, reused):
    """After a failure, or with targets, only the stages above those that ran are known to have been up to date."""
    ran(monkeypatch, "one", *stages, failed=failed, command=command)
    uploader.deliver(until_empty=True)
    assert sorted(name for name, run in children("one").items() if "darkroom.reused" in run.data.tags) == reused
    assert parent("one")[1].info.status == ("FAILED" if failed else "FINISHED")


def test_a_stage_that_has_read_something_else_was_not_up_to_date(workspace, monkeypatch):
    """A stage whose entry in dvc.lock is of older inputs was not looked at, whatever dvc was asked to do; nor were those below."""
    ran(monkeypatch, "one", "ingest")
    text = Path("dvc.lock").read_text()
    Path("dvc.lock").write_text(text.replace("deps: [{path: out/ingest, md5: '1'}]", "deps: [{path: out/ingest, md5: '0'}]"))
    uploader.deliver(until_empty=True)
    assert sorted(children("one")) == ["ingest"]


def test_dvc_that_ended_early_is_not_finished(workspace, monkeypatch):
    """Where dvc ended before it noted what a stage wrote, nothing below counts as up to date, and the pipeline was killed."""
    ran(monkeypatch, "one", "transfer")
    os.utime("dvc.lock", (1, 1))
    uploader.deliver(until_empty=True)
    assert sorted(children("one")) == ["ingest", "transfer"]
    assert parent("one")[1].info.status == "KILLED"


def test_a_damaged_note_costs_no_stage(workspace, monkeypatch):
    """A pipeline's note that was torn by a power cut does not keep later stages from running."""
    torn = pipelines.PIPELINES / "torn"
    torn.mkdir(parents=True)
    (torn / "pipeline.json").write_text("")
    ran(monkeypatch, "one", "ingest")
    assert uploader.deliver(until_empty=True) == 1
    assert pipelines.every() == []


def test_what_failed_has_written_nothing(workspace, monkeypatch):
    """A failed run, and one whose outputs never reached dvc.lock, is not tagged with outputs of an earlier run."""
    ran(monkeypatch, "one", "ingest", "transfer", failed="transfer")
    os.utime("dvc.lock", (1, 1))
    uploader.deliver(until_empty=True)
    assert not [run for run in children("one").values() if pipeline_runs.OUTPUTS in run.data.tags]


def test_a_flow_in_which_nothing_ran_has_a_parent(workspace, monkeypatch):
    """`darkroom finished` makes a pipeline of stages of which none had to run; said twice, nothing is doubled."""
    for _ in range(2):
        pipelines.finish({"key": "flow", "name": "a flow"}, CHAIN)
        uploader.deliver(until_empty=True)
    assert sorted(children("flow")) == sorted(CHAIN)
    assert parent("flow")[1].info.status == "FINISHED"


def test_a_stage_that_was_tried_again_counts_as_it_ended(workspace, monkeypatch):
    """Where a flow tries a failed stage again and it then succeeds, the pipeline has succeeded."""
    ran(monkeypatch, "one", "transfer", failed="transfer")
    ran(monkeypatch, "one", "transfer")
    uploader.deliver(until_empty=True)
    assert parent("one")[1].info.status == "FINISHED"


def test_a_running_pipeline_is_left_alone(workspace, monkeypatch):
    """While its dvc process runs a pipeline is not ended, and its run is running."""
    about = {"key": "one", "name": "dvc repro", "pid": os.getpid(), "born": provenance.born(os.getpid()), "command": ["dvc"]}
    monkeypatch.setattr(provenance, "pipeline", lambda: about)
    with records.run("ingest", {}, []):
        pass
    uploader.deliver(until_empty=True)
    assert parent("one")[1].info.status == "RUNNING"
    assert [pipeline.end for pipeline in pipelines.every()] == [None]


def test_a_pipeline_of_which_nobody_says_that_it_ended_does_not_run_for_ever(workspace, monkeypatch):
    """Where somebody sets DARKROOM_PIPELINE and nobody says when it ends, the delivering process ends it when nothing happens."""
    monkeypatch.setenv("DARKROOM_PIPELINE", 'it\'s "mine"')
    monkeypatch.setattr(uploader, "IDLE", 0.6)
    with records.run("ingest", {}, []):
        pass
    assert uploader.deliver(until_empty=False) == 1
    assert parent("it_s _mine_")[1].info.status == "FINISHED"
    assert pipelines.every() == []


def test_a_damaged_pipeline_does_not_hold_up_the_others(workspace, monkeypatch, capsys):
    """A pipeline's folder that cannot be read is set aside, and the next one is ended."""
    ran(monkeypatch, "one", "ingest")
    ran(monkeypatch, "two", "ingest")
    damaged = next(pipeline for pipeline in pipelines.every() if pipeline.about["key"] == "one")
    (damaged.folder / "dvc.lock").write_text("stages: [")
    uploader.deliver(until_empty=True)
    assert parent("two")[1].info.status == "FINISHED"
    assert pipelines.every() == []
    assert "cannot be delivered" in capsys.readouterr().err


def test_stages_are_named_as_dvc_names_them(workspace):
    """Matrix stages are listed by item, and the names are those that DVC lists."""
    Path("dvc.yaml").write_text(
        "stages:\n  one: {cmd: 'true'}\n  two: {matrix: {backbone: '${backbones}'}, cmd: 'true ${item.backbone}'}\n"
        "  three: {matrix: {x: [1], y: [p, q]}, cmd: 'true ${item.x} ${item.y}'}\n"
    )
    Path("dvc.lock").unlink()
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], check=True)
    listed = subprocess.run([sys.executable, "-m", "dvc", "stage", "list", "--name-only"], capture_output=True, text=True)
    assert sorted(dvc_graph.names()) == sorted(listed.stdout.split())


def test_a_pipeline_that_begins_again_is_not_forgotten(workspace, monkeypatch):
    """Where a stage runs once more under the name of a pipeline that is being settled, it is kept for the next delivery."""
    ran(monkeypatch, "one", "ingest")
    (found,) = pipelines.every()
    pipelines.close(found)
    pipelines.begin(found.about)
    pipelines.forget(found)
    assert [item.about["key"] for item in pipelines.every()] == ["one"]
    pipelines.close(found)
    pipelines.forget(found)
    assert pipelines.every() == []
