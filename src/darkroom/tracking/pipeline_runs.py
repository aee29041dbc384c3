"""A pipeline as a run of MLflow: the parent of its stages' runs, including stages that were up to date."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from darkroom.config import dvc_graph
from darkroom.tracking import home, mlflow_client
from darkroom.tracking.entities import KEY, OUTPUTS, PIPELINE, REUSED, REUSED_OUTPUTS, STAGE
from darkroom.tracking.pipelines import Pipeline
from darkroom.tracking.provenance import outputs_digest
from darkroom.tracking.records import FAILED, FINISHED, KILLED

PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"
RUNNING = "RUNNING"


def child_tags(client: MlflowClient, experiment: str, pipeline: Mapping[str, str], stamp: int) -> dict[str, str]:
    """Return the tags that make a run a child of its pipeline's run, which is created if needed."""
    return {PARENT: parent_run(client, experiment, pipeline["key"], pipeline["name"], stamp), PIPELINE: pipeline["key"]}


def parent_run(client: MlflowClient, experiment: str, key: str, name: str, stamp: int) -> str:
    """Return the id of a pipeline's run, RUNNING from now on; `stamp` is in milliseconds since 1970."""
    runs = client.search_runs([experiment], f"tags.`{PIPELINE}` = '{key}' and tags.`{STAGE}` = 'pipeline'", max_results=1)
    if not runs:
        title = f"{name} {time.strftime('%Y-%m-%d %H:%M', time.localtime(stamp / 1000))}"
        return str(client.create_run(experiment, stamp, {PIPELINE: key, STAGE: "pipeline"}, title).info.run_id)
    if runs[0].info.status != RUNNING:
        client.update_run(runs[0].info.run_id, RUNNING)
    return str(runs[0].info.run_id)


def settle(client: MlflowClient, pipeline: Pipeline) -> None:
    """End the run of a pipeline that has ended; doing it again changes nothing.

    Each stage that ran gets the digest of its outputs, and each stage that was up to date a run of its own. A
    stage was up to date where DVC checked all stages and finished them, else where a stage that ran depends
    on it; in either case only if its inputs in dvc.lock are the current ones.
    """
    experiment, stamp = mlflow_client.experiment(client), int(pipeline.ended * 1000)
    parent = parent_run(client, experiment, pipeline.key, pipeline.name, int(pipeline.since * 1000))
    stages, lock = pipeline.stages, pipeline.path / "dvc.lock"
    query = f"tags.`{PIPELINE}` = '{pipeline.key}' and tags.`{STAGE}` != 'pipeline'"
    children = client.search_runs([experiment], query, order_by=["attributes.start_time ASC"], max_results=5000)
    ran = {run.data.tags[STAGE]: run for run in children if REUSED not in run.data.tags}  # the last attempt
    unfinished = {stage for stage, run in ran.items() if not _is_locked(run, stage, stages, lock, stamp)}
    for stage in ran.keys() - unfinished:
        client.set_tag(ran[stage].info.run_id, OUTPUTS, outputs_digest(stages[stage].outs))
    checked = set(pipeline.checked) if pipeline.checked and not unfinished else dvc_graph.upstream(stages, ran)
    current = dvc_graph.consistent(stages) & (set(pipeline.names) or checked)
    reused = sorted((checked & current) - ran.keys())
    for stage in reused:
        _add_reused(client, experiment, parent, pipeline.key, stage, outputs_digest(stages[stage].outs), stamp)
    statuses = {ran[stage].info.status for stage in unfinished} - {FINISHED}
    if unfinished and not statuses and pipeline.pid:  # dvc ended before it locked all outputs
        statuses = {KILLED}
    if lock.exists():
        client.log_artifact(parent, str(lock))
    client.set_tag(parent, NOTE, f"{len(ran)} stages ran, {len(reused)} were up to date.")
    client.set_terminated(parent, FAILED if FAILED in statuses else KILLED if statuses else FINISHED, stamp)


def _is_locked(run: Run, stage: str, stages: dict[str, dvc_graph.LockedStage], lock: Path, stamp: int) -> bool:
    """Return whether a stage finished, and dvc.lock was written after that."""
    if run.info.status != FINISHED or stage not in stages:
        return False
    return lock.stat().st_mtime * 1000 >= (run.info.end_time or stamp)


def _add_reused(client: MlflowClient, experiment: str, parent: str, pipeline: str, stage: str, outputs: str, stamp: int) -> None:
    """Add a run for a stage that was up to date, with a link to the run that made its outputs."""
    key = f"{pipeline} {stage}"
    runs: list[Run] = list(client.search_runs([experiment], f"tags.`{KEY}` = '{key}'", max_results=1))
    if not runs:
        query = f"tags.`{STAGE}` = '{stage}' and tags.`{OUTPUTS}` = '{outputs}'"
        makers = client.search_runs([experiment], query, order_by=["attributes.start_time DESC"], max_results=1)
        maker, note = "unknown", "The run that made its outputs is not in this MLflow."
        if makers:
            maker = makers[0].info.run_id
            started = time.strftime("%Y-%m-%d %H:%M", time.localtime(makers[0].info.start_time / 1000))
            note = f"[The run of {started}](#/experiments/{experiment}/runs/{maker}) made its outputs."
        tags = {KEY: key, STAGE: stage, PIPELINE: pipeline, PARENT: parent, REUSED: maker, REUSED_OUTPUTS: outputs}
        tags[NOTE] = f"This stage was up to date, so it did not run. {note}"
        runs = [client.create_run(experiment, stamp, tags, f"{stage} (reused)")]
    if runs[0].info.status == RUNNING:
        client.set_terminated(runs[0].info.run_id, FINISHED, stamp)


def address(client: MlflowClient, key: str, name: str) -> str:
    """Return the address of a pipeline's run on a server, or its name and id."""
    experiment = mlflow_client.experiment(client)
    run = parent_run(client, experiment, key, name, int(time.time() * 1000))
    if home.uri().startswith(("http://", "https://")):
        return f"{home.uri().rstrip('/')}/#/experiments/{experiment}/runs/{run}"
    return f"the run {client.get_run(run).info.run_name} ({run})"
