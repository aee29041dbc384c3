"""Databases of other versions of MLflow."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from darkroom.cli import main
from darkroom.tracking import home, mlflow_client, records

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, own_mlflow):
    monkeypatch.chdir(tmp_path)


def older(back: int) -> str:
    """Make mlflow.db as an older MLflow left it, with one experiment; return its schema."""
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    config = _get_alembic_config(home.uri())
    revision = ScriptDirectory.from_config(config).get_current_head()
    for _ in range(back):
        revision = ScriptDirectory.from_config(config).get_revision(revision).down_revision
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    Base.metadata.create_all(create_engine(home.uri()))
    command.upgrade(config, revision)
    with sqlite3.connect("mlflow.db") as connection:
        connection.execute("INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (7, 'kept', 'active')")
    return revision


def test_an_older_database_is_brought_up_to_date(capsys):
    """A run waits with a message that names the command; `darkroom upgrade` keeps a copy, loses nothing, and
    delivers the run."""
    revision = older(2)
    with records.start_run("baseline", {}, []):
        pass
    assert main(["sync"]) == 2
    message = capsys.readouterr().err
    assert "mlflow.db" in message
    assert "`darkroom upgrade`" in message
    assert main(["upgrade"]) == 0
    (copy,) = Path().glob("mlflow.db.*")
    with sqlite3.connect(copy) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(revision,)]
    client = mlflow_client.client()
    assert client.get_experiment_by_name("kept").experiment_id == "7"
    assert [run.info.run_name for run in client.search_runs([mlflow_client.experiment(client)])] == ["baseline"]
    assert not records.pending()
    assert main(["upgrade"]) == 0
    assert list(Path().glob("mlflow.db.*")) == [copy]


def test_a_newer_database_is_left_alone(capsys, empty_database):
    """The database of a newer MLflow is named as such, and not touched."""
    shutil.copy(empty_database, "mlflow.db")
    with sqlite3.connect("mlflow.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    before = Path("mlflow.db").read_bytes()
    assert main(["upgrade"]) == 2
    assert "newer MLflow" in capsys.readouterr().err
    assert Path("mlflow.db").read_bytes() == before


def test_other_databases_are_refused(capsys, monkeypatch):
    """A server's database is its own, a file that is none is named, and before the first run there is nothing
    to do."""
    assert main(["upgrade"]) == 2
    assert "dvc repro" in capsys.readouterr().err
    Path("mlflow.db").write_text("none")
    assert main(["upgrade"]) == 2
    assert "mlflow.db" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert main(["upgrade"]) == 2
    assert "http://127.0.0.1:9" in capsys.readouterr().err
