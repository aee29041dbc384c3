"""Descriptions of networks: what is written is what is read."""

from __future__ import annotations

import json

import pytest

from darkroom.core.errors import WeightsError
from darkroom.models.base import Preprocessing
from darkroom.models.checkpoint import EmbeddedBackbone, Provenance
from darkroom.models.specs import ArchitectureSpec, BackboneSpec, CompactSpec, spec_from_dict

SPECS = [CompactSpec(32, 8), ArchitectureSpec("vgg11", 64, 1, {"dense": 0}), BackboneSpec("vgg16", 160, "classifier")]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.family)
def test_a_spec_survives_json(spec):
    """A description that was written as JSON is read as the same description."""
    assert spec_from_dict(json.loads(json.dumps(spec.as_dict()))) == spec


@pytest.mark.parametrize("content", [{"family": "timm", "name": "x"}, {"family": "compact", "size": 3}, {}])
def test_an_unknown_description_is_refused(content):
    """A family or a field that this version does not have is refused, with the description and a remedy."""
    with pytest.raises(WeightsError, match="version of Darkroom") as caught:
        spec_from_dict(content)
    assert str(content) in caught.value.problem


def test_descriptions_survive_their_files(tmp_path):
    """Provenance and embedded backbones are read as they were written."""
    provenance = Provenance(SPECS[2], (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), "folder", {"sha256": "00", "left_aside": ["fc.bias"]})
    provenance.write(tmp_path / "weights.json")
    assert Provenance.read(tmp_path / "weights.json") == provenance
    assert provenance.summary() == {"source": "folder", "sha256": "00"}
    preprocessing = Preprocessing(160, "crop", (0, 0, 0), provenance.mean, provenance.std)
    embedded = EmbeddedBackbone(SPECS[2], preprocessing, ("a", "b"), provenance.summary(), False, 12)
    embedded.write(tmp_path / "backbone.json")
    assert EmbeddedBackbone.read(tmp_path / "backbone.json") == embedded
