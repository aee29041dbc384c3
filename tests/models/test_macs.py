"""The layers of a network: every parameter once, and the published multiply-adds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from darkroom.models.backbones.torchvision import classifier
from darkroom.models.backbones.torchvision_import import torchvision
from darkroom.models.macs import layers, multiply_adds
from tests.models.test_backbones import SMALLEST


@pytest.mark.slow
@pytest.mark.parametrize("family", SMALLEST)
def test_parameters_and_multiply_adds_are_torchvisions(family):
    """Parameters add up to the network's, and multiply-adds are torchvision's figure for its network (1%
    apart at most).
    """
    name = SMALLEST[family]
    meta = torchvision.models.get_model_weights(name).DEFAULT
    size = meta.transforms.keywords["crop_size"]
    network = classifier(name, size, 1000)
    rows = layers(network, (3, size, size))
    own = sum(p.numel() for p in network.parameters())
    assert sum(layer.parameters for layer in rows) == own
    assert own == meta.meta["num_params"] or family == "Inception3"  # whose figure has the auxiliary classifier in it
    assert sum(layer.multiply_adds for layer in rows) / 1e9 == pytest.approx(meta.meta["_ops"], rel=0.01, abs=0.001)


def test_a_layer_used_twice_costs_twice():
    """Multiply-adds are counted at every use of a module, its parameters once; the network is left in its
    mode.
    """
    shared = nn.Conv2d(3, 3, 3, padding=1)
    network = nn.Sequential(shared, nn.ReLU(), shared, nn.MaxPool2d(2)).train()
    first, last = layers(network, (3, 8, 8))
    assert (first.parameters, first.multiply_adds, first.output) == (84, 2 * 8 * 8 * 81, (3, 8, 8))
    assert (last.kind, last.output, last.parameters) == ("MaxPool2d", (3, 4, 4), 0)
    assert multiply_adds(network, 8) == first.multiply_adds
    assert network.training


def test_a_transposed_convolution_counts_by_its_inputs():
    """Each input pixel meets every tap of a transposed convolution once."""
    (layer,) = layers(nn.ConvTranspose2d(3, 5, 2, 2), (3, 4, 4))
    assert layer.multiply_adds == 4 * 4 * 3 * 5 * 4
    assert layer.output == (5, 8, 8)
    assert torch.Size(layer.output).numel() == 320


def test_multiply_adds_are_those_of_the_paper():
    """MobileNetV2 has 300 million multiply-adds at 224 pixels (Sandler et al. 2018, table 3, the classifier
    included).
    """
    assert multiply_adds(classifier("mobilenet_v2", 224, 1000), 224) == pytest.approx(300e6, rel=0.01)
