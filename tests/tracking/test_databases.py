"""Databases of other versions of MLflow."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from darkroom.cli import main
from darkroom.core.errors import WorkspaceError
from darkroom.tracking import artifact_paths, backups, home, mlflow_client, records
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
LOCATIONS = """
SELECT artifact_location FROM experiments UNION SELECT artifact_uri FROM runs UNION SELECT artifact_location FROM logged_models
UNION SELECT storage_location FROM model_versions UNION SELECT source FROM model_versions
"""


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
    """A run waits with a message that names the command; `darkroom update` keeps a copy, loses nothing, and
    delivers the run."""
    revision = older(2)
    with records.start_run("baseline", {}, []):
        pass
    assert main(["sync"]) == 2
    message = capsys.readouterr().err
    assert "mlflow.db" in message
    assert "`darkroom update`" in message
    assert main(["update"]) == 0
    (copy,) = Path().glob("mlflow.db.*")
    with sqlite3.connect(copy) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(revision,)]
    client = mlflow_client.client()
    assert client.get_experiment_by_name("kept").experiment_id == "7"
    assert [run.info.run_name for run in client.search_runs([mlflow_client.experiment(client)])] == ["baseline"]
    assert not records.pending()
    assert main(["update"]) == 0
    assert list(Path().glob("mlflow.db.*")) == [copy]


def test_a_newer_database_is_left_alone(capsys, empty_database):
    """The database of a newer MLflow is named as such, and not touched."""
    shutil.copy(empty_database, "mlflow.db")
    with sqlite3.connect("mlflow.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    before = Path("mlflow.db").read_bytes()
    assert main(["update"]) == 2
    assert "newer MLflow" in capsys.readouterr().err
    assert Path("mlflow.db").read_bytes() == before


@pytest.mark.parametrize("is_older_there", [False, True], ids=["newer backups alone", "an older one too"])
def test_the_remedy_of_a_newer_database_leads_out(capsys, empty_database, is_older_there):
    """Where the daily backups are of the newer MLflow, too, the remedy passes over them: it restores an older one, which it
    upgrades, or makes a new database. Those of the newer one stay, whatever backups are made later."""
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text())
    if is_older_there:
        older(1)
        assert backups.take(Path("mlflow.db")).rename(backups.FOLDER / "mlflow-2026-01-01-000000.db")
        Path("mlflow.db").unlink()
    shutil.copy(empty_database, "mlflow.db")
    with sqlite3.connect("mlflow.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    newest = backups.take(Path("mlflow.db"), 0.0)
    content = newest.read_bytes()
    assert main(["models"]) == 2
    assert "move the file away, and `darkroom sync --restore`" in capsys.readouterr().err
    Path("mlflow.db").rename("moved-away.db")
    assert main(["models"]) == 2
    message = capsys.readouterr().err
    assert ("made by a newer MLflow" in message) != is_older_there
    assert ("has the backup" in message) == is_older_there
    assert str(newest) not in message
    assert main(["sync", "--restore"]) == 0
    output = capsys.readouterr().out
    (kept,) = backups.newer()
    assert str(kept) in output
    assert kept.read_bytes() == content
    assert ("there was no backup" in output) != is_older_there
    names = {item.name for item in mlflow_client.client().search_experiments()}
    assert ("kept" in names) == is_older_there
    for day in range(1, backups.KEPT + 2):
        shutil.copy("mlflow.db", backups.FOLDER / f"mlflow-2026-02-0{day}-000000.db")
    assert backups.take(Path("mlflow.db"), 0.0)
    assert len(backups.backups()) == backups.KEPT
    assert backups.newer() == [kept]


def test_other_databases_are_refused(capsys, monkeypatch):
    """A server's database is its own, a file that is none is named, and before the first run there is nothing
    to do."""
    assert main(["update"]) == 2
    assert "dvc repro" in capsys.readouterr().err
    Path("mlflow.db").write_text("none")
    assert main(["update"]) == 2
    assert "mlflow.db" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert main(["update"]) == 2
    assert "http://127.0.0.1:9" in capsys.readouterr().err


def locations() -> list[str]:
    with sqlite3.connect("mlflow.db") as connection:
        return sorted(place for (place,) in connection.execute(LOCATIONS))


def as_before(project: Path, run: str) -> None:
    """Let mlflow.db have the absolute paths that MLflow writes by itself."""
    root = f"{project}/mlruns"
    with sqlite3.connect("mlflow.db") as connection:
        connection.execute("UPDATE experiments SET artifact_location = ? || '/' || experiment_id", [root])
        connection.execute("UPDATE runs SET artifact_uri = ? || '/1/' || run_uuid || '/artifacts'", [root])
        connection.execute(
            "INSERT INTO logged_models (model_id, experiment_id, name, artifact_location, creation_timestamp_ms,"
            " last_updated_timestamp_ms, status, lifecycle_stage, source_run_id)"
            " VALUES ('m-1', 1, 'baseline', ? || '/1/models/m-1/artifacts', 0, 0, 2, 'active', ?)", [root, run],
        )  # fmt: skip
        connection.execute("INSERT INTO registered_models (name) VALUES ('darkroom')")
        connection.execute(
            "INSERT INTO model_versions (name, version, source, storage_location, current_stage, creation_time)"
            " VALUES ('darkroom', 1, 'models:/m-1', ? || '/1/models/m-1/artifacts', 'None', 0)", [root],
        )  # fmt: skip


def test_the_database_of_a_moved_or_copied_project_leads_to_its_own_artifacts(capsys, empty_database, tmp_path, monkeypatch):
    """What an earlier version wrote becomes relative when it is opened, which is said in one line.

    Artifacts that only the earlier place has are copied from there, and nothing is written there.
    """
    original, here = tmp_path / "original", tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    shutil.copy(empty_database, "mlflow.db")
    client = mlflow_client.client()
    run = client.create_run("1").info.run_id
    assert capsys.readouterr().err == ""  # what is new has nothing to repair
    assert not any(map(Path.is_absolute, map(Path, locations())))
    (there := original / "mlruns/1/models/m-1/artifacts").mkdir(parents=True)
    for folder, files in ((there, ("both", "only there")), (here / "mlruns/1/models/m-1/artifacts", ("both", "only here"))):
        folder.mkdir(parents=True, exist_ok=True)
        for name in files:
            (folder / name).write_text(str(folder))
    as_before(original, run)
    before = sorted(path for path in original.rglob("*"))
    client = mlflow_client.client()
    (line,) = capsys.readouterr().err.splitlines()
    assert str(original) in line
    assert "1 file copied" in line
    assert locations() == sorted(
        ["models:/m-1", "mlruns/0", "mlruns/1", f"mlruns/1/{run}/artifacts", "mlruns/1/models/m-1/artifacts"]
    )  # fmt: skip
    client.log_text(run, "logged", "text.txt")
    assert (here / "mlruns" / "1" / run / "artifacts" / "text.txt").read_text() == "logged"
    downloaded = mlflow_client.download_model("models:/darkroom/1", tmp_path / "downloaded")
    assert (downloaded / "both").read_text() == str(here / "mlruns/1/models/m-1/artifacts")
    assert (downloaded / "only there").read_text() == str(there)
    assert sorted(path for path in original.rglob("*")) == before
    mlflow_client.client()
    assert capsys.readouterr().err == ""
    assert artifact_paths.is_relative()


def test_a_stage_in_another_folder_writes_below_the_project(empty_database, tmp_path, monkeypatch):
    """A process that works elsewhere, as a stage of an experiment, uses MLflow in the project's folder."""
    shutil.copy(empty_database, "mlflow.db")
    monkeypatch.setattr(mlflow_client, "HOME", tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", home.uri())
    (tmp_path / "elsewhere").mkdir()
    with mlflow_client.reachable():
        client = mlflow_client.client()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with mlflow_client.reachable():
        client.log_text(client.create_run("1").info.run_id, "logged", "text.txt")
    assert not list(Path().iterdir())
    assert list(tmp_path.glob("mlruns/1/*/artifacts/text.txt"))


def test_the_database_of_another_project_is_refused(empty_database, tmp_path, monkeypatch):
    """Its artifacts are relative to it; paths of a database that no project owns stay as they are."""
    shutil.copy(empty_database, "mlflow.db")
    mlflow_client.client()
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", home.uri())
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(WorkspaceError, match=str(tmp_path)) as caught:
        mlflow_client.client()
    assert "MLFLOW_TRACKING_URI" in caught.value.remedy
    shutil.copy(empty_database, tmp_path / "shared.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'shared.db'}")
    shared = mlflow_client.client()
    assert Path(shared.get_experiment(mlflow_client.experiment(shared)).artifact_location).is_absolute()


ANY_NAME = """
from darkroom.tracking import mlflow_client

with mlflow_client.reachable():
    client = mlflow_client.client()
    client.log_text(client.create_run(mlflow_client.experiment(client)).info.run_id, "logged", "text.txt")
print(client.get_experiment("0").name)
"""


def test_a_database_is_made_in_a_folder_of_any_name(tmp_path):
    """Quotes, `?`, `#`, spaces and a line break may be in the path: the database and its artifacts are in the project, and nothing
    is beside it."""
    folder = tmp_path / 'it\'s "a"?#b\nc'
    folder.mkdir()
    done = subprocess.run([sys.executable, "-c", ANY_NAME], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.stdout == "Default\n", done.stderr
    assert list(tmp_path.iterdir()) == [folder]
    assert list(folder.glob("mlruns/1/*/artifacts/text.txt"))
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        locations = {location for (location,) in connection.execute(LOCATIONS)}
    assert all(location.startswith("mlruns/") for location in locations), locations
