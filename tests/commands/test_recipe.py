"""Recipes: written into params.yaml in place, or not at all."""

from __future__ import annotations

import json
import shutil

import pytest

from darkroom import cli
from darkroom.config import params, recipes
from tests.completion import completions
from tests.conftest import ROOT


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_digits_recipe_is_what_ships(workspace):
    """Applying the digits recipe to the shipped params.yaml changes no byte."""
    before = (workspace / "params.yaml").read_bytes()
    assert cli.main(["recipe", "digits"]) == 0
    assert (workspace / "params.yaml").read_bytes() == before


def test_there_and_back_again_changes_no_byte(workspace, folder):
    """The photos recipe and then the digits recipe leave params.yaml as it was: comments, order and layout are kept."""
    before = (workspace / "params.yaml").read_bytes()
    cli.main(["recipe", "photos", "--data", str(folder)])
    changed = (workspace / "params.yaml").read_text()
    assert changed.encode() != before
    assert changed.count("#") == before.decode().count("#")
    cli.main(["recipe", "digits"])
    assert (workspace / "params.yaml").read_bytes() == before


def test_options_reach_the_params(workspace, folder):
    """--data, --weights and --set are in the params afterwards."""
    cli.main(
        [
            "recipe",
            "photos",
            "--data",
            str(folder),
            "--weights",
            "random",
            "--set",
            "backbones=[mobilenet_v2]",
            "transfer.lr=0.02",
        ]
    )
    settings = params.read()
    assert (workspace / settings.ingest.source).resolve() == folder.resolve()
    assert settings.fetch.datasets == []
    assert settings.weights.source == "random"
    assert settings.backbones == ["mobilenet_v2"]
    assert settings.transfer.lr == 0.02


@pytest.mark.parametrize(
    "arguments",
    [
        ["photo"],
        ["photos", "--data", "nowhere"],
        ["digits", "--set", "transfer.lrr=1"],
        ["digits", "--set", "nonsense"],
        ["digits", "--set", "transfer.lr=[1"],
        ["digits", "--set", "backbones.first=vgg16"],
        [],
    ],
)
def test_a_mistake_leaves_the_file_alone(workspace, arguments, capsys):
    """A wrong recipe, folder or value is refused and params.yaml keeps its bytes."""
    before = (workspace / "params.yaml").read_bytes()
    assert cli.main(["recipe", *arguments]) == 2
    assert "remedy:" in capsys.readouterr().err
    assert (workspace / "params.yaml").read_bytes() == before


def test_make_passes_several_settings_as_one_text(workspace):
    """`SET="backbones=[a, b] transfer.lr=0.02"` reaches the params as two assignments, lists with spaces in them included."""
    cli.main(["recipe", "--set", "backbones=[vgg16, resnet18] transfer.lr=0.02", "weights.source=random"])
    settings = params.read()
    assert settings.backbones == ["vgg16", "resnet18"]
    assert settings.transfer.lr == 0.02
    assert settings.weights.source == "random"


@pytest.mark.parametrize(("option", "prefix"), [("--weights", ""), ("--set", "weights.source=")])
def test_a_folder_of_weights_is_named_for_dvc(workspace, monkeypatch, option, prefix):
    """`--weights FOLDER` writes the folder that DVC depends on; a word makes it the project's own again, which is always there."""
    monkeypatch.setenv("HOME", str(workspace / "home"))
    for folder in ("home/weights", "inside"):
        (workspace / folder).mkdir(parents=True)
        for name in params.read().backbones:
            (workspace / folder / f"{name}.pth").write_bytes(bytes(100))
    for name, expected in (("~/weights", "home/weights"), (str(workspace / "inside"), "inside"), ("./inside", "inside")):
        assert cli.main(["recipe", option, f"{prefix}{name}"]) == 0
        weights = params.read().weights
        assert (weights.source, weights.folder) == ("folder", expected)
    for name in ("random", "folder"):
        assert cli.main(["recipe", option, f"{prefix}{name}"]) == (0 if name == "random" else 2)  # data/weights is empty
        weights = params.read().weights
        assert (weights.source, weights.folder) == ("random", "data/weights")


@pytest.mark.parametrize(
    "setting",
    [
        "finetune.unfreeze=.inf", "finetune.unfreeze=.nan", "transfer.lr=true", "transfer.lr='0.1'", "ingest.source=2024-13-45",
        "backbones=[nosuch]", "fetch.datasets=[digits, digits]", "weights.source=no/such/folder",
        "weights.pretrain_on=digits", "weights.pretrain_on=data/raw", "weights.pretrain_on=data/raw/digits/3",
    ],
)  # fmt: skip
def test_a_value_that_would_fail_later_is_refused_now(workspace, setting):
    """Values that no stage could use, and pretraining on the data set itself, never reach the file."""
    before = (workspace / "params.yaml").read_bytes()
    assert cli.main(["recipe", "--set", setting]) == 2
    assert (workspace / "params.yaml").read_bytes() == before


def test_the_list_has_every_recipe(workspace, capsys):
    """`--list` names each recipe with its header; as JSON too."""
    cli.main(["recipe", "--list"])
    text = capsys.readouterr().out
    cli.main(["recipe", "--list", "--json"])
    content = json.loads(capsys.readouterr().out)
    assert [item["name"] for item in content] == recipes.names()
    assert all(item["description"].splitlines()[0] in text for item in content)


def test_json_has_what_changed(workspace, capsys):
    """`--json` has the value of each changed key, before and after."""
    before = params.read().transfer.lr
    cli.main(["recipe", "--set", "transfer.lr=0.02", "--json"])
    assert json.loads(capsys.readouterr().out) == {"transfer.lr": {"before": before, "after": 0.02}}


def test_the_tab_key_completes_recipes_and_keys(workspace):
    """Recipes, sources of weights and the keys of params.yaml are completed."""
    assert completions("recipe", "mnist-m") == ["mnist-mlp"]
    assert completions("recipe", "--weights", "im") == ["imagenet"]
    assert completions("recipe", "--set", "transfer.l") == ["transfer.lr=", "transfer.label_smoothing="]
