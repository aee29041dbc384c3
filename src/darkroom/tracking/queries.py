"""Runs that MLflow has, as plain values, and the manifests of the images that they used."""

from __future__ import annotations

from pathlib import Path

from darkroom.tracking import home, requests
from darkroom.tracking.entities import Run


def runs(experiment: str = home.EXPERIMENT) -> list[Run]:
    """Return every run of an experiment, oldest first; raise WorkspaceError where there is no such experiment."""
    return [Run(**run) for run in requests.call("runs", experiment=experiment)]


def histories(run_ids: list[str], keys: list[str]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Return the values of metrics over steps: `{run: {key: [(step, value), …]}}`."""
    response = requests.call("histories", run_ids=run_ids, keys=keys)
    return {run: {key: [tuple(pair) for pair in pairs] for key, pairs in metrics.items()} for run, metrics in response.items()}


def manifest(run_id: str) -> Path | None:
    """Return the manifest that an ingest run wrote, downloaded once; None where MLflow has none."""
    path = home.MANIFESTS / f"{run_id}.parquet"
    return path if path.exists() or requests.call("manifest", run_id=run_id) else None
