"""params.yaml: valid values, and messages about mistakes."""

from __future__ import annotations

from itertools import pairwise

import pytest

from darkroom.config import backbone_names, yaml_files
from darkroom.config.params import parse
from darkroom.core.errors import ParamsError


def test_the_shipped_params_are_valid(values):
    """The params.yaml of the repository parses."""
    assert parse(values).backbones


@pytest.mark.parametrize(
    ("section", "key", "value", "fact"),
    [
        ("transfer", "lrr", 0.1, 'unknown key "transfer.lrr" (did you mean "lr"?)'),
        ("transfer", "lr", "fast", "transfer.lr"),
        ("transfer", "lr", -1, "greater than 0"),
        ("transfer", "epochs", 2.5, "transfer.epochs"),
        ("ingest", "image_size", True, "ingest.image_size"),
        ("ingest", "val_share", 0.95, "val_share"),
        ("augment", "policy", "standart", "augment.policy"),
        ("finetune", "unfreeze", 1.5, "whole number of blocks"),
        ("weights", "pretrain_on", "data/raw/digits", "the data set itself"),
        ("weights", "source", "/home/me/weights", "darkroom recipe --weights FOLDER"),
        ("weights", "source", "imagnet", 'did you mean "imagenet"'),
        ("weights", "folder", "~/weights", "does not know ~"),
        ("weights", "source", "\ud800", "half a character"),
    ],
)
def test_a_mistake_names_its_key(values, section, key, value, fact):
    """Unknown keys, wrong types and values out of range are refused in one message that names the key."""
    values[section][key] = value
    with pytest.raises(ParamsError) as error:
        parse(values)
    assert fact in str(error.value)
    assert "remedy" in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "vgg16", "timm/efficientnet_lite0", "timm/vit_small_patch14_dinov2.lvd142m", "hf/my-vit", "hf/timm/vit_small.augreg_in21k",
        "hf/OWNER/Name-1.5",
    ],
)  # fmt: skip
def test_backbones_of_libraries_and_folders_have_names(values, name):
    """A backbone may have its library, a tag, or the folder or repository of the Hub in its name."""
    values["backbones"] = [name]
    assert parse(values).backbones == [name]
    backbone_names.check(name)


@pytest.mark.parametrize(
    "name",
    [
        "../src", "timm/../../src", "timm/..", "hf/..", "hf/../x", "hf/a/../b", "hf/a/b/c", "hf/-x", "hf/.x", "hf/a.", "/etc",
        "timm//x", "timm/x;ls", "timm/x y", "hf/$HOME", "hf/`ls`", "~/x", "-x", "timm/x.y.z", "hf/a\n", "vgg16\n",
        "timm/", "/x", "./x", "",
    ],
)  # fmt: skip
def test_a_name_that_a_shell_or_a_path_could_misread_is_refused(values, name):
    """What DVC fills into commands and into paths that it deletes has no `..`, no leading dot or dash, and nothing of a shell's."""
    values["backbones"] = [name]
    with pytest.raises(ParamsError):
        parse(values)
    with pytest.raises(ParamsError):
        backbone_names.check(name)


def test_outputs_of_a_backbone_do_not_lie_in_those_of_another(values):
    """`hf/a` and `hf/a/b` would have folders one within the other."""
    values["backbones"] = ["hf/a", "hf/a/b"]
    with pytest.raises(ParamsError, match="among the other"):
        parse(values)


def test_a_missing_key_is_named(values):
    """No key has a default: a missing one is an error."""
    del values["baseline"]["lr"]
    with pytest.raises(ParamsError, match=r'"baseline\.lr" is missing'):
        parse(values)


def test_an_unknown_section_names_its_neighbour(values):
    """The message about a misspelt section names the nearest one."""
    values["tranfser"] = {}
    with pytest.raises(ParamsError, match="transfer"):
        parse(values)


@pytest.mark.parametrize("content", [None, [], "text"])
def test_a_file_without_sections_is_refused(content):
    """A params file without sections is a mistake, not a crash."""
    with pytest.raises(ParamsError):
        parse(content)


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1]\n" + "".join(f"{key}: &{key} [{', '.join([f'*{before}'] * 3)}]\n" for before, key in pairwise("abcdefghijkl")),
        "a: &a [*a]",
        "a: &a {b: *a}",
        f"a: {'1' * 5_000}",
        "a: 2020-13-45",
        "a: !!bool x",
        "a: !!int x",
        "a: 1\na: 2",
    ],
    ids=["anchors", "a list in itself", "a mapping in itself", "digits", "a 13th month", "bool", "int", "twice"],
)
def test_yaml_that_is_made_to_harm_is_refused_at_once(text):
    """A few lines that stand for a hundred thousand values, and values that Python cannot have, are one sentence."""
    with pytest.raises(ParamsError, match=r"params\.yaml is not valid YAML") as caught:
        yaml_files.parse_yaml(text, "params.yaml")
    assert "git checkout" in caught.value.remedy


def test_anchors_may_repeat_what_is_small():
    """Anchors that people write are YAML as any other."""
    content = yaml_files.parse_yaml("a: &a [1, 2]\nb: *a\nc: {<<: {d: 1}, e: *a}", "x")
    assert content == {"a": [1, 2], "b": [1, 2], "c": {"d": 1, "e": [1, 2]}}
