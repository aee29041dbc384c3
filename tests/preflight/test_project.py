"""What DVC or a later stage would trip over in the project is found and named."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from darkroom.config import params
from darkroom.core.errors import DarkroomError, ParamsError
from darkroom.preflight import project
from tests.skeletons import enter_skeleton, git


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """Return a project with the real graph, and empty files for the code that it names."""
    return enter_skeleton(tmp_path / "project", monkeypatch)


def lose_dvc() -> None:
    shutil.rmtree(".dvc")


def lose_git() -> None:
    shutil.rmtree(".git")


def lose_fixes() -> None:
    Path("data/label_fixes.csv").unlink()


def lose_splits() -> None:
    Path("data/splits.csv").unlink()


def lose_code() -> None:
    Path("src/darkroom/stages/embed.py").unlink()


def merge_lock() -> None:
    Path("dvc.lock").write_text('<<<<<<< HEAD\nschema: "2.0"\n=======\nschema: "2.0"\n>>>>>>> other\n')


def merge_studies() -> None:
    Path("studies").mkdir()
    Path("studies/dvc.yaml").write_text("stages:\n<<<<<<< HEAD\n>>>>>>> other\n")


def break_graph() -> None:
    Path("dvc.yaml").write_text("stages: 3\n")


def track_output() -> None:
    Path("data/augmented").mkdir()
    Path("data/augmented/views.npy").touch()
    git("add", "-f", "data/augmented/views.npy")


def track_matrix_output() -> None:
    Path("models/transfer/vgg11_bn").mkdir()
    Path("models/transfer/vgg11_bn/model.json").touch()
    git("add", "-f", "models/transfer/vgg11_bn")


def file_for_folder() -> None:
    Path("reports").touch()


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lose_dvc, ".dvc"), (lose_git, "git repository"), (lose_fixes, "data/label_fixes.csv"),
        (lose_splits, "data/splits.csv"),
        (lose_code, "src/darkroom/stages/embed.py"), (merge_lock, "dvc.lock"), (merge_studies, "studies/dvc.yaml"),
        (break_graph, "dvc.yaml"), (track_output, "data/augmented"),
        (track_matrix_output, "models/transfer/vgg11_bn"), (file_for_folder, "reports"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_what_dvc_would_stop_at_is_named(damage, named, copy):
    """The whole project passes; each damage is refused with the path that has it, and a remedy."""
    settings = params.read()

    def check() -> None:
        for path in project.TRACKED:
            project.check_merged(path)
        project.check(settings)

    check()
    damage()
    with pytest.raises(DarkroomError) as error:
        check()
    assert named in error.value.problem
    assert error.value.remedy


@pytest.mark.parametrize(
    "source",
    [".", "..", "/", "data", "data/ingested", "data/ingested/train", "data/augmented/x", "models", "models/transfer/vgg11_bn",
     ".git", ".darkroom/decoded", ".venv", "link"],
)  # fmt: skip
def test_the_source_is_apart_from_the_project(source, copy, values):
    """The project, what holds it, its outputs and the folders of programs are no source, by a link neither."""
    Path("link").symlink_to("data/ingested")
    settings = params.parse(values)
    inside = settings.ingest.model_copy(update={"source": source})
    with pytest.raises(DarkroomError, match=r"ingest\.source"):
        project.check_place(settings.model_copy(update={"ingest": inside}))
    weights = settings.weights.model_copy(update={"folder": source})
    with pytest.raises(DarkroomError, match=r"weights\.folder") as error:
        project.check_place(settings.model_copy(update={"weights": weights}))
    assert error.value.setting == "weights.folder"


@pytest.mark.parametrize("source", ["data/raw/digits", "data/photos", "photos", "../photos", "data/ingested-by-hand"])
def test_folders_beside_the_outputs_are_sources(source, copy, values):
    """What `fetch` writes and any other folder, in the project or elsewhere, is a source."""
    settings = params.parse(values)
    project.check_place(settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"source": source})}))


def test_no_git_is_needed_where_dvc_does_without(copy):
    """With `core.no_scm` a project outside of git is none that DVC refuses."""
    lose_git()
    Path(".dvc/config").write_text("[core]\n    no_scm = true\n")
    project.check(params.read())


@pytest.mark.parametrize(
    "address",
    ["localhost:5000", "http://", "http://:5000", "http://a b", "http://h:99999", "http://h:x", "sqlite://", "sqlite:////no/such/x.db",
     "mlruns", "./mlruns", "file:///tmp/mlruns", "https:/h"],
)  # fmt: skip
def test_a_malformed_address_of_mlflow_is_refused(address):
    """What no server or database can be reached by is refused before hours of training, without asking a server."""
    with pytest.raises(ParamsError, match="MLFLOW_TRACKING_URI"):
        project.check_mlflow(address)


@pytest.mark.parametrize(
    "address",
    ["http://localhost:5000", "https://mlflow.example.org/path", "http://user:word@[::1]:80", "sqlite:///mlflow.db", "databricks",
     "sqlite:///my mlflow.db", "databricks://profile", "postgresql+psycopg2://u:p@h/db", "mysql://h/db", "plugin://x"],
)  # fmt: skip
def test_addresses_of_mlflow_pass(address):
    """Servers, databases, Databricks and plug-ins of MLflow pass."""
    project.check_mlflow(address)


def test_a_file_store_passes_where_mlflow_is_told_to_allow_it(monkeypatch):
    """MLFLOW_ALLOW_FILE_STORE is MLflow's own switch."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    project.check_mlflow("./mlruns")


def test_a_folder_that_cannot_be_written_is_named(copy, monkeypatch):
    """Without the right to write into data, no stage can; what runs none, as `darkroom plan`, does without it."""
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != "data" and access(path, mode))
    with pytest.raises(DarkroomError, match="data cannot be written"):
        project.check(params.read())
    project.check(params.read(), runs=False)
