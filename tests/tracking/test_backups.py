"""MLflow's database survives kills, damage and loss: it is made at once, backed up, and restored by one command."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import stat
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from darkroom.cli import main
from darkroom.core.errors import WorkspaceError
from darkroom.tracking import backups, home, mlflow_client, records
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
FILE = Path("mlflow.db")


@pytest.fixture
def project(workspace):
    """Return a project with a database, a backup of it, and a record that is not uploaded yet."""
    shutil.copy(ROOT / "params.yaml", workspace)
    client = mlflow_client.client()
    client.create_experiment("kept")
    assert backups.take(FILE)
    with records.start_run("baseline", {}, []):
        pass
    for engine in gc.get_objects():  # a command is a process of its own, without connections to the file of before
        if isinstance(engine, Engine):
            engine.dispose()
    return workspace


def experiments() -> set[str]:
    return {item.name for item in mlflow_client.client().search_experiments()}


def test_a_database_is_made_whole_or_not_at_all(tmp_path, monkeypatch, own_mlflow):
    """A kill, or a full disk, while MLflow makes its tables leaves no mlflow.db, and the next run makes it."""
    monkeypatch.chdir(tmp_path)

    class Killed(BaseException):
        pass

    def make_some(working: Path) -> None:
        with closing(sqlite3.connect(working)) as connection, connection:
            connection.execute("CREATE TABLE experiments (experiment_id INTEGER)")
        raise Killed

    with monkeypatch.context() as patch, suppress(Killed):
        patch.setattr(mlflow_client, "_make", make_some)
        mlflow_client.client()
    assert [path.name for path in tmp_path.iterdir()] == [".darkroom"]
    assert experiments() == {"Default", home.EXPERIMENT}
    assert not list(tmp_path.glob(".*.partial"))


def missing() -> None:
    FILE.unlink()


def emptied() -> None:
    FILE.write_bytes(b"")


def truncated() -> None:
    os.truncate(FILE, FILE.stat().st_size // 2)


def damaged_in_the_middle() -> None:
    with FILE.open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(FILE.stat().st_size - 16384))


def overwritten() -> None:
    FILE.write_text("notes\n" * 1000)


def test_without_a_backup_the_versions_in_mlruns_are_not_forgotten(tmp_path, monkeypatch, own_mlflow):
    """Where mlruns/ has versions and mlflow.db is gone, no new one is made in silence: the remedy restores them."""
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "mlruns/1/models/m-1/artifacts"
    package.mkdir(parents=True)
    (package / "MLmodel").write_text("flavors: {}\n")
    with pytest.raises(WorkspaceError, match=r"missing, and .*mlruns has the files of 1 version") as error:
        mlflow_client.client()
    assert "sync --restore" in error.value.remedy
    assert not FILE.exists()


@pytest.mark.parametrize("loss", [missing, emptied, truncated, damaged_in_the_middle, overwritten])
def test_the_remedy_of_a_lost_database_restores_its_backup(project, capsys, loss):
    """Whatever happened to mlflow.db, the message names the backup and a command, which brings it back and keeps the file.

    Records that were not uploaded are uploaded then.
    """
    (backup,) = backups.backups()
    loss()
    there = FILE.read_bytes() if FILE.exists() and FILE.stat().st_size else None
    assert main(["sync"]) == 2
    message = capsys.readouterr().err
    assert str(backup) in message
    assert "`darkroom sync --restore`" in message
    assert records.pending()
    assert main(["sync", "--restore"]) == 0
    assert "kept" in experiments()
    assert not records.pending()
    kept = list(backups.FOLDER.glob("damaged-*.db"))
    assert [path.read_bytes() for path in kept] == ([there] if there else [b""] if loss is emptied else [])
    capsys.readouterr()
    assert main(["sync", "--restore"]) == 0
    assert "mlflow.db is whole" in capsys.readouterr().out


def test_backups_are_rare_few_and_private(project):
    """There is one a day, three are kept, nobody else may read them, and a damaged database replaces none."""
    assert backups.take(FILE) is None
    (first,) = backups.backups()
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    for day in range(1, 5):
        older = first.with_name(f"mlflow-2026-01-0{day}-000000.db")
        shutil.copy(first, older)
        os.utime(older, (0, 0))
    os.utime(first, (time.time() - 90_000,) * 2)
    assert backups.take(FILE)
    assert len(backups.backups()) == backups.KEPT
    damaged_in_the_middle()
    before = backups.backups()
    with pytest.raises(WorkspaceError, match="damaged"):
        backups.take(FILE, 0.0)
    assert backups.backups() == before


def test_a_damaged_backup_is_passed_over(project):
    """The newest backup that is whole is restored."""
    whole, newer = backups.backups()[0], backups.FOLDER / "mlflow-9999-01-01-000000.db"
    shutil.copy(whole, newer)
    os.truncate(newer, newer.stat().st_size // 2)
    FILE.unlink()
    assert backups.restore(FILE, mlflow_client.is_newer) == whole


def test_a_database_in_use_is_copied_as_it_is_at_one_moment(project, tmp_path):
    """What another process has not committed is neither waited for nor copied."""
    with closing(sqlite3.connect(FILE)) as writer:
        writer.execute("INSERT INTO experiments (name) VALUES ('half')")
        backups.copy(FILE, tmp_path / "copy.db")
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        names = {name for (name,) in copy.execute("SELECT name FROM experiments")}
    assert "kept" in names
    assert "half" not in names
