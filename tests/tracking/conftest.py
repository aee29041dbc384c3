"""A folder of its own for each test, with an MLflow database that is copied instead of created."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.store.db import utils as database


@pytest.fixture(scope="session", autouse=True)
def _newest_schema() -> Iterator[None]:
    """Let MLflow look up once, and not for each database, which schema is its newest: it imports all migrations for that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_get_latest_schema_revision", cache(database._get_latest_schema_revision))
        yield


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an MLflow database without runs, created once for all workers: its schema takes seconds."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    file = folder / "empty-mlflow.db"
    with FileLock(file.with_suffix(".lock")):
        if not file.exists():
            MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_mlflow: None, empty_database: Path) -> Path:
    """Change into an empty folder with a database, without a pipeline; no uploader is started."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return tmp_path
