"""`darkroom repro` with the real DVC and stages that are killed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from darkroom import cli
from darkroom.config import dvc_process
from darkroom.core import shortage
from tests.conftest import ROOT

GRAPH = """\
stages:
  first:
    cmd: sh first.sh
    deps: [first.sh]
    outs: [first.txt]
  second:
    cmd: sh second.sh
    deps: [second.sh]
    outs: [second.txt]
"""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Return a project with two stages, whose commands the tests write."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    Path("dvc.yaml").write_text(GRAPH)
    Path("second.sh").write_text("echo 2 > second.txt\n")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], check=True)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("command", ["kill -9 $$", "sh -c 'kill -9 $$'; exit $?"])
def test_a_killed_stage_has_a_sentence(project, command, capfd):
    """Where SIGKILL ends a stage, or what its shell ran, `darkroom repro` names it, says how to free memory and exits with 75."""
    Path("first.sh").write_text(f"{command}\n")
    assert cli.main(["repro", "--quiet"]) == 75
    message = capfd.readouterr().err
    assert "error: stage first was killed, as the operating system does where memory runs out\n" in message
    assert f"remedy: {shortage.FREE_MEMORY}" in message


@pytest.mark.slow
@pytest.mark.parametrize(("command", "code"), [("exit 75", 75), ("exit 1", 1), ("kill -SEGV $$", 128 + 11)])
def test_another_end_of_a_stage_is_its_exit_code(project, command, code, capfd):
    """A stage that ends otherwise is not called killed; with `--keep-going` the code is that of the stage that failed."""
    Path("first.sh").write_text(f"{command}\n")
    assert cli.main(["repro", "--keep-going"]) == code
    assert "was killed" not in capfd.readouterr().err
    assert Path("second.txt").exists()


def test_only_a_command_of_a_stage_counts(tmp_path, monkeypatch):
    """Programs that DVC runs for itself, such as git, may fail; a file that is empty or damaged names no stage."""
    file = tmp_path / "code"
    monkeypatch.setenv(dvc_process.FILE, str(file))
    for environment in ({}, {"DVC_STAGE": "studies/dvc.yaml:first"}):
        process = dvc_process._Popen(["sh", "-c", "exit 3"], env=environment)
        process.communicate()
        assert file.exists() == bool(environment)
    assert dvc_process.failed_stage(file.read_text()) == ("first", 3)
    assert [dvc_process.failed_stage(text) for text in ("", "[]", '{"stage": "a"}', "{")] == [None] * 4
