"""A pipeline as a run of MLflow: the parent of its stages' runs, those that DVC had no need to run included."""

from __future__ import annotations

import time
from typing import Any

from darkroom.config import dvc_graph
from darkroom.tracking import mlflow_client, provenance
from darkroom.tracking.pipelines import Pipeline

PIPELINE, STAGE, KEY = "darkroom.pipeline", "darkroom.stage", "darkroom.key"
OUTPUTS = "darkroom.outputs_sha256"
REUSED, REUSED_OUTPUTS = "darkroom.reused", "darkroom.reused_outputs_sha256"
PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"
RUNNING, FINISHED, FAILED, KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"


def tags(client: Any, experiment: str, about: dict[str, Any], stamp: int) -> dict[str, str]:
    """Return the tags that make a run a child of its pipeline's; that one is made where it is not there yet."""
    return {PARENT: _parent(client, experiment, about, stamp), PIPELINE: about["key"]}


def settle(client: Any, pipeline: Pipeline) -> None:
    """End the run of a pipeline: what its stages wrote, which of them were up to date, its dvc.lock, and how it ended.

    Doing it again changes nothing. A stage is known to have been up to date where DVC looked at every stage and finished them
    all, and otherwise where a stage that ran depends on it; in either case only where what it read is what is there now.
    """
    about, end = pipeline.about, pipeline.end
    assert end is not None
    experiment, stamp = mlflow_client.experiment(client), int(end["time"] * 1000)
    parent = _parent(client, experiment, about, int(about["since"] * 1000))
    children = _children(client, experiment, about["key"])
    ran = {run.data.tags[STAGE]: run for run in children if REUSED not in run.data.tags}
    locked = pipeline.locked
    lock = pipeline.folder / "dvc.lock"
    unfinished = {stage for stage, run in ran.items() if run.info.status in (FAILED, KILLED)}
    for stage, run in ran.items():
        if run.info.status != FINISHED:
            continue
        if stage in locked and lock.stat().st_mtime * 1000 >= (run.info.end_time or stamp):
            client.set_tag(run.info.run_id, OUTPUTS, provenance.written(locked[stage].get("outs", [])))
        else:  # dvc ended before it had noted what this stage wrote
            unfinished.add(stage)
    known = set(end["stages"]) if end["stages"] and not unfinished else dvc_graph.above(locked, ran)
    listed = set(about.get("names", [])) or known
    reused = {stage for stage in known & listed & dvc_graph.consistent(locked) if stage not in ran}
    for stage in sorted(reused):
        _reused(client, experiment, parent, about["key"], stage, provenance.written(locked[stage].get("outs", [])), stamp)
    wrong = {ran[stage].info.status for stage in unfinished} - {FINISHED}
    if unfinished and not wrong and "pid" in about:  # nothing failed, and yet dvc did not come to its end
        wrong = {KILLED}
    if lock.exists():
        client.log_artifact(parent, str(lock))
    client.set_tag(parent, NOTE, f"{len(ran)} stages ran, {len(reused)} were up to date.")
    client.set_terminated(parent, FAILED if FAILED in wrong else KILLED if wrong else FINISHED, stamp)


def _parent(client: Any, experiment: str, about: dict[str, Any], stamp: int) -> str:
    """Return the run of a pipeline, which runs (again) from now on."""
    query = f"tags.`{PIPELINE}` = '{about['key']}' and tags.`{STAGE}` = 'pipeline'"
    known = client.search_runs([experiment], query, max_results=1)
    if known:
        if known[0].info.status != RUNNING:
            client.update_run(known[0].info.run_id, RUNNING)
        return known[0].info.run_id
    name = f"{about['name']} {time.strftime('%Y-%m-%d %H:%M', time.localtime(stamp / 1000))}"
    return client.create_run(experiment, stamp, {PIPELINE: about["key"], STAGE: "pipeline"}, name).info.run_id


def _children(client: Any, experiment: str, key: str) -> list[Any]:
    """Return the runs of a pipeline's stages, oldest first; of a stage that was tried again the last one counts."""
    query = f"tags.`{PIPELINE}` = '{key}' and tags.`{STAGE}` != 'pipeline'"
    return client.search_runs([experiment], query, order_by=["attributes.start_time ASC"], max_results=5000)


def _reused(client: Any, experiment: str, parent: str, key: str, stage: str, written: str, stamp: int) -> None:
    """Show a stage that was up to date, with a link to the run that wrote what is there."""
    mine = f"{key} {stage}"
    known = client.search_runs([experiment], f"tags.`{KEY}` = '{mine}'", max_results=1)
    if known:
        if known[0].info.status == RUNNING:  # the delivering process ended between the two
            client.set_terminated(known[0].info.run_id, FINISHED, stamp)
        return
    query = f"tags.`{STAGE}` = '{stage}' and tags.`{OUTPUTS}` = '{written}'"
    made = client.search_runs([experiment], query, order_by=["attributes.start_time DESC"], max_results=1)
    maker = made[0].info.run_id if made else ""
    said = "Up to date, so it did not run. "
    if made:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(made[0].info.start_time / 1000))
        said += f"What it wrote was made by [the run of {when}](#/experiments/{experiment}/runs/{maker})."
    else:
        said += "No run that this MLflow knows wrote what is there."
    found = {
        KEY: mine, STAGE: stage, PIPELINE: key, PARENT: parent, NOTE: said, REUSED: maker or "unknown",
        REUSED_OUTPUTS: written,
    }  # fmt: skip
    run = client.create_run(experiment, stamp, found, f"{stage} (reused)")
    client.set_terminated(run.info.run_id, FINISHED, stamp)


def place(client: Any, about: dict[str, Any]) -> dict[str, str]:
    """Return where the run of a pipeline is shown: its address on a server, or what it is called."""
    experiment = mlflow_client.experiment(client)
    run = _parent(client, experiment, about, int(time.time() * 1000))
    if mlflow_client.uri().startswith(("http://", "https://")):
        return {"place": f"{mlflow_client.uri().rstrip('/')}/#/experiments/{experiment}/runs/{run}"}
    return {"place": f"the run {client.get_run(run).info.run_name} ({run})"}


WORK = {"place": place}
