"""The command line: help at once, mistakes with a remedy, stages with the paths of dvc.yaml."""

from __future__ import annotations

import subprocess
import sys

import pytest

from darkroom import cli
from darkroom.config import dvc_graph
from tests.conftest import ROOT


def darkroom(*arguments, cwd=ROOT):
    return subprocess.run([sys.executable, "-m", "darkroom", *arguments], capture_output=True, text=True, cwd=cwd)


def test_help_lists_every_command():
    """The overview names each stage and each everyday command."""
    text = darkroom("--help").stdout
    assert all(f"  {name} " in text for name in (*cli.STAGES, *cli.EVERYDAY))


def test_help_imports_nothing_heavy():
    """`darkroom --help` answers without numpy, pydantic or torch."""
    code = (
        "import sys; from darkroom.cli import main; main(['--help']); assert not {'numpy', 'pydantic', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trasfer"], 'did you mean "transfer"?'),
        (["recipe", "photo"], 'did you mean "photos"?'),
        (["recipe"], "nothing to apply"),
    ],
)
def test_a_mistake_has_exit_code_2_and_no_traceback(arguments, said):
    """A wrong command or argument is one message with a remedy."""
    done = darkroom(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "remedy:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["check"], ["ingest"], ["leaderboard"], ["recipe", "--set", "transfer.lr=1"]])
def test_the_wrong_folder_is_named(arguments, tmp_path):
    """A command outside the project says so."""
    done = darkroom(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_stage_by_hand_takes_its_paths_from_the_graph(monkeypatch):
    """`darkroom transfer vgg16` works on the paths that dvc.yaml gives the stage."""
    monkeypatch.chdir(ROOT)
    assert dvc_graph.command_options("transfer", "vgg16") == {
        "embedded": "data/embedded/vgg16", "out": "models/transfer/vgg16", "cost": "models/cost/transfer/vgg16.json",
    }  # fmt: skip


def test_every_stage_command_gives_all_its_options(monkeypatch):
    """dvc.yaml's commands name every path that a stage takes, and none that it does not."""
    import importlib
    import inspect

    monkeypatch.chdir(ROOT)
    for stage in cli.STAGES:
        taken = set(inspect.signature(importlib.import_module(f"darkroom.stages.{stage}").run).parameters) - {"name"}
        assert set(dvc_graph.command_options(stage, "x")) == taken, stage
