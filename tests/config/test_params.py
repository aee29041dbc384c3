"""params.yaml: valid values, and messages about mistakes."""

from __future__ import annotations

import pytest

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
