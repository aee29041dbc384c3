"""MLflow's client and its database: created once, and upgraded only on request."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, closing, contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import mlflow
from alembic.script import ScriptDirectory
from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

from darkroom.core import atomic, shortage
from darkroom.core.errors import WorkspaceError
from darkroom.core.locks import hold
from darkroom.tracking import artifact_paths, backups, home, server_check, views
from darkroom.tracking.entities import NOTE, SHA
from darkroom.tracking.home import EXPERIMENT, HOME, ROOT, database, uri
from darkroom.tracking.server_check import REMEDY

RETRYABLE = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")  # server down, database locked
UNAUTHENTICATED, DENIED = "UNAUTHENTICATED", "PERMISSION_DENIED"
REFUSED = {  # by a server with users: what it does, and the remedy
    UNAUTHENTICATED: (
        "refuses this user or password",
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to yours, then `darkroom sync`: nothing is lost",
    ),
    DENIED: (
        "does not permit this user to do this",
        "ask the owner of the experiment or of the registered model, or MLflow's admin: only these delete and grant",
    ),
}
HTTP_LIMITS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "30", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}  # seconds; MLflow's own: 120, and 7
DRIVERS = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}  # packages of modules
GROWTH = 4_000_000  # bytes of a database without which nothing is written: SQLite's journal holds changed pages a second time
KIND = "mlflow.experimentKind"  # without it MLflow shows the pages of language models
DESCRIPTION = """\
One row per run of `dvc repro` or of a flow, named by what changed; unfold it for its stages, `transfer@vgg16` and so on. A stage
that was up to date is there as *(reused)*, with a link to the run that made its outputs. The menu *Views* has the pages below.

- **Which network is better?** View *Models, best first*; tick rows, *Compare*.
- **How did they learn?** In the same comparison `val_accuracy`, `val_loss`, `lr`, `train_gradient_norm`: a step is an epoch.
- **Which initialisation, which architecture?** The view of a study: bars and curves by member, averaged over seeds.
- **Which classes are hard?** Artifact `per_class.json` of the runs named `evaluate`.
- **What was it trained on?** Tags `input.<path>` hold the md5 in dvc.lock of a stage's inputs, `darkroom.outputs_sha256` a digest
  of its outputs there. `darkroom lineage` goes from an image to every model that used it, and back.
- **What is in use?** The registered model `darkroom`: the version with the alias `champion`.

Choose by validation; test results are for the end.
"""


class NewerDatabaseError(WorkspaceError):
    """A database has a schema that the installed MLflow does not know."""


def client() -> MlflowClient:
    """Return MLflow's client; the database is created under a lock, since two processes would collide."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name, limit in HTTP_LIMITS.items():
        os.environ.setdefault(name, limit)
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if server_check.is_server(uri()):
        _check_response(uri())
    if home.is_read_only() and (file := database()):
        if not file.exists() or backups.is_empty(file):
            raise WorkspaceError(
                f"there is no {file}, and {HOME.resolve()} cannot be written", "copy the project, or ask its owner"
            )
        _check_current(file)
        return MlflowClient(uri(), uri())
    with hold(artifact_paths.LOCK):
        if file := database():
            _prepare(file)
        created = _open()
        _check_artifacts(created.get_experiment(experiment(created)).artifact_location)
        artifact_paths.make_relative()
    return created


def _prepare(file: Path) -> None:
    """Make a database that is not there. Raises WorkspaceError for one that is damaged, lost, or of another MLflow."""
    if file.parent.is_dir() and backups.is_empty(file):
        backups.check_not_lost(file, is_newer)
        make_database(file)
    elif file.exists():
        _check_current(file)


def make_database(file: Path) -> None:
    """Make an empty database, whole or not at all: MLflow takes seconds for it, in many transactions."""
    try:
        with atomic.new_file(file) as working:
            _make(working)
    except SQLAlchemyError as error:
        raise shortage.explain(error) or WorkspaceError(
            f"{file} cannot be made: {str(error).splitlines()[0][:300]}",
            "make its folder writable, then `darkroom sync`: nothing is lost",
        ) from error


def _check_current(file: Path) -> None:
    """Raise WorkspaceError for a database of an older MLflow, which MLflow would upgrade without a copy, or a damaged one."""
    if not is_current(file):
        raise WorkspaceError(
            f"{file} was made by an older MLflow", "`darkroom update` keeps a copy and upgrades it: nothing is lost"
        )


def _make(file: Path) -> None:
    """Make an empty database of the installed MLflow."""
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    folder = os.getcwd()
    if repr(folder) == f"'{folder}'":
        SqlAlchemyStore(home.sqlite_uri(file), ROOT).engine.dispose()
        return
    # MLflow writes the folder of artifacts into its SQL as Python writes a text: a quote or a line break there ends the statement
    target = file.resolve()
    with tempfile.TemporaryDirectory() as scratch, chdir(scratch):
        scratch_file = Path(scratch, target.name)
        SqlAlchemyStore(home.sqlite_uri(scratch_file), ROOT).engine.dispose()
        with closing(sqlite3.connect(scratch_file)) as connection, connection:
            connection.execute("UPDATE experiments SET artifact_location = ?", [f"{folder}/{ROOT}/0"])
        backups.copy(scratch_file, target)


@cache
def _check_response(address: str) -> None:
    """Raise WorkspaceError where a server does not respond; one that has, is not asked again in this process."""
    server_check.check(address)


def _open() -> MlflowClient:
    """Return a client. Raises WorkspaceError where the package is missing with which SQLAlchemy reaches a database."""
    try:
        return MlflowClient(uri(), uri())
    except ModuleNotFoundError as error:
        package = DRIVERS.get(error.name or "", error.name)
        raise WorkspaceError(
            f"MLflow at {uri()} needs the package {package}, which is not installed",
            f"pip install '{package}', or name the driver that is: {uri().partition(':')[0].partition('+')[0]}+DRIVER://…",
        ) from error
    except NoSuchModuleError as error:
        raise WorkspaceError(
            f"MLflow at {uri()} names a database or driver that SQLAlchemy does not know: {error}", REMEDY
        ) from error


def _check_artifacts(location: str) -> None:
    """Raise WorkspaceError for a server of a project's own database: this process would write below its own folder."""
    if server_check.is_server(uri()) and not urlsplit(location).scheme and not Path(location).is_absolute():
        raise WorkspaceError(
            f"MLflow at {uri()} shows the database of one project, which stores artifacts in the folder of that project",
            "unset MLFLOW_TRACKING_URI in that project; for several projects start a server with a database of its own",
        )


@contextmanager
def reachable() -> Iterator[None]:
    """Work in the project's folder, which artifacts are relative to (a stage of an experiment runs elsewhere).

    MLflow's errors about a server or database that it cannot use become one message with a remedy.
    """
    try:
        with chdir(HOME):
            yield
    except MlflowException as error:
        if full := shortage.explain(error):
            raise full from error
        if error.error_code in REFUSED:
            raise WorkspaceError(f"MLflow at {uri()} {REFUSED[error.error_code][0]}", REFUSED[error.error_code][1]) from error
        file = database()
        if file and file.exists() and (problem := backups.damage(file)):
            raise backups.damaged(file, problem) from error
        raise WorkspaceError(
            f"MLflow at {uri()} cannot be used: {str(error).splitlines()[0][:300]}", REMEDY, error.error_code in RETRYABLE
        ) from error


def experiment(client: MlflowClient) -> str:
    """Return the id of the experiment, which is created if needed."""
    existing, tags = client.get_experiment_by_name(EXPERIMENT), {NOTE: DESCRIPTION, **views.built_in()}
    if not existing:
        return str(client.create_experiment(EXPERIMENT, tags={**tags, KIND: "custom_model_development"}))
    for key, value in tags.items():
        if existing.tags.get(key) != value:  # an older Darkroom's
            client.set_experiment_tag(existing.experiment_id, key, value)
    return str(existing.experiment_id)


def view_addresses(base: str) -> dict[str, str]:
    """Return the addresses of the views of runs on a server, by key: pipelines, models, and those of studies."""
    tracking = client()
    details = tracking.get_experiment(experiment(tracking))
    keys = [key.removeprefix(views.TAG) for key in details.tags if key.startswith(views.TAG)]
    shown = [views.PIPELINES, views.MODELS, *sorted(key for key in keys if key.startswith(views.STUDY))]
    return {key: views.address(base, details.experiment_id, key, key.startswith(views.STUDY)) for key in shown}


def logged_model_name(model: str) -> str:
    """Return the name of a model, `transfer/timm/resnet18.a1_in1k`, without the characters that MLflow refuses in it."""
    return re.sub(r"[/:.%\"']", "-", model)


def logged_model(client: MlflowClient, experiment: str, sha256: str) -> LoggedModel | None:
    """Return the newest logged model of the checkpoint with this digest, or None."""
    newest = [{"field_name": "creation_timestamp", "ascending": False}]
    query = f"tags.`{SHA}` = '{sha256}'"
    models = client.search_logged_models([experiment], query, max_results=1, order_by=newest)
    return models[0] if models else None


@contextmanager
def ignored(*codes: str) -> Iterator[None]:
    """Ignore MLflow's errors with these codes."""
    try:
        yield
    except MlflowException as error:
        if error.error_code not in codes:
            raise


def download_model(address: str, folder: Path) -> Path:
    """Download a model `models:/NAME/VERSION`, and return its folder."""
    return Path(library().artifacts.download_artifacts(artifact_uri=address, dst_path=str(folder)))


def library() -> ModuleType:
    """Return MLflow itself, set to the tracking URI."""
    mlflow.set_tracking_uri(uri())
    mlflow.set_registry_uri(uri())
    return mlflow


def upgrade() -> Path | None:
    """Upgrade the database to the installed MLflow; return its backup, or None where it was up to date.

    Raises WorkspaceError for a database elsewhere, which belongs to its server, and for one of a newer
    MLflow.
    """
    file = database()
    if file is None:
        raise WorkspaceError(
            f"{uri()} is not a database in this folder",
            "on its server: stop MLflow, make a backup, and run `mlflow db upgrade` with the address of the database",
        )
    if not file.exists():
        raise WorkspaceError(f"there is no {file}", "the first `dvc repro` creates it")
    with hold(artifact_paths.LOCK):
        if is_current(file):
            return None
        backup = file.with_name(f"{file.name}.{time.strftime(backups.DATE)}")
        backups.copy(file, backup)
        with closing(sqlite3.connect(file)) as connection, atomic.scratch_folder(file) as scratch:
            upgraded = scratch / "upgraded.db"
            before = connection.execute("PRAGMA data_version").fetchone()  # changes when another process writes
            backups.copy(file, upgraded)
            command = [sys.executable, "-m", "mlflow", "db", "upgrade", home.sqlite_uri(upgraded)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                raise WorkspaceError(f"{file} could not be upgraded: {last}", f"it is as it was, and so is its backup {backup}")
            if connection.execute("PRAGMA data_version").fetchone() != before:
                raise WorkspaceError(
                    f"{file} was written while it was upgraded",
                    "end what uses it, `darkroom ui` for instance, and upgrade it again",
                )
            backups.copy(upgraded, file)
    return backup


def require_space() -> None:
    """Raise the error of a full disk where a local database cannot grow by what a registration or an upload may write."""
    if file := database():
        shortage.require_space(file, GROWTH, at_least=True)


def is_current(file: Path) -> bool:
    """Return whether a database is empty or of the installed MLflow; raise WorkspaceError for a newer or a damaged one."""
    if backups.is_empty(file):
        return True
    try:
        with closing(sqlite3.connect(file)) as connection:
            ((schema,),) = connection.execute("SELECT version_num FROM alembic_version")
    except (sqlite3.Error, ValueError) as error:
        if "locked" in str(error) or "unable to open" in str(error):
            raise WorkspaceError(f"{file} cannot be read now: {error}", "try again when nothing else uses it") from error
        raise backups.damaged(file, str(error)) from error
    if schema not in _revisions():
        raise NewerDatabaseError(
            f"{file} was made by a newer MLflow (its schema is {schema})",
            f"install that MLflow; or move the file away, and {backups.RESTORE} takes the newest backup that this MLflow can read, "
            "or makes a database with the versions whose files are in mlruns/",
        )
    return bool(schema == _revisions()[0])


def is_newer(file: Path) -> bool:
    """Return whether a database was made by a newer MLflow than the installed one."""
    try:
        is_current(file)
    except NewerDatabaseError:
        return True
    except WorkspaceError:  # damaged, or in use
        return False
    return False


@cache
def _revisions() -> list[str]:
    """Return the revisions of the installed MLflow's schema, newest first; each is a module that is imported."""
    scripts = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    return [script.revision for script in scripts.walk_revisions()]
