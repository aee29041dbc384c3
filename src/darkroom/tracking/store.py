"""Where MLflow keeps its records: SQLite in the workspace, or what MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from darkroom.tracking.locks import hold

EXPERIMENT = "darkroom"
DESCRIPTION = (
    "One run per stage that ran, grouped under its pipeline. Stages are named as in dvc.yaml; `val_accuracy` over steps is the "
    "learning curve, tags `input.<path>` hold the md5 of what the stage read, as in dvc.lock."
)


def uri() -> str:
    """Return the tracking URI: MLFLOW_TRACKING_URI, else SQLite at mlflow.db in this folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlflow.db').resolve()}"


def client() -> Any:
    """Return MLflow's client; the database is made once, under a lock, since two processes that make it collide."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import logging

    from mlflow import MlflowClient

    logging.getLogger("alembic").setLevel(logging.WARNING)
    with hold(Path(".darkroom/mlflow.lock")):
        made = MlflowClient(uri(), uri())
        experiment(made)
    return made


def experiment(client: Any, name: str = EXPERIMENT) -> str:
    """Return the id of the experiment, made where it is not there yet."""
    known = client.get_experiment_by_name(name)
    if known:
        return known.experiment_id
    return client.create_experiment(name, tags={"mlflow.note.content": DESCRIPTION})
