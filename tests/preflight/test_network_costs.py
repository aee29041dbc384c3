"""The table of costs agrees with the networks."""

from __future__ import annotations

import pytest
import torch

from darkroom.augmentation import corruptions
from darkroom.data.quality import THUMBNAIL
from darkroom.models import factory, network_summary
from darkroom.models.architectures import registry
from darkroom.models.backbones import registry as backbones
from darkroom.models.backbones.torchvision import TorchvisionBackbone
from darkroom.models.macs import multiply_adds
from darkroom.models.specs import BackboneSpec, CompactSpec
from darkroom.preflight import disk, durations, network_costs
from darkroom.training import freezing


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 96])
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1", "vgg11_bn", "swin_t"])
def test_the_cost_of_a_backbone_is_its_own(name, size):
    """Multiply-adds, parameters, width, blocks, the cut and the maps there are those of the network, within
    two fifths where the size is not in the table.
    """
    backbone, cost = TorchvisionBackbone(BackboneSpec(name, size)), network_costs.of_backbone(name, size)
    assert cost is not None
    close = 0.01 if size == 64 else 0.4
    assert cost.part().multiply_adds == pytest.approx(multiply_adds(backbone, size), rel=close)
    assert cost.parameters == pytest.approx(sum(p.numel() for p in backbone.parameters()), rel=0.01)
    assert cost.dim == backbone.dim
    assert len(cost.blocks) == backbone.block_count
    for amount in (0.2, 0.5, 1, 3):
        cut = cost.first_trained(amount)
        assert cut == freezing.first_trained(backbone, amount)
        with torch.inference_mode():
            maps = backbone.lower(torch.zeros(1, 3, size, size), cut).numel()
        assert cost.maps[cut - 1] == pytest.approx(maps, rel=close)


@pytest.mark.parametrize("size", [8, 28, 32, 64, 65, 160])
@pytest.mark.parametrize("width", [8, 16])
def test_the_cost_of_the_compact_network_is_computed(size, width):
    """Its multiply-adds and parameters are counted from its few layers, whatever the size and the width."""
    network = factory.build_features(CompactSpec(size, channels=3, width=width))
    cost = network_costs.of_architecture("compact", size, 3, width)
    assert cost is not None
    assert cost.part().multiply_adds == multiply_adds(network, size)
    assert cost.parameters == sum(p.numel() for p in network.parameters())
    assert cost.dim == network.dim


@pytest.mark.parametrize("name", ["lenet5", "resnet20"])
def test_the_cost_of_a_classic_architecture_is_its_own(name):
    """At its native size the row has the multiply-adds of the whole network."""
    entry = registry.entries()[name]
    cost = network_costs.of_architecture(name, entry.size, entry.channels, 16)
    layers = network_summary.layers(name, entry.size, entry.channels, entry.classes, {})
    assert cost is not None
    assert cost.part().multiply_adds == pytest.approx(sum(layer.multiply_adds for layer in layers), rel=0.01)


def test_every_network_has_a_row():
    """No network of Darkroom or torchvision lacks a cost: a new one is added by `python benchmarks/network_costs.py`."""
    libraries = tuple(f"{name}/" for name, source in backbones.SOURCES.items() if source.is_prefixed)
    for name in factory.names():
        if name.startswith(libraries):
            continue
        if name not in registry.names() or registry.entries()[name].kind == registry.CLASSIFIER:
            assert network_costs.of_architecture(name, 64, 3, 16), name


def test_numbers_of_other_rooms_are_theirs():
    """The preview, which imports no torch, counts with the limits and numbers of the stages."""
    assert len(corruptions.CORRUPTIONS) * corruptions.SEVERITIES == durations.CORRUPTIONS
    assert disk.THUMBNAIL == THUMBNAIL**2
