"""Checkpoints: a folder without pickles that gives back the same network."""

from __future__ import annotations

import json

import pytest
import torch

from darkroom.core.errors import WeightsError, WorkspaceError
from darkroom.models import checkpoint, weight_files
from darkroom.models.base import Network, Preprocessing
from darkroom.models.factory import build_features
from darkroom.models.specs import BackboneSpec, CompactSpec

PREPROCESSING = Preprocessing(32, "crop", (0, 0, 0), (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))


@pytest.mark.parametrize("spec", [CompactSpec(32, 8), BackboneSpec("squeezenet1_1", 32), BackboneSpec("mnasnet0_5", 32)])
def test_what_is_saved_is_what_is_loaded(tmp_path, spec):
    """A saved network gives the same logits bit for bit, and saving it twice the same bytes."""
    network = Network(build_features(spec, 1), PREPROCESSING, 3, 1).eval()
    written = checkpoint.Checkpoint("baseline", spec, PREPROCESSING, ("a", "b", "ü"), {"lr": 0.1}, {"epoch": 1}, 1.25)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        checkpoint.save(tmp_path / name, written, network.state_dict(), network.parameter_count(), [{"epoch": 1, "val_loss": 0.5}])
    loaded, described = checkpoint.load(tmp_path / "one")
    images = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(loaded(images), network(images))
    assert described == written
    assert weight_files.checkpoint_digest(tmp_path / "one") == weight_files.checkpoint_digest(tmp_path / "two")


def test_a_checkpoint_of_an_early_version_has_temperature_one(tmp_path):
    """Checkpoints without a temperature are read; their predictions do not change."""
    network = Network(build_features(CompactSpec(32, 8)), PREPROCESSING, 2)
    written = checkpoint.Checkpoint("baseline", CompactSpec(32, 8), PREPROCESSING, ("a", "b"), {}, {}, 3.0)
    checkpoint.save(tmp_path, written, network.state_dict(), network.parameter_count(), [{"epoch": 1}])
    content = json.loads((tmp_path / "model.json").read_text())
    assert content.pop("temperature") == 3
    (tmp_path / "model.json").write_text(json.dumps(content))
    assert checkpoint.load(tmp_path)[1].temperature == 1


def test_a_folder_that_is_no_checkpoint_is_an_error(tmp_path):
    """A missing description or weights of another network are refused with a remedy."""
    with pytest.raises(WorkspaceError):
        checkpoint.load(tmp_path)
    with pytest.raises(WorkspaceError):
        weight_files.checkpoint_digest(tmp_path)
    network = Network(build_features(CompactSpec(32, 8)), PREPROCESSING, 2)
    written = checkpoint.Checkpoint("baseline", CompactSpec(32, 16), PREPROCESSING, ("a", "b"), {}, {})
    checkpoint.save(tmp_path, written, network.state_dict(), network.parameter_count(), [{"epoch": 1}])
    with pytest.raises(WeightsError):
        checkpoint.load(tmp_path)
