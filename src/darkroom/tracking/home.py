"""Where tracking keeps its files, the address of MLflow, and what its database tells without importing MLflow."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path


def _home() -> Path:
    """Return the folder that holds `.darkroom` and `mlflow.db`.

    `dvc exp run --temp` and `--queue` run in `.dvc/tmp/exps/…`, which DVC removes afterwards; DVC_ROOT names
    the project then. A flow that runs in a worktree names it by DARKROOM_HOME.
    """
    if folder := os.environ.get("DARKROOM_HOME"):
        return Path(folder).absolute()
    root = Path(os.environ.get("DVC_ROOT") or ".")
    return root.absolute() if (root / ".dvc" / "tmp").resolve() in Path.cwd().resolve().parents else Path()


HOME = _home()
RECORDS = HOME / ".darkroom/journal"  # a folder per run that is not in MLflow yet
DAMAGED = HOME / ".darkroom/damaged"  # records that could not be uploaded, each with the reason
MANIFESTS = HOME / ".darkroom/manifests"  # downloads, by the id of the ingest run
VERSIONS = HOME / ".darkroom/versions"  # downloads, by the sha256 of the checkpoint
OWN_CACHE = (
    Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "darkroom"
)  # of a user who may only read the project
ROOT = "mlruns"  # MLflow's name for the folder of artifacts beside its database
EXPERIMENT = "darkroom"


def uri() -> str:
    """Return the tracking URI: MLFLOW_TRACKING_URI, else SQLite at mlflow.db in the project."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(HOME / "mlflow.db")


def sqlite_uri(file: Path) -> str:
    """Return the address of an SQLite file.

    It is absolute. Where a folder has `?`, which begins the options of an address, it is relative to the current folder: SQLAlchemy
    reads `%3F` as `?`, but MLflow makes a folder whose name has `%3F`.
    """
    path = file.resolve()
    return f"sqlite:///{os.path.relpath(path) if '?' in str(path) else path}"


def is_read_only() -> bool:
    """Return whether this process may only read the project: it is another user's, or its disk is mounted so."""
    return not os.access(HOME, os.W_OK)


def database() -> Path | None:
    """Return the SQLite file of the tracking URI; None where it is a server or another database."""
    scheme = "sqlite:///"
    return Path(uri().removeprefix(scheme).partition("?")[0]) if uri().startswith(scheme) else None


def is_own(file: Path) -> bool:
    """Return whether a database is the project's own."""
    return file.resolve() == (HOME / "mlflow.db").resolve()


def is_registry_empty() -> bool:
    """Return whether the project's own database is known to have no version; of a server nothing is known without asking it."""
    file = database()
    if file is None:
        return False
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return bool(connection.execute("SELECT count(*) FROM model_versions").fetchone() == (0,))
    return not file.exists()
