"""Where MLflow keeps its records: SQLite in the workspace, or what MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from darkroom.core.errors import WorkspaceError
from darkroom.core.locks import hold
from darkroom.tracking.home import HOME

EXPERIMENT = "darkroom"
RETRYABLE = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")  # what MLflow calls a server that is down, and a database that is locked
NOTE = "mlflow.note.content"
KIND = "mlflow.experimentKind"  # else MLflow takes it for one of language models
PAGES = "workflowType=machine_learning"  # and so does its menu
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
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(HOME / 'mlflow.db').resolve()}"


def client() -> Any:
    """Return MLflow's client; the database is made once, under a lock, since two processes that make it collide."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    import logging

    from mlflow import MlflowClient

    logging.getLogger("alembic").setLevel(logging.WARNING)
    with hold(HOME / ".darkroom/mlflow.lock"):
        if _database().exists():
            _refuse_older(_database())  # MLflow would change it without a copy
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
            error.error_code in RETRYABLE,
        ) from error


def experiment(client: Any, name: str = EXPERIMENT) -> str:
    """Return the id of the experiment, made where it is not there yet."""
    known = client.get_experiment_by_name(name)
    if known:
        if known.tags.get(NOTE) != DESCRIPTION:  # an older Darkroom's
            client.set_experiment_tag(known.experiment_id, NOTE, DESCRIPTION)
        return known.experiment_id
    return client.create_experiment(name, tags={NOTE: DESCRIPTION, KIND: "custom_model_development"})


def library() -> Any:
    """Return MLflow itself, told which server it is about."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    mlflow.set_tracking_uri(uri())
    mlflow.set_registry_uri(uri())
    return mlflow


def upgrade() -> Path | None:
    """Bring the database in this folder to the schema of the MLflow that is installed; return the copy of what it was.

    None where it was up to date already. Raises WorkspaceError for a database elsewhere, which is its server's own, and for one
    of a newer MLflow.
    """
    file = _database()
    if not uri().startswith("sqlite:///"):
        raise WorkspaceError(
            f"{uri()} is not a database in this folder",
            "where its server runs: stop it, make a backup, and run `mlflow db upgrade` with the address of its database",
        )
    if not file.exists():
        raise WorkspaceError(f"there is no {file}", "the first `dvc repro` makes it")
    with hold(HOME / ".darkroom/mlflow.lock"):
        if _schema(file) in ("", _scripts().get_current_head()):
            return None
        copy = file.with_name(f"{file.name}.{time.strftime('%Y-%m-%d-%H%M%S')}")
        with sqlite3.connect(file) as connection, sqlite3.connect(copy) as backup:
            connection.backup(backup)
        done = subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", uri()], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise WorkspaceError(f"{file} could not be brought up to date: {last}", f"as it was before it is kept as {copy}")
    return copy


def _database() -> Path:
    """Return the file of the database in this folder, or what is no file where the records are elsewhere."""
    place = uri()
    return Path(place.removeprefix("sqlite:///") if place.startswith("sqlite:///") else "/no such file")


def _scripts() -> Any:
    """Return the schemas that the installed MLflow knows, and the ways from one to the next."""
    import mlflow
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))


def _schema(file: Path) -> str:
    """Return the schema of a database, nothing of an empty one; WorkspaceError for what is none of MLflow's, or a newer one's."""
    try:
        with sqlite3.connect(file) as connection:
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
                return ""
            ((found,),) = connection.execute("SELECT version_num FROM alembic_version")
    except (sqlite3.Error, ValueError) as error:
        if "locked" in str(error) or "unable to open" in str(error):
            raise WorkspaceError(f"{file} cannot be read now: {error}", "try again when nothing else uses it") from error
        raise WorkspaceError(f"{file} is no database of MLflow's: {error}", "move it away: the next run makes a new one") from error
    if found not in {script.revision for script in _scripts().walk_revisions()}:
        raise WorkspaceError(
            f"{file} was made by a newer MLflow (its schema is {found})", "install that MLflow, or move the file away"
        )
    return str(found)


def _refuse_older(file: Path) -> None:
    if _schema(file) not in ("", _scripts().get_current_head()):
        raise WorkspaceError(
            f"{file} was made by an older MLflow", "`darkroom upgrade` keeps a copy and brings it up to date: nothing is lost"
        )
