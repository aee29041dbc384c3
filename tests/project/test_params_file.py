"""params.yaml follows a newer Darkroom: new keys, renamed keys; what a person wrote stays."""

from __future__ import annotations

import pytest

from darkroom.config.params import parse_yaml
from darkroom.core.errors import ParamsError
from darkroom.project import params_file
from tests.conftest import ROOT

OLD = """\
# mine
backbones: [vgg16]  # one

transfer:
  epochs: 7   # enough
  lr: 0.02

register:
  name: mine
"""
NEW = """\
backbones: []  # names

transfer:
  epochs: 30
  optimizer: adamw     # adamw, sgd
  lr: 0.003

folds: 0    # off

evaluate:
  top_k: 3   # labels

register:
  name: darkroom  # in MLflow
  promote: gate
"""
CARRIED = """\
# mine
backbones: [vgg16]  # one

transfer:
  epochs: 7   # enough
  optimizer: adamw     # adamw, sgd
  lr: 0.02

folds: 0    # off

evaluate:
  top_k: 3   # labels

register:
  name: mine
  promote: gate
"""


def test_new_keys_come_with_their_comments_and_values_stay():
    """Each new key stands where it stands in the new file, with its default and comment; nothing else changes."""
    carried = params_file.carry(OLD, NEW)
    assert carried.text == CARRIED
    assert carried.changes == [
        "transfer.optimizer: adamw is new", "folds: 0 is new", "evaluate.top_k: 3 is new", "register.promote: gate is new",
    ]  # fmt: skip


def test_a_file_that_has_all_keeps_its_bytes():
    """Nothing is new: not a byte changes, in whatever form the file is written."""
    for text in (CARRIED, CARRIED.replace("\n\n", "\n"), "{backbones: [], transfer: {epochs: 1, optimizer: sgd, lr: 1}, folds: 1, "
                 "evaluate: {top_k: 1}, register: {name: a, promote: never}}"):  # fmt: skip
        assert params_file.carry(text, NEW) == params_file.Carried(text, [])


def test_a_renamed_key_keeps_the_value():
    """The value of a person goes to the new name, also in another section, with the comment of the new file."""
    renamed = {"transfer.lr": "evaluate.rate", "backbones": "networks"}
    new = "networks: []  # names\n\ntransfer:\n  epochs: 30\n\nevaluate:\n  rate: 1.0  # of it\n\nregister:\n  name: a\n"
    carried = params_file.carry(OLD, new, renamed)
    assert carried.text == (
        "# mine\nnetworks: [vgg16]  # names\n\ntransfer:\n  epochs: 7   # enough\n\nevaluate:\n  rate: 0.02  # of it\n\n"
        "register:\n  name: mine\n"
    )
    assert carried.changes == ["transfer.lr is now evaluate.rate", "backbones is now networks"]


@pytest.mark.slow
def test_every_key_of_the_shipped_file_can_be_new():
    """Whatever key or section a project lacks, the file has it afterwards, with the shipped values, and every other line stays."""
    text = (ROOT / "params.yaml").read_text()
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith(("  ", "backbones", "cross_validation")):
            lacking = "\n".join([*lines[:number], *lines[number + 1 :]]) + "\n"
            carried = params_file.carry(lacking, text)
            assert parse_yaml(carried.text, "") == parse_yaml(text, "")
            assert len(carried.changes) == 1
            assert line in carried.text.splitlines()


@pytest.mark.parametrize("text", ["transfer: {epochs: 1}\n", "transfer:\n    epochs: 7\n"])
def test_another_form_is_left_to_the_person(text):
    """A file that is written otherwise than a line for each key is refused, with the keys that it lacks."""
    with pytest.raises(ParamsError, match=r"transfer\.lr: 0\.003 is new"):
        params_file.carry(text, NEW)
