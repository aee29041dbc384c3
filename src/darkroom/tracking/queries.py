"""Runs that MLflow has, as plain values, and the manifests of the images that they used."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from darkroom.core import atomic
from darkroom.core.errors import WorkspaceError, without_login
from darkroom.core.lazy import lazy_imports
from darkroom.tracking import home, pipeline_runs
from darkroom.tracking.entities import Run
from darkroom.tracking.requests import Client, in_mlflow

with lazy_imports():
    from darkroom.tracking import mlflow_client

MANIFEST = "manifest.parquet"
RUN_ID = re.compile(r"[\w-]+")


@in_mlflow
def runs(client: Client, experiment: str = home.EXPERIMENT) -> list[Run]:
    """Return every run of an experiment, oldest first; raise WorkspaceError where it does not exist."""
    details = client.get_experiment_by_name(experiment)
    if details is None:
        names = ", ".join(sorted(item.name for item in client.search_experiments()))
        raise WorkspaceError(f"MLflow has no experiment {experiment}", f"choose one of {names}")
    rows: list[Run] = []
    token: str | None = ""
    order = ["attributes.start_time ASC"]
    while token is not None:
        page = client.search_runs([details.experiment_id], order_by=order, max_results=1000, page_token=token or None)
        for info, data in ((run.info, run.data) for run in page):
            rows.append(Run(info.run_id, info.run_name, info.status, info.start_time / 1000, data.params, data.metrics, data.tags))
        token = page.token or None
    return rows


@in_mlflow
def histories(client: Client, run_ids: list[str], keys: list[str]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Return the values of metrics over steps: `{run: {key: [(step, value), …]}}`."""
    return {
        run: {key: [(item.step, item.value) for item in client.get_metric_history(run, key)] for key in keys} for run in run_ids
    }


@in_mlflow
def manifest(client: Client, run_id: str) -> Path | None:
    """Return the manifest that an ingest run wrote, downloaded once; None where MLflow has none."""
    if not RUN_ID.fullmatch(run_id):  # it becomes the name of a file, and others may write to MLflow
        return None
    path = (home.OWN_CACHE / "manifests" if home.is_read_only() else home.MANIFESTS) / f"{run_id}.parquet"
    if not path.exists():
        if MANIFEST not in {item.path for item in client.list_artifacts(run_id)}:
            return None
        with atomic.scratch_folder(path) as scratch:
            mlflow_client.library()
            Path(client.download_artifacts(run_id, MANIFEST, str(scratch))).replace(path)
    if not home.is_read_only():
        os.utime(path)  # `darkroom tidy --older-than` removes what is not used
    return path.resolve()


@in_mlflow
def pipeline_address(client: Client, key: str, name: str) -> str:
    """Return the address of a pipeline's run on a server, or its name and id."""
    experiment = mlflow_client.experiment(client)
    run = pipeline_runs.parent_run(client, experiment, key, name, int(time.time() * 1000))
    if home.uri().startswith(("http://", "https://")):
        return f"{without_login(home.uri()).rstrip('/')}/#/experiments/{experiment}/runs/{run}"
    return f"the run {client.get_run(run).info.run_name} ({run})"
