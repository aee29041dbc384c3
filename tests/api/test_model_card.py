"""The model card of an exported page states the accuracy of the version and the program that the page has."""

from __future__ import annotations

import json

import pytest

from darkroom.api import model_card
from darkroom.evaluation.predictions import Prediction
from darkroom.evaluation.significance import wilson
from darkroom.inference.classifier import ModelInfo
from darkroom.tracking.entities import Version

INFO = ModelInfo("darkroom", "3", "finetune/some", "0" * 64, "version 3 of darkroom")
TAGS = {"data_images": "7 train, 4 test"}


@pytest.mark.parametrize(("precision", "accuracy"), [("float32", 0.75), ("int8", 0.5)])
def test_the_accuracy_is_that_of_the_version_and_precision(tmp_path, monkeypatch, precision, accuracy):
    """A version's accuracy is that of its own predictions, of the int8 program that of its verdict, with Wilson's interval."""
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "int8.json").write_text(json.dumps({"int8": {"accuracy": 0.5}}), encoding="utf-8")
    rows = [Prediction("a.png", "", "cat", predicted, 0.9) for predicted in ("cat", "cat", "cat", "dog")]
    monkeypatch.setattr(model_card.predictions, "of_test", lambda *_: rows)
    monkeypatch.setattr(model_card.registry, "fetch", lambda *_: tmp_path)
    text = model_card._accuracy(INFO, 1.0, Version("3", tags=TAGS), precision)
    low, high = wilson(accuracy, 4)
    assert text == f"{100 * accuracy:.1f}% (95% interval {100 * low:.1f} to {100 * high:.1f}%, on 4 test images)"


def test_what_a_version_lacks_is_not_known(tmp_path, monkeypatch):
    """A version of before, without predictions, has a card that does not state an accuracy."""
    monkeypatch.setattr(model_card.registry, "fetch", lambda *_: tmp_path)
    assert model_card._accuracy(INFO, 1.0, Version("3", tags=TAGS), "int8") == ""
