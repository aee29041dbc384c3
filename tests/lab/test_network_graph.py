"""The graph of a network: its totals are those of the layers, and its edges are what was computed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from darkroom.lab import network_graph, network_table
from darkroom.models import macs, network_summary
from darkroom.models.architectures import registry
from tests.models.test_backbones import SMALLEST

FAMILIES = {entry.family: entry for entry in reversed(registry.entries().values())}


def rows_of(name: str, size: int, channels: int = 3, classes: int = 10) -> dict[str, network_table.Row]:
    return {row.name: row for row in network_table.describe(network_table.graph(name, size, channels, classes, {}))}


@pytest.mark.parametrize(
    "name",
    [
        *(entry.name for entry in FAMILIES.values()),
        *(pytest.param(f"torchvision/{n}", marks=pytest.mark.slow) for n in SMALLEST.values()),
    ],
)
def test_totals_are_those_of_the_layers(name):
    """Parameters and multiply-adds, module by module, are those of `macs.layers`, whatever the family."""
    entry = registry.entries().get(name)
    size, channels = (entry.size, entry.channels) if entry else (299 if "inception_v3" in name else 224, 3)
    rows = rows_of(name, size, channels)
    counted = network_summary.layers(name, size, channels, 10, {})
    for key in ("parameters", "multiply_adds"):
        assert sum(getattr(row, key) for row in rows.values()) == sum(getattr(layer, key) for layer in counted)
    figures = {layer.name: (layer.output, layer.parameters, layer.multiply_adds) for layer in counted if layer.name in rows}
    for layer, figure in figures.items():
        if layer and figure[0] and not any(item.name.startswith(f"{layer}.") for item in counted):  # "" is the network itself
            assert (rows[layer].output, rows[layer].parameters, rows[layer].multiply_adds) == figure


def test_a_skip_is_an_addition_of_two_layers():
    """A residual block ends with the sum of its last layer and its input, then the activation."""
    rows = rows_of("resnet8", 32)
    assert rows["conv2_1.add"].inputs == ("conv2_1.bn2", "bn1")
    assert rows["conv3_1.add"].inputs == ("conv3_1.bn2", "conv3_1.shortcut")
    assert (rows["conv3_1.add"].activation, rows["conv3_1.bn1"].activation, rows["conv3_1.bn2"].activation) == ("ReLU", "ReLU", "")
    assert not any(row.kind == "add" for row in rows_of("plain8", 32).values())


def test_branches_are_concatenated():
    """An Inception module's output has the channels of its four branches."""
    merge = rows_of("inception_small", 32)["3a.concatenate"]
    assert merge.inputs == ("3a.branch1.norm", "3a.branch2.1.norm", "3a.branch3.1.norm", "3a.branch4.1.norm")
    assert merge.output == (32 + 64 + 16 + 16, 32, 32)


def test_settings_are_those_of_the_paper():
    """AlexNet's first convolution is 11×11 with stride 4; MobileNet's are depthwise; fields are the published ones."""
    first = rows_of("alexnet", 224)["conv1"]
    assert (first.kernel, first.stride, first.padding, first.activation, first.receptive_field) == (
        (11, 11),
        (4, 4),
        (2, 2),
        "ReLU",
        11,
    )
    assert rows_of("mobilenet_v2", 224)["block2_1.layers.0.conv"].groups == 32
    vgg = rows_of("vgg16", 224)
    assert (vgg["conv5_3"].receptive_field, vgg["pool5"].receptive_field, vgg["fc6"].receptive_field) == (196, 212, None)


class Halves(nn.Module):
    """One half of the channels passes, as in a ShuffleNet; a layer in place; a layer that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(4, 4, 1, bias=False), nn.ReLU(inplace=True)
        self.part = nn.Conv2d(2, 2, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = self.act(self.conv(x)).chunk(2, 1)
        return torch.cat([left, self.part(self.part(right))], 1).transpose(1, 2).transpose(1, 2)


def test_functions_that_rearrange_are_no_nodes():
    """Halves and permutations carry their source; a layer that is used again is a node again, its parameters counted once."""
    network = Halves().train()
    graph = network_graph.trace(network, (4, 8, 8))
    names = [node.name for node in graph.nodes]
    assert names == ["input", "conv", "act", "part", "part#2", "concatenate"]
    sources = [[names[edge.source] for edge in node.inputs] for node in graph.nodes]
    assert sources == [[], ["input"], ["conv"], ["act"], ["part"], ["act", "part#2"]]
    assert sum(node.parameters for node in graph.nodes) == 16 + 4
    assert sum(node.multiply_adds for node in graph.nodes) == sum(row.multiply_adds for row in macs.layers(network, (4, 8, 8)))
    assert network.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
