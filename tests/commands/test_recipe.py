"""Recipes: written into params.yaml in place, or not at all."""

from __future__ import annotations

import shutil

import pytest

from darkroom.commands import recipe
from darkroom.config import params
from darkroom.core.errors import DarkroomError
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
    assert recipe.main(["digits"]) == 0
    assert (workspace / "params.yaml").read_bytes() == before


def test_there_and_back_again_changes_no_byte(workspace, folder):
    """The photos recipe and then the digits recipe leave params.yaml as it was: comments, order and layout are kept."""
    before = (workspace / "params.yaml").read_bytes()
    recipe.main(["photos", "--data", str(folder)])
    changed = (workspace / "params.yaml").read_text()
    assert changed.encode() != before
    assert changed.count("#") == before.decode().count("#")
    recipe.main(["digits"])
    assert (workspace / "params.yaml").read_bytes() == before


def test_options_reach_the_params(workspace, folder):
    """--data, --weights and --set are in the params afterwards."""
    recipe.main(
        [
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
def test_a_mistake_leaves_the_file_alone(workspace, arguments):
    """A wrong recipe, folder or value is refused and params.yaml keeps its bytes."""
    before = (workspace / "params.yaml").read_bytes()
    with pytest.raises(DarkroomError) as error:
        recipe.main(arguments)
    assert error.value.remedy
    assert (workspace / "params.yaml").read_bytes() == before


def test_every_recipe_states_its_claim():
    """A recipe's header says what it runs, how long it takes on two cores and the accuracy to expect."""
    for path in (ROOT / "recipes").glob("*.yaml"):
        header = recipe._header(path).lower()
        assert "two cores" in header, path
        assert "accuracy" in header, path


def test_recipes_decide_the_same_keys():
    """Every recipe sets the same keys, so that one fully replaces another."""
    keys = {path.stem: {key for key, _ in recipe._leaves(params.read_yaml(path))} for path in (ROOT / "recipes").glob("*.yaml")}
    own_data = {"ingest.source", "fetch.datasets"}
    assert len({frozenset(found - own_data) for found in keys.values()}) == 1


def test_make_passes_several_settings_as_one_text(workspace):
    """`SET="backbones=[a, b] transfer.lr=0.02"` reaches the params as two assignments, lists with spaces in them included."""
    recipe.main(["--set", "backbones=[vgg16, resnet18] transfer.lr=0.02", "weights.source=random"])
    settings = params.read()
    assert settings.backbones == ["vgg16", "resnet18"]
    assert settings.transfer.lr == 0.02
    assert settings.weights.source == "random"


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
    with pytest.raises(DarkroomError):
        recipe.main(["--set", setting])
    assert (workspace / "params.yaml").read_bytes() == before
