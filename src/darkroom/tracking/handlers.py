"""What MLflow does for `registry`, `queries` and `darkroom finished`, by the name of the function; results are JSON values.

The uploader calls these functions, or the command itself where no uploader responds.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from darkroom.core.errors import WorkspaceError
from darkroom.core.locks import hold
from darkroom.tracking import home, mlflow_client, model_package, pipeline_runs
from darkroom.tracking.entities import CHALLENGER, CHAMPION, CHECK, EVALUATION, MODEL, SHA, Promotion, Run, Version

MANIFEST = "manifest.parquet"
LEDGER = "darkroom.ledger."  # the tags of the ledger begin with this
LOCK = home.HOME / ".darkroom/registry.lock"
Json = dict[str, Any]


def perform(handler: str, arguments: Json) -> Any:
    """Return the result of a handler; raise WorkspaceError where MLflow cannot be used."""
    with mlflow_client.reachable(), hold(LOCK):
        return HANDLERS[handler](mlflow_client.client(), **arguments)


def runs(client: MlflowClient, experiment: str) -> list[Json]:
    found = client.get_experiment_by_name(experiment)
    if found is None:
        names = ", ".join(sorted(item.name for item in client.search_experiments()))
        raise WorkspaceError(f"MLflow has no experiment {experiment}", f"choose one of {names}")
    rows, token = [], None
    while True:
        page = client.search_runs([found.experiment_id], order_by=["attributes.start_time ASC"], max_results=1000, page_token=token)
        for run in page:
            info, data = run.info, run.data
            row = Run(info.run_id, info.run_name, info.status, info.start_time / 1000, data.params, data.metrics, data.tags)
            rows.append(asdict(row))
        token = page.token
        if not token:
            return rows


def histories(client: MlflowClient, run_ids: list[str], keys: list[str]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    return {
        run: {key: [(item.step, item.value) for item in client.get_metric_history(run, key)] for key in keys} for run in run_ids
    }


def manifest(client: MlflowClient, run_id: str) -> bool:
    """Download the manifest of an ingest run; return whether it has one."""
    if MANIFEST not in {item.path for item in client.list_artifacts(run_id)}:
        return False
    home.MANIFESTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.MANIFESTS) as scratch:
        mlflow_client.library()
        shutil.move(client.download_artifacts(run_id, MANIFEST, scratch), home.MANIFESTS / f"{run_id}.parquet")
    return True


def register(
    client: MlflowClient, name: str, checkpoint: str, package: str, sha256: str, tags: dict[str, str], description: str
) -> Json:
    same = [item for item in client.search_model_versions(f"name='{name}'") if item.tags.get(SHA) == sha256]
    if same:
        version = str(max(same, key=lambda item: int(item.version)).version)
    else:
        version = _create(client, name, Path(checkpoint), Path(package), {**tags, SHA: sha256}, description)
    client.set_registered_model_alias(name, CHALLENGER, version)
    return asdict(Version(version, tags[MODEL], sha256, not same))


def _create(client: MlflowClient, name: str, checkpoint: Path, package: Path, tags: dict[str, str], description: str) -> str:
    """Make the logged model of a checkpoint, that of the run that trained it if there is one, a version."""
    experiment = mlflow_client.experiment(client)
    logged = mlflow_client.logged_model(client, experiment, tags[SHA])
    if logged is None:
        model, own = tags[MODEL], {key: tags[key] for key in (SHA, MODEL)}
        logged = client.create_logged_model(experiment, name=model.replace("/", "-"), tags=own)
        client.finalize_logged_model(logged.model_id, "READY")
    with tempfile.TemporaryDirectory(dir=package) as scratch:
        folder = Path(scratch) / "model"
        model_package.save(folder, checkpoint, package, logged.model_id)
        model_package.compare(folder, package / CHECK)
        client.log_model_artifacts(logged.model_id, str(folder))
    try:
        client.create_registered_model(name, description="The best model of each Darkroom pipeline, by validation accuracy.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(
        name, f"models:/{logged.model_id}", run_id=logged.source_run_id, tags=tags, description=description,
        model_id=logged.model_id,
    )  # fmt: skip
    return str(version.version)


def champion(client: MlflowClient, name: str) -> Json | None:
    try:
        version = client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return asdict(_version(version))


def promote(client: MlflowClient, name: str, version: str, why: str, by: str) -> None:
    before = champion(client, name)
    previous = before["version"] if before else ""
    if previous != version:
        client.get_model_version(name, version)
        line = Promotion(time.time(), version, previous, why[:2000], by)
        client.set_registered_model_tag(name, f"{LEDGER}{time.time_ns()}", json.dumps(asdict(line)))
        client.set_registered_model_alias(name, CHAMPION, version)


def describe(client: MlflowClient, name: str, version: str, tags: dict[str, str], description: str) -> None:
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)
    client.update_model_version(name, version, description)


def ledger(client: MlflowClient, name: str) -> list[Json]:
    try:
        tags = client.get_registered_model(name).tags
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        tags = {}
    return [json.loads(tags[key]) for key in sorted(tags) if key.startswith(LEDGER)]


def versions(client: MlflowClient, name: str) -> list[Json]:
    listed = client.search_model_versions(f"name='{name}'")
    aliases = client.get_registered_model(name).aliases if listed else {}  # a search returns no aliases
    names = {str(item.version): [alias for alias, version in aliases.items() if version == item.version] for item in listed}
    return [asdict(_version(item, names[str(item.version)])) for item in listed]


def _version(item: Any, aliases: list[str] | None = None) -> Version:
    tags, made = dict(item.tags), item.creation_timestamp / 1000
    return Version(str(item.version), tags.get(MODEL, ""), tags.get(SHA, ""), made=made, aliases=aliases or [], tags=tags)


def fetch(client: MlflowClient, name: str, version: str) -> str:
    sha256 = client.get_model_version(name, version).tags.get(SHA, "")
    folder = home.VERSIONS / (sha256[:32] or f"{name}-{version}")
    if not folder.is_dir():
        working = folder.with_name(f"{folder.name}.{os.getpid()}")
        shutil.rmtree(working, ignore_errors=True)
        mlflow = mlflow_client.library()
        whole = Path(mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{name}/{version}", dst_path=str(working / "whole")))
        parts = Model.load(str(whole)).flavors.get("python_function", {}).get("artifacts", {})
        if "checkpoint" not in parts:
            shutil.rmtree(working)
            raise WorkspaceError(f"version {version} of {name} is no model of Darkroom's", "`darkroom models` lists those that are")
        for part in ("checkpoint", EVALUATION):
            if part in parts:
                (whole / parts[part]["path"]).rename(working / part)
        shutil.rmtree(working / "whole")
        working.rename(folder)
    return str(folder.resolve())


HANDLERS = {
    function.__name__: function
    for function in (
        runs, histories, manifest, register, champion, promote, describe, ledger, versions, fetch, pipeline_runs.place
    )
}  # fmt: skip
