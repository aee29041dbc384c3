"""What MLflow remembers, as plain values: runs, the pipelines they belong to, and the images that they saw."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from darkroom.core.errors import WorkspaceError
from darkroom.tracking import mlflow_client, pipeline_runs, requests
from darkroom.tracking.home import HOME

MANIFESTS = HOME / ".darkroom/manifests"  # what ingest runs wrote, by run


@dataclass(frozen=True)
class Run:
    """A run of a stage or of a pipeline; times are in seconds since 1970."""

    id: str
    name: str
    status: str
    started: float
    params: dict[str, str] = field(default_factory=dict, repr=False)
    metrics: dict[str, float] = field(default_factory=dict, repr=False)
    tags: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def stage(self) -> str:
        """`transfer@vgg16`, or `pipeline`."""
        return self.tags.get(pipeline_runs.STAGE, "")

    @property
    def pipeline(self) -> str:
        """What is the same for the runs of one pipeline."""
        return self.tags.get(pipeline_runs.PIPELINE, "")

    @property
    def outputs(self) -> str:
        """What identifies what the stage wrote, or found up to date; nothing where that is not known."""
        return self.tags.get(pipeline_runs.OUTPUTS) or self.tags.get(pipeline_runs.REUSED_OUTPUTS, "")

    @property
    def reused(self) -> str:
        """The run that made what this one found up to date; nothing for a run that did its work."""
        return self.tags.get(pipeline_runs.REUSED, "")


def runs(experiment: str = mlflow_client.EXPERIMENT) -> list[Run]:
    """Return every run of an experiment, oldest first; WorkspaceError where there is no such experiment."""
    return [Run(**item) for item in requests.done("reading", "runs", experiment=experiment)["runs"]]


def histories(wanted: list[str], keys: list[str]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Return for runs the values of metrics over steps: `{run: {key: [(step, value), …]}}`."""
    found = requests.done("reading", "histories", wanted=wanted, keys=keys)["histories"]
    return {run: {key: [(step, value) for step, value in pairs] for key, pairs in kept.items()} for run, kept in found.items()}


def manifest(run: str) -> Path | None:
    """Return the manifest that an ingest run wrote, downloaded once; None where it kept none."""
    kept = MANIFESTS / f"{run}.parquet"
    if not kept.exists() and not requests.done("reading", "manifest", run=run)["found"]:
        return None
    return kept


def _runs(client: Any, experiment: str) -> dict[str, Any]:
    known = client.get_experiment_by_name(experiment)
    if known is None:
        names = ", ".join(sorted(item.name for item in client.search_experiments()))
        raise WorkspaceError(f"MLflow has no experiment {experiment}", f"name one that it has: {names}")
    made, token = [], None
    while True:
        order = ["attributes.start_time ASC"]
        page = client.search_runs([known.experiment_id], order_by=order, max_results=1000, page_token=token)
        for run in page:
            info, data = run.info, run.data
            made.append(
                asdict(Run(info.run_id, info.run_name, info.status, info.start_time / 1000, data.params, data.metrics, data.tags))
            )
        token = page.token
        if not token:
            return {"runs": made}


def _histories(client: Any, wanted: list[str], keys: list[str]) -> dict[str, Any]:
    return {
        "histories": {
            run: {key: [(item.step, item.value) for item in client.get_metric_history(run, key)] for key in keys} for run in wanted
        }
    }


def _manifest(client: Any, run: str) -> dict[str, Any]:
    if "manifest.parquet" not in {item.path for item in client.list_artifacts(run)}:
        return {"found": False}
    MANIFESTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=MANIFESTS) as scratch:
        mlflow_client.library()
        got = Path(client.download_artifacts(run, "manifest.parquet", scratch))
        shutil.move(got, MANIFESTS / f"{run}.parquet")
    return {"found": True}


WORK: dict[str, Callable[..., dict[str, Any]]] = {"runs": _runs, "histories": _histories, "manifest": _manifest}
