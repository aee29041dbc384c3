"""Where MLflow keeps its records: SQLite in the workspace, or what MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from darkroom.errors import WorkspaceError
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
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    import logging

    from mlflow import MlflowClient

    logging.getLogger("alembic").setLevel(logging.WARNING)
    with hold(Path(".darkroom/mlflow.lock")):
        made = MlflowClient(uri(), uri())
        experiment(made)
    return made


@contextmanager
def reachable() -> Iterator[None]:
    """Turn what MLflow says of a server or database that it cannot use into one message with a remedy."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise WorkspaceError(
            f"MLflow at {uri()} cannot be used: {str(error).splitlines()[0][:300]}",
            "start the server or correct MLFLOW_TRACKING_URI, then `darkroom sync`: nothing is lost; or set DARKROOM_TRACKING=off",
        ) from error


def experiment(client: Any, name: str = EXPERIMENT) -> str:
    """Return the id of the experiment, made where it is not there yet."""
    known = client.get_experiment_by_name(name)
    if known:
        return known.experiment_id
    return client.create_experiment(name, tags={"mlflow.note.content": DESCRIPTION})
