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
NOTE = "mlflow.note.content"
DESCRIPTION = """\
One row per run of `dvc repro` or of a flow; unfold it for its stages, `transfer@vgg16` and so on. A stage that was up to date is
there as *(reused)*, with a link to the run that made what it found.

- **Which network is better?** Filter `params.stage = "transfer"` (or finetune, baseline), select the rows, *Compare*: parallel
  coordinates of `backbone` against `best_val_accuracy`, `test_accuracy`, `parameters` and `duration_seconds`.
- **How did they learn?** In the same comparison `val_accuracy`, `val_loss`, `lr`, `train_gradient_norm`: a step is an epoch.
- **Which classes are hard?** Artifact `per_class.json` of the runs named `evaluate`.
- **What was it trained on?** Tags `input.<path>` hold the md5 of dvc.lock for what a stage read; `darkroom.outputs_sha256` is made
  of those of what it wrote. `darkroom lineage` goes from an image to every model that saw it, and back.
- **What is in use?** The registered model `darkroom`: the version with the alias `champion`.

Choose by validation; the test figures are there to be looked at last.
"""


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
        if known.tags.get(NOTE) != DESCRIPTION:  # an older Darkroom's
            client.set_experiment_tag(known.experiment_id, NOTE, DESCRIPTION)
        return known.experiment_id
    return client.create_experiment(name, tags={NOTE: DESCRIPTION})


def library() -> Any:
    """Return MLflow itself, told which server it is about."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    mlflow.set_tracking_uri(uri())
    mlflow.set_registry_uri(uri())
    return mlflow
