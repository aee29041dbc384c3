"""Databases of other versions of MLflow."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from darkroom.cli import main
from darkroom.tracking import mlflow_client, records, uploader


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "DARKROOM_TRACKING", "DVC_STAGE", "DARKROOM_PIPELINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(records, "start_delivery", lambda: None)


def older(back: int) -> str:
    """Make mlflow.db as an older MLflow left it, with one experiment; return its schema."""
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    config = _get_alembic_config(mlflow_client.uri())
    revision = ScriptDirectory.from_config(config).get_current_head()
    for _ in range(back):
        revision = ScriptDirectory.from_config(config).get_revision(revision).down_revision
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    Base.metadata.create_all(create_engine(mlflow_client.uri()))
    command.upgrade(config, revision)
    with sqlite3.connect("mlflow.db") as connection:
        connection.execute("INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (7, 'kept', 'active')")
    return revision


def test_an_older_database_is_brought_up_to_date(capsys):
    """A run waits with a message that names the command; `darkroom upgrade` keeps a copy, loses nothing, and delivers the run."""
    revision = older(2)
    with records.run("baseline", {}, []):
        pass
    assert main(["sync"]) == 2
    said = capsys.readouterr().err
    assert "was made by an older MLflow" in said
    assert "`darkroom upgrade` keeps a copy" in said
    assert main(["upgrade"]) == 0
    out = capsys.readouterr().out
    assert "1 run that was waiting has been delivered" in out
    (copy,) = Path().glob("mlflow.db.*")
    with sqlite3.connect(copy) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(revision,)]
    client = mlflow_client.client()
    assert client.get_experiment_by_name("kept").experiment_id == "7"
    assert [run.info.run_name for run in client.search_runs([mlflow_client.experiment(client)])] == ["baseline"]
    assert not uploader.journals()
    assert main(["upgrade"]) == 0
    assert "up to date already" in capsys.readouterr().out


def test_a_newer_database_is_left_alone(capsys):
    """The database of a newer MLflow is named as such, and not touched."""
    mlflow_client.client()
    with sqlite3.connect("mlflow.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    before = Path("mlflow.db").read_bytes()
    assert main(["upgrade"]) == 2
    assert "made by a newer MLflow" in capsys.readouterr().err
    assert Path("mlflow.db").read_bytes() == before


def test_what_is_no_database_here_is_named(capsys, monkeypatch):
    """A server's database is its own, a file that is none is named, and before the first run there is nothing to do."""
    assert main(["upgrade"]) == 2
    assert "the first `dvc repro` makes it" in capsys.readouterr().err
    Path("mlflow.db").write_text("none")
    assert main(["upgrade"]) == 2
    assert "no database of MLflow's" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert main(["upgrade"]) == 2
    assert "where its server runs" in capsys.readouterr().err
