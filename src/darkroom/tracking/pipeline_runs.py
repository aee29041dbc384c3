"""The run of a pipeline in MLflow: what it is called, its results, and runs for the stages that were up to date."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.config import dvc_graph
from darkroom.config.dvc_graph import LockedStage
from darkroom.core.errors import WorkspaceError
from darkroom.tracking import changes, entities, pipelines
from darkroom.tracking.entities import (
    KEY,
    MODEL,
    NOTE,
    OUTPUTS,
    PARENT,
    PIPELINE,
    REUSED,
    REUSED_OUTPUTS,
    STAGE,
    Status,
)  # fmt: skip
from darkroom.tracking.pipelines import Pipeline

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PARENT_STAGE = "pipeline"  # the tag STAGE of a pipeline's own run


def parent_run(client: MlflowClient, experiment: str, key: str, name: str, stamp: int) -> str:
    """Return the id of a pipeline's run, RUNNING from now on; `stamp` is in milliseconds since 1970."""
    runs = client.search_runs([experiment], f"tags.`{PIPELINE}` = '{key}' and tags.`{STAGE}` = '{PARENT_STAGE}'", max_results=1)
    if not runs:
        return str(client.create_run(experiment, stamp, {PIPELINE: key, STAGE: PARENT_STAGE}, name).info.run_id)
    if runs[0].info.status != Status.RUNNING:
        client.update_run(runs[0].info.run_id, Status.RUNNING)
    return str(runs[0].info.run_id)


def _merge_parents(client: MlflowClient, experiment: str, key: str, parent: str) -> None:
    """Move what is below other runs of a pipeline to `parent`, and delete those: two machines may make one at the same moment."""
    for other in client.search_runs([experiment], f"tags.`{PIPELINE}` = '{key}' and tags.`{STAGE}` = '{PARENT_STAGE}'"):
        if other.info.run_id != parent:
            for child in client.search_runs([experiment], f"tags.`{PARENT}` = '{other.info.run_id}'", max_results=5000):
                client.set_tag(child.info.run_id, PARENT, parent)
            client.delete_run(other.info.run_id)


def settle(client: MlflowClient, experiment: str, pipeline: Pipeline) -> None:
    """End the run of a pipeline that has ended; doing it again changes nothing.

    Each stage that ran gets the digest of its outputs. Where a stage ran, each stage that was up to date gets a
    run of its own: one that DVC checked because it checked all and finished them, or else because a stage that ran
    depends on it; in either case only if its inputs in dvc.lock are the current ones. A pipeline in which nothing
    ran is its own run alone.
    """
    lock, stamp = pipeline.path / pipelines.LOCKFILE, int(pipeline.ended * 1000)
    parent = parent_run(client, experiment, pipeline.key, pipeline.name, int(pipeline.since * 1000))
    _merge_parents(client, experiment, pipeline.key, parent)
    query = f"tags.`{PIPELINE}` = '{pipeline.key}' and tags.`{PARENT}` = '{parent}'"  # not what a stage has below its own run
    children = client.search_runs([experiment], query, order_by=["attributes.start_time ASC"], max_results=5000)
    ran = {run.data.tags[STAGE]: run for run in children if REUSED not in run.data.tags}  # the last attempt
    stages = _copied_stages(lock)
    locked_at = lock.stat().st_mtime * 1000 if lock.exists() else 0.0
    unfinished = {
        stage for stage, run in ran.items()
        if run.info.status != Status.FINISHED or stage not in stages or locked_at < (run.info.end_time or stamp)
    }  # fmt: skip
    for stage in ran.keys() - unfinished:
        client.set_tag(ran[stage].info.run_id, OUTPUTS, stages[stage].outputs_sha256)
    checked = set(pipeline.checked) if pipeline.checked and not unfinished else dvc_graph.upstream(stages, ran)
    current = dvc_graph.consistent(stages) & (set(pipeline.names) or checked)
    reused = sorted((checked & current) - ran.keys())
    makers = {stage: _maker(client, experiment, stage, stages[stage].outputs_sha256) for stage in reused}
    for stage, maker in makers.items() if ran else ():
        tags = {STAGE: stage, PIPELINE: pipeline.key, PARENT: parent, REUSED_OUTPUTS: stages[stage].outputs_sha256}
        _add_reused(client, experiment, tags, maker, stamp)
    statuses = {ran[stage].info.status for stage in unfinished} - {Status.FINISHED}
    if unfinished and not statuses and pipeline.pid:  # dvc ended before it locked all outputs
        statuses = {Status.KILLED}
    _describe(client, experiment, parent, pipeline, ran, len(reused))
    _log_results(client, parent, {stage: run for stage, run in makers.items() if run} | ran)
    status = Status.FAILED if Status.FAILED in statuses else Status.KILLED if statuses else Status.FINISHED
    client.set_terminated(parent, status, stamp)


def _describe(
    client: MlflowClient, experiment: str, parent: str, pipeline: Pipeline, ran: Mapping[str, Run], reused: int
) -> None:  # fmt: skip
    """Name a pipeline's run by what changed since the one before, and log its dvc.lock."""
    lock = pipeline.path / pipelines.LOCKFILE
    words = changes.describe(_previous_stages(client, experiment, pipeline), _copied_stages(lock), ran)
    name = "" if words and pipeline.name == pipelines.UNNAMED else pipeline.name
    client.update_run(parent, name=" · ".join(filter(None, (words, name))))
    if lock.exists():
        client.log_artifact(parent, str(lock))
    changed = f" Changed: {words}." if words else ""
    client.set_tag(parent, NOTE, f"{len(ran)} stage{'s' * (len(ran) != 1)} ran, {reused} up to date.{changed}")


def _previous_stages(client: MlflowClient, experiment: str, pipeline: Pipeline) -> dict[str, LockedStage]:
    """Return the stages in the dvc.lock of the newest pipeline before this one that has any; none without one."""
    query = f"tags.`{STAGE}` = '{PARENT_STAGE}' and attributes.start_time < {int(pipeline.since * 1000)}"
    for run in client.search_runs([experiment], query, order_by=["attributes.start_time DESC"], max_results=5):
        has_lock = any(item.path == pipelines.LOCKFILE for item in client.list_artifacts(run.info.run_id))
        if has_lock and run.data.tags[PIPELINE] != pipeline.key:
            with tempfile.TemporaryDirectory() as scratch:
                return _copied_stages(Path(client.download_artifacts(run.info.run_id, pipelines.LOCKFILE, scratch)))
    return {}


def _copied_stages(lock: Path) -> dict[str, LockedStage]:
    """Return the stages in a copy of dvc.lock. A damaged copy, as a power failure can leave it, is removed: it says nothing."""
    try:
        return dvc_graph.read_lock(lock)
    except WorkspaceError:
        lock.unlink()
        return {}


def _log_results(client: MlflowClient, parent: str, members: Mapping[str, Run]) -> None:
    """Log what the pipeline's best model is, and its figures, with which pipelines are compared."""
    evaluation = members.get("evaluate")
    best = evaluation.data.tags.get("darkroom.best") if evaluation else None
    if not evaluation or not best:
        return
    metrics, model = evaluation.data.metrics, members.get(best.replace("/", "@"))
    own = model.data.metrics if model else {}
    prefix = best.replace("/", ".")
    values = {
        "test_accuracy": metrics.get(f"{prefix}.accuracy"),
        "best_val_accuracy": metrics.get(f"{prefix}.val_accuracy"),
        "parameters": own.get("parameters"),
    }
    client.set_tag(parent, MODEL, best)
    for key, value in values.items():
        if value is not None:
            client.log_metric(parent, key, value)


def _maker(client: MlflowClient, experiment: str, stage: str, outputs: str) -> Run | None:
    """Return the newest run that made these outputs of a stage."""
    query = f"tags.`{STAGE}` = '{stage}' and tags.`{OUTPUTS}` = '{outputs}'"
    runs = client.search_runs([experiment], query, order_by=["attributes.start_time DESC"], max_results=1)
    return runs[0] if runs else None


def _add_reused(client: MlflowClient, experiment: str, tags: dict[str, str], maker: Run | None, stamp: int) -> None:
    """Add a run for a stage that was up to date, with a link to the run that made its outputs."""
    stage, key = tags[STAGE], f"{tags[PIPELINE]} {tags[STAGE]}"
    runs: list[Run] = list(client.search_runs([experiment], f"tags.`{KEY}` = '{key}'", max_results=1))
    if not runs:
        note = "The run that made its outputs is not in this MLflow."
        if maker:
            started = entities.local_time(maker.info.start_time / 1000)
            note = f"[The run of {started}](#/experiments/{experiment}/runs/{maker.info.run_id}) made its outputs."
        reused = {KEY: key, REUSED: maker.info.run_id if maker else "unknown"}
        tags |= reused | {NOTE: f"This stage was up to date, so it did not run. {note}"}
        runs = [client.create_run(experiment, stamp, tags, f"{stage} (reused)")]
    if runs[0].info.status == Status.RUNNING:
        client.set_terminated(runs[0].info.run_id, Status.FINISHED, stamp)
