"""Digests of the stages' code, on which the stages of a project elsewhere than the repository depend."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from darkroom import cli
from darkroom.commands import stage_inputs
from darkroom.config import package_files, params, stage_code
from darkroom.core.errors import EX_TEMPFAIL, WorkspaceError
from darkroom.project import template
from tests.conftest import ROOT


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the package, whose code decides here; the caches of the real one are left alone."""
    copy = tmp_path / "src" / "darkroom"
    shutil.copytree(package_files.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(package_files, "root", lambda: ROOT)
    monkeypatch.setattr(package_files, "PACKAGE", copy)
    monkeypatch.setattr(stage_code, "_content_digest", stage_code._content_digest.__wrapped__)
    return copy


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a project."""
    for path, text in template.files("flowers").items():
        (tmp_path / "flowers" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "flowers" / path).write_text(text)
    monkeypatch.chdir(tmp_path / "flowers")
    return tmp_path / "flowers"


def edit(file: Path) -> None:
    file.write_text(file.read_text() + "# edited\n")


def test_a_digest_is_of_the_files_that_the_graph_names(package):
    """The digest of a stage changes with each of its files, data and templates included, and with no other file."""
    before = stage_code.digests()
    assert set(before) == set(cli.STAGES)
    assert len(set(before.values())) == len(before)
    edit(package / "stages" / "baseline.py")
    edit(package / "data" / "data.html.j2")
    edit(package / "commands" / "ui.py")
    after = stage_code.digests()
    assert {stage for stage in before if before[stage] != after[stage]} == {"baseline", "cross_validate", "ingest", "weights"}


def test_bytecode_decides_nothing(package):
    """What Python leaves beside the sources changes no digest."""
    before = stage_code.digests()
    (package / "models" / "__pycache__").mkdir()
    (package / "models" / "__pycache__" / "base.pyc").write_bytes(b"code")
    assert stage_code.digests() == before


@pytest.mark.parametrize("command", [["check"], ["repro"], ["cross_validate"]])
def test_other_code_than_that_of_the_project_is_refused(package, project, command, capsys):
    """A stage, `repro` and `check` end with one sentence and its remedy where the installed code is another one."""
    edit(package / "stages" / "cross_validate.py")
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert "the code of cross_validate in the installed Darkroom" in error
    assert "remedy: `darkroom update`" in error
    assert error.count("\n") == 2


def test_other_stages_run(package, project):
    """A stage whose code is that of the project is not refused for the code of others."""
    edit(package / "stages" / "cross_validate.py")
    stage_code.check(["baseline"])
    with pytest.raises(WorkspaceError, match="cross_validate"):
        stage_code.check()


def test_in_the_repository_nothing_is_compared(package, tmp_path, monkeypatch):
    """Where the graph names source files, DVC compares them."""
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    edit(package / "stages" / "cross_validate.py")
    stage_code.check()
    assert not stage_code.is_used()


@pytest.mark.parametrize(
    ("text", "problem"), [(None, "there is no code.yaml"), ("a: [", "no valid YAML"), ("stages: 1", "no digests")]
)
def test_a_lost_or_damaged_file_has_a_remedy(project, text, problem, capsys):
    """Without the file, or with another content, one sentence says how to get it back."""
    (project / "code.yaml").unlink()
    if text is not None:
        (project / "code.yaml").write_text(text)
    assert cli.main(["repro"]) == 2
    assert problem.replace("no valid", "not valid") in capsys.readouterr().err


def test_an_update_while_a_stage_runs_is_noticed(package, project, monkeypatch):
    """Digests that are written, or a package that is replaced, while a stage runs would count as what it ran on."""
    monkeypatch.setenv("DVC_STAGE", "baseline")
    text = (project / "code.yaml").read_text()
    with pytest.raises(WorkspaceError, match=r"stages.baseline in code.yaml") as caught, stage_inputs.unchanged("baseline"):
        (project / "code.yaml").write_text(text.replace("baseline: ", "baseline: 0"))
    assert caught.value.code == EX_TEMPFAIL
    (project / "code.yaml").write_text(text)
    with pytest.raises(WorkspaceError, match=r"stages/baseline.py"), stage_inputs.unchanged("baseline"):
        edit(package / "stages" / "baseline.py")


def test_params_of_a_project_are_those_of_the_repository(project):
    """A new project begins with the shipped params."""
    assert params.read() == params.read(ROOT / "params.yaml")
