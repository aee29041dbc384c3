"""`darkroom check`: mistakes before a run, and what the run will do."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from darkroom import cli
from tests.conftest import ROOT


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """Return a folder with params.yaml and recipes, which no DVC knows."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def test_six_lines_say_what_a_run_will_do(workspace, capsys):
    """Source, images, splits, what the test images tell, networks, and minutes with gigabytes: nothing is written."""
    before = sorted(workspace.rglob("*"))
    assert cli.main(["check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["source", "images", "splits", "test", "networks", "run"]
    assert sorted(workspace.rglob("*")) == before


def test_the_same_as_json(workspace, capsys):
    """`--json` prints the figures as one value."""
    assert cli.main(["check", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["splits"] == {"train": 1258, "val": 180, "test": 359}


def test_every_stage_has_a_row(workspace, capsys):
    """`darkroom plan` prints time, memory and bytes of each stage and of all, as a table and as JSON; nothing is written."""
    before = sorted(workspace.rglob("*"))
    assert cli.main(["plan"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert cli.main(["plan", "--json"]) == 0
    stages = json.loads(capsys.readouterr().out)["stages"]
    assert [line.split()[0] for line in lines[2 : len(stages) + 3]] == [*(stage["stage"] for stage in stages), "all"]
    assert {"fetch@digits", "embed@vgg11_bn", "diagnose"} <= {stage["stage"] for stage in stages}
    assert sorted(workspace.rglob("*")) == before


def test_images_that_are_not_known_have_no_plan(workspace, capsys, monkeypatch):
    """Where the files of an archive are not listed before a run, `darkroom plan` says what makes them known."""
    (workspace / "photos.tar.xz").write_bytes(b"\xfd7zXZ\x00")
    monkeypatch.setattr("darkroom.preflight.plan.UNREAD", {b"\xfd7zXZ\x00": 0})
    assert cli.main(["recipe", "photos", "--data", "photos.tar.xz", "--set", "weights.source=random"]) == 0
    capsys.readouterr()
    assert cli.main(["plan"]) == 2
    assert "remedy: unpack it" in capsys.readouterr().err


def test_a_recipe_ends_with_the_plan(workspace, folder, capsys):
    """After it is written, a recipe says what a run will do."""
    assert cli.main(["recipe", "photos", "--data", str(folder), "--set", "weights.source=random"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-6:]] == ["source", "images", "splits", "test", "networks", "run"]
    assert "60 in 2 classes: cat 30, dog 30" in lines[-5]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--data", ""], "--data is empty"),
        (["--data", " "], "--data is empty"),
        (["--data", "~nobody-here/x"], 'no user "nobody-here"'),
        (["--data", "nosuch://host/photos.zip"], '--data: nosuch://host/photos.zip is an address of the unknown kind "nosuch"'),
        (["--data", "file:///home/me"], "--data is the address"),
        (["--data", "a\nb"], "line break"),
        (["--data", "caf\udce9"], "not UTF-8"),
        (["--data", "."], "--data: `ingest.source` is ."),
        (["--data", "/dev/null"], "--data: /dev/null is a device"),
        (["--weights", ""], "--weights is empty"),
        (["--weights", "~nobody-here/x"], "--weights is ~nobody-here/x"),
        (["--weights", "no/such"], "--weights: the folder of weight files, no/such, does not exist"),
        (["--set", ""], "KEY=VALUE"),
        (["--set", "ingest.source=~nobody-here/x"], "--set ingest.source is ~nobody-here/x"),
        (["--set", "weights.pretrain_on=~nobody-here/x"], "--set weights.pretrain_on is"),
        (["--set", "weights.pretrain_on=no/such"], "--set weights.pretrain_on=no/such: there is no no/such"),
        (["--set", "transfer.lr=true"], "--set transfer.lr=true: transfer.lr:"),
        (["--set", "transfer.lrr=1"], '--set transfer.lrr=1: unknown key "transfer.lrr"'),
        (["--set", "backbones=[nosuch]"], '--set backbones=[nosuch]: torchvision has no classifier "nosuch"'),
        (["--set", "baseline.architecture=nosuch"], "--set baseline.architecture=nosuch: there is no architecture"),
        (["--set", "ingest.val_share=0.5", "ingest.test_share=0.5"], "--set ingest."),
    ],
)  # fmt: skip
def test_a_refused_option_is_told_of_the_option(arguments, named, workspace, capsys):
    """The message begins with the option that is wrong, and its remedy does not send to params.yaml."""
    assert cli.main(["recipe", *arguments]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert "correct params.yaml" not in error
    assert "Traceback" not in error


def test_a_mistake_of_the_file_is_told_of_the_file(workspace, capsys):
    """What params.yaml has itself is no mistake of the option."""
    text = (workspace / "params.yaml").read_text()
    (workspace / "params.yaml").write_text(text.replace("views: 8", "views: none"))
    assert cli.main(["recipe", "--set", "transfer.lr=0.1"]) == 2
    assert "error: params.yaml: augment.views" in capsys.readouterr().err


def test_markers_of_a_merge_are_named(workspace, capsys):
    """An unfinished merge of params.yaml is no riddle of YAML."""
    text = (workspace / "params.yaml").read_text()
    (workspace / "params.yaml").write_text(f"<<<<<<< HEAD\n{text}=======\n{text}>>>>>>> other\n")
    for arguments in (["check"], ["recipe", "digits"]):
        assert cli.main(arguments) == 2
        assert "params.yaml has the markers of an unfinished merge, the first in line 1" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[""], ["https://example.org/a.jpg"], ["~nobody-here/x.jpg"], ["file:///a.jpg"]])
def test_what_is_no_image_is_a_sentence(arguments, workspace, capsys):
    """`predict ''` does not classify the folder that it runs in, and an address is not looked for on the disk."""
    assert cli.main(["predict", *arguments]) == 2
    assert "error: IMAGE is " in capsys.readouterr().err


@pytest.mark.parametrize("variable", ["DATA=", "WEIGHTS=", "SET=", "DATA= "])
def test_make_refuses_an_empty_variable(variable, tmp_path):
    """`make repro DATA=$PHOTOS` with an unset variable does not train on the data of params.yaml."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/.installed").touch()
    done = subprocess.run(["make", "-o", "install", "repro", variable], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"{variable.partition('=')[0]} is empty" in done.stderr
