"""The sources of backbones: what holds for the networks of every library, of which one small one is built here."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from darkroom.core.errors import ParamsError
from darkroom.models import factory, weights
from darkroom.models.backbones import registry
from darkroom.models.backbones.registry import SOURCES
from darkroom.models.base import Backbone, Network, Preprocessing
from darkroom.models.specs import BackboneSpec, spec_from_dict

SIZE = 48
IMAGES = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
every_source = pytest.mark.parametrize("source", [name for name, source in SOURCES.items() if source.example])


def example(source: str, head: str = "pooled", seed: int = 0) -> Backbone:
    return factory.build_backbone(BackboneSpec(SOURCES[source].example, SIZE, head, source), seed)


def pixels() -> torch.Tensor:
    return torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float() / 255


@every_source
def test_names_can_be_written_in_params(source):
    """Names are unique, fit the pattern of `backbones` in params.yaml, and have the example among them."""
    names = list(SOURCES[source].names())
    assert len(set(names)) == len(names) > 0
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in names)
    assert SOURCES[source].example in names
    assert registry.find(f"{source}/{names[0]}") == (source, names[0])


def test_names_cost_no_import_of_torch():
    """Names and weight files of all sources are known without torch."""
    code = (
        "import sys; from darkroom.models.backbones import registry; registry.names()\n"
        "for source in registry.SOURCES.values(): source.example and source.weight_file(source.example)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@every_source
@pytest.mark.parametrize("head", ["pooled", "classifier"])
def test_a_network_cut_between_blocks_is_the_whole(source, head):
    """Images become embeddings of the width `dim`, and the parts below and above any cut make the same."""
    backbone, images = example(source, head), pixels()
    with torch.inference_mode():
        embeddings = backbone(images)
        assert embeddings.shape == (2, backbone.dim)
        assert embeddings.isfinite().all()
        assert not torch.equal(embeddings[0], embeddings[1])
        for cut in range(backbone.block_count + 1) if backbone.sequential else ():
            assert torch.equal(backbone.upper(backbone.lower(images, cut), cut), embeddings), cut


@every_source
def test_blocks_hold_every_weight_once(source):
    """Each weight is in one block, or in the layers above them."""
    backbone = example(source, "classifier")
    blocks = [list(backbone.block(index).parameters()) for index in range(backbone.block_count)]
    parameter_ids = [id(value) for part in [*blocks, list(backbone.own_head().parameters())] for value in part]
    assert sorted(parameter_ids) == sorted(id(value) for value in backbone.parameters())


@every_source
def test_the_seed_draws_the_weights(source):
    """The same seed gives the same weights, another one others, and the global random state is left alone."""
    state = torch.get_rng_state()
    one, again, other = (example(source, seed=seed).weights() for seed in (0, 0, 1))
    assert all(torch.equal(value, again[key]) for key, value in one.items())
    assert any(not torch.equal(value, other[key]) for key, value in one.items())
    assert torch.equal(torch.get_rng_state(), state)


@every_source
def test_a_file_of_the_whole_network_fills_the_backbone(source):
    """A state_dict of the library's whole classifier fits, and nothing but its head is left over."""
    library_network = registry.load(source).classifier(SOURCES[source].example, SIZE, 5)
    state = {key: torch.ones(value.shape, dtype=value.dtype) for key, value in library_network.state_dict().items()}
    backbone = example(source)
    unused = weights.fill(backbone, state, "file")
    assert unused
    assert all(backbone.is_head(key) for key in unused)
    assert all(bool((value == 1).all()) for value in backbone.weights().values())


@every_source
def test_it_is_a_network_with_a_head_and_a_description(source):
    """With preprocessing and a head it classifies images, and its description names the source."""
    backbone = example(source)
    normalization = registry.load(source).normalization(SOURCES[source].example)
    with torch.inference_mode():
        logits = Network(backbone, Preprocessing(SIZE, "crop", (0, 0, 0), *normalization), 3).eval()(torch.from_numpy(IMAGES))
    assert logits.shape == (2, 3)
    assert backbone.spec.as_dict()["family"] == source
    assert spec_from_dict(backbone.spec.as_dict()) == backbone.spec


@pytest.mark.parametrize("name", ["mobilnet_v2", "torchvision/mobilnet_v2", "nosuch/mobilenet_v2"])
def test_an_unknown_name_has_a_remedy(name):
    """A name that no source has is refused with the nearest one."""
    with pytest.raises(ParamsError, match="mobilenet_v2"):
        registry.find(name)
