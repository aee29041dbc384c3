"""What of MLflow's history is removed for its age, and what never is.

Never removed are the versions with an alias, the newest ones, the last champions, and what versions that stay refer to: the run
that trained them, its pipeline, and the runs that made what the pipeline reused. The same holds for what is not old, and for the
runs that made the outputs of today.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from darkroom.core.lazy import lazy_imports
from darkroom.tracking import home, queries, registry
from darkroom.tracking.entities import KEY, MEMBER_OF, PARENT, SHA, Run, Version
from darkroom.tracking.requests import Client, in_mlflow

with lazy_imports():
    from mlflow.store.tracking import sqlalchemy_store

    from darkroom.tracking import mlflow_client


@dataclass(frozen=True)
class Expired:
    """Numbers of versions and ids of runs that may be removed."""

    versions: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)


def expired(name: str, before: float, keep: int, current: Iterable[str]) -> Expired:
    """Return what is older than `before`, in seconds since 1970, and not protected.

    `keep` is the number of newest versions and of last champions that stay; `current` has the digests of the outputs of today.
    """
    versions, champions = registry.versions(name), registry.champion_history(registry.ledger(name))
    return select(versions, champions, queries.runs(), before, keep, set(current))


def select(versions: list[Version], champions: list[str], runs: list[Run], before: float, keep: int, current: set[str]) -> Expired:
    """Return what of these versions and runs may be removed; arguments as of `expired`."""
    newest = sorted(versions, key=lambda item: int(item.version))[-keep:]
    protected = {item.version for item in newest} | set(champions[-keep:])
    old = [item for item in versions if not item.aliases and item.created_at < before and item.version not in protected]
    removed = {item.version for item in old}
    digests = {item.sha256 for item in versions if item.version not in removed and item.sha256}
    makers = {run.pipeline for run in runs if run.tags.get(SHA) in digests}
    kept = {
        run.id for run in runs
        if run.started >= before or run.status == "RUNNING" or run.outputs in current or (run.pipeline and run.pipeline in makers)
    }  # fmt: skip
    kept = _with_references(kept, runs)
    return Expired(sorted(removed, key=int), [run.id for run in runs if run.id not in kept])


def _with_references(kept: set[str], runs: list[Run]) -> set[str]:
    """Return these runs with those that they refer to: parents, and makers of what they reused."""
    by_id = {run.id: run for run in runs}
    by_key = {run.tags[KEY]: run.id for run in runs if KEY in run.tags}
    related, todo = set(kept), list(kept)
    while todo:
        run = by_id[todo.pop()]
        referred = {run.reused, run.tags.get(PARENT, ""), by_key.get(run.tags.get(MEMBER_OF, ""), "")}
        new = (referred & by_id.keys()) - related
        related |= new
        todo += new
    return related


@in_mlflow
def remove(client: Client, name: str, versions: list[str], runs: list[str]) -> None:
    """Remove versions, runs, their logged models and their files from the project's own MLflow.

    Files go first, so that a removal that was killed is completed by the next one.
    """
    store = sqlalchemy_store.SqlAlchemyStore(home.uri(), home.ROOT)
    numbers = set(versions)
    used = {_logged_model(item) for item in client.search_model_versions(f"name='{name}'") if str(item.version) not in numbers}
    for version in versions:
        if (model_id := _logged_model(client.get_model_version(name, version))) not in used:
            _remove_logged_model(client, store, model_id)
        client.delete_model_version(name, version)
    for model in _logged_models(client, set(runs)):
        if model not in used:
            _remove_logged_model(client, store, model)
    for run in runs:
        _remove_files(client.get_run(run).info.artifact_uri)
        store._hard_delete_run(run)  # as `mlflow gc` does
    store.engine.dispose()


def _logged_model(version: Any) -> str:
    """Return the id of the logged model that a version consists of."""
    return str(version.source or "").removeprefix("models:/")


def _logged_models(client: Client, runs: set[str]) -> list[str]:
    """Return the ids of the logged models of these runs."""
    model_ids, token = [], None
    while True:
        page = client.search_logged_models([mlflow_client.experiment(client)], page_token=token)
        model_ids += [model.model_id for model in page if model.source_run_id in runs]
        if not (token := page.token):
            return model_ids


def _remove_logged_model(client: Client, store: Any, model_id: str) -> None:
    with mlflow_client.ignored("RESOURCE_DOES_NOT_EXIST"):
        _remove_files(client.get_logged_model(model_id).artifact_location)
        store._hard_delete_logged_model(model_id)


def _remove_files(location: str) -> None:
    """Remove the folder that has the folder `artifacts` of a run or of a logged model, where it is the project's own."""
    folder, root = (home.HOME / location).resolve().parent, (home.HOME / home.ROOT).resolve()
    if root in folder.parents and Path(location).name == "artifacts":
        shutil.rmtree(folder, ignore_errors=True)
