"""The stage weights: what it wrote is of what it read."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from darkroom.config import recipes
from darkroom.core.errors import WeightsError
from darkroom.models import checkpoint, factory, pretrained
from darkroom.stages import weights
from tests.conftest import ROOT

NAME, OUT, PROVENANCE = "squeezenet1_1", Path("models/weights/a.safetensors"), Path("models/weights/a.json")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Work in a project whose backbone has its weights in a file of the folder data/weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    Path("data/weights").mkdir(parents=True)
    torch.save(factory.build_backbone(factory.backbone_spec(NAME, 32, "pooled"), 0).weights(), f"data/weights/{NAME}.pth")
    return tmp_path


def set_params(**changes: object) -> None:
    recipes.apply(Path("params.yaml"), {f"weights.{key}": value for key, value in changes.items()}, lambda params: None)


def run() -> None:
    weights.run(NAME, OUT, PROVENANCE)


def test_a_file_that_is_replaced_while_it_is_read_does_not_count_as_read(project, monkeypatch):
    """DVC would record the new file for the weights of the old one: the stage writes nothing, and ends with 75."""
    set_params(source="folder")
    run()
    assert checkpoint.Provenance.read(PROVENANCE).details["file"] == f"{NAME}.pth"
    OUT.unlink()
    load = pretrained.load

    def load_and_replace(*arguments):
        result = load(*arguments)
        torch.save({"a": torch.zeros(1)}, f"data/weights/{NAME}.pth")
        return result

    monkeypatch.setattr(pretrained, "load", load_and_replace)
    with pytest.raises(WeightsError, match=rf"{NAME}.pth changed while") as caught:
        run()
    assert caught.value.code == 75
    assert "dvc repro" in caught.value.remedy
    assert not OUT.exists()


def test_a_source_that_changes_during_pretraining_does_not_count_as_read(project, monkeypatch):
    """An image that is added to the folder of `pretrain_on` meanwhile ends the stage with 75; a file beside it does not matter."""
    for label in "ab":
        Path("other", label).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(f"other/{label}/1.png")
    set_params(source="pretrain", pretrain_on="other")
    added = iter(["data/weights/b.pth", "other/a/2.png"])
    monkeypatch.setattr(weights, "_pretrain", lambda *_: {"bytes": Path(next(added)).write_bytes(b"new")})
    run()
    with pytest.raises(WeightsError, match=r"1 added \(a/2.png\)") as caught:
        run()
    assert caught.value.code == 75
