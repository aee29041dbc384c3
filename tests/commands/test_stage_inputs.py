"""Edits while a stage runs never count as what it ran on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from darkroom.commands import stage_inputs
from darkroom.core.errors import EX_TEMPFAIL, WorkspaceError
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """Work in a project with the code of one stage, which DVC runs."""
    for name in (
        "dvc.yaml",
        "params.yaml",
        "data/label_fixes.csv",
        "src/darkroom/stages/baseline.py",
        "src/darkroom/stages/ingest.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "baseline")


def replace(path: str, old: str, new: str) -> None:
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))


def edit_param() -> None:
    replace("params.yaml", "baseline:\n", "baseline:\n  added: 1\n")


def edit_code() -> None:
    replace("src/darkroom/stages/baseline.py", "SAMPLE = 1000", "SAMPLE = 100")


def remove_params() -> None:
    Path("params.yaml").unlink()


@pytest.mark.parametrize(
    ("edit", "name"), [(edit_param, "baseline.added"), (edit_code, "stages/baseline.py"), (remove_params, "params.yaml")]
)
def test_an_edit_while_a_stage_runs_is_an_error_to_be_retried(edit, name):
    """DVC would record the new value for the outputs of the old one; the message names what was edited."""
    with pytest.raises(WorkspaceError, match=name) as caught, stage_inputs.unchanged("baseline"):
        edit()
    assert caught.value.code == EX_TEMPFAIL


def test_label_fixes_are_an_input_of_ingest():
    """A label that is corrected while images are read is not lost."""
    fixes = Path("data/label_fixes.csv")
    with pytest.raises(WorkspaceError, match=r"label_fixes\.csv"), stage_inputs.unchanged("ingest"):
        fixes.write_text(fixes.read_text() + "a.png,cat\n")


def test_other_edits_are_nobody_s_business():
    """Params of other stages may be edited for a later run, and files may be written again as they were."""
    with stage_inputs.unchanged("baseline"):
        replace("params.yaml", "transfer:\n", "transfer:\n  added: 1\n")
        replace("src/darkroom/stages/ingest.py", "MAX_LISTED = 5", "MAX_LISTED = 6")
        Path("src/darkroom/stages/baseline.py").touch()


def test_a_stage_by_hand_is_not_recorded_and_not_watched(monkeypatch):
    """Outside DVC nothing is recorded for the outputs, so nothing can be wrong."""
    monkeypatch.delenv("DVC_STAGE")
    with stage_inputs.unchanged("baseline"):
        edit_param()
