"""Layers by name: recorded outputs are those of forward hooks, and a wrong name gets suggestions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from darkroom.core.errors import ParamsError
from darkroom.lab import layer_pictures, layers
from darkroom.models.architectures.compact import Compact
from darkroom.models.base import Network, Preprocessing
from darkroom.models.factory import build_features
from darkroom.models.specs import BackboneSpec, CompactSpec

PLAIN = Preprocessing(32, "crop", (0, 0, 0), (0.5,) * 3, (0.25,) * 3)


def compact() -> Network:
    return Network(Compact(CompactSpec(32, 4)), PLAIN, 3).eval()


def torchvision(name: str, size: int = 64) -> Network:
    return Network(build_features(BackboneSpec(name, size)), PLAIN, 2).eval()


def images(count: int = 2, size: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_recorded_outputs_are_those_of_forward_hooks():
    """Each recorded output is the layer's own, although later layers work in place; the network does not
    change."""
    network = compact().train()
    hooked = {}
    names = ["stages.0.0.1", "stages.0.0.2", "stages.1.2", "head"]
    hooks = [layers.find_layer(network, n).register_forward_hook(lambda m, i, o, n=n: hooked.update({n: o.clone()})) for n in names]
    outputs = layers.record(network, images(), names)
    for hook in hooks:
        hook.remove()
    assert list(outputs) == names
    assert all(torch.equal(outputs[name], hooked[name]) for name in names)
    assert (outputs["stages.0.0.1"] < 0).any()  # batch normalisation before the ReLU that overwrites it
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())


def test_layers_are_in_the_order_of_their_use():
    """The record of all layers begins with the first convolution and ends with the head."""
    names = [name for name in layers.record(compact(), images()) if "." in name or name == "head"]
    assert names[0] == "stages.0.0.0"
    assert names[-1] == "head"


def test_torchvisions_layers_have_torchvisions_names():
    """Layers of a backbone have torchvision's names, and one that is used again has a number."""
    network = torchvision("resnet18")
    assert isinstance(layers.find_layer(network, "layer4.1.conv2"), nn.Conv2d)
    outputs = layers.record(network, images(1, 64), ["layer1.0.relu"])
    assert list(outputs) == ["layer1.0.relu", "layer1.0.relu#2"]


@pytest.mark.parametrize("wrong", ["stages.0.0.9", "stage.1.0.0", "x", ""])
def test_an_unknown_layer_names_its_neighbours(wrong):
    """The error lists layers of the network, and similar names if there are any."""
    with pytest.raises(ParamsError) as caught:
        layers.find_layer(compact(), wrong)
    assert "stages.0.0.0" in caught.value.remedy
    assert ("did you mean" in caught.value.problem) == (len(wrong) > 1)


def test_maps_of_transformers_and_channels_last():
    """Tokens become a square without the class token, last channels become first, and vectors have no spatial
    positions."""
    tokens = torch.arange(2 * 10 * 4.0).reshape(2, 10, 4)
    square = layers.to_maps(tokens, nn.Identity())
    assert square.shape == (2, 4, 3, 3)
    assert torch.equal(square[1, 2].flatten(), tokens[1, 1:, 2])
    assert layers.to_maps(torch.zeros(1, 5, 6, 7), nn.Linear(7, 7)).shape == (1, 7, 5, 6)
    assert layers.to_maps(torch.zeros(1, 7, 5, 6), nn.Conv2d(7, 7, 1)).shape == (1, 7, 5, 6)
    assert layers.to_maps(torch.zeros(1, 10), nn.Identity()) is None


def test_channels_are_ordered_by_deviation():
    """Channels come in the order of their standard deviation over the image; a bright but constant one is
    last."""
    values = torch.stack([torch.full((4, 4), 9.0), torch.randn(4, 4), 5 * torch.randn(4, 4)])
    assert layers.most_varied(values, 5) == [2, 1, 0]


def test_filters_are_the_weights():
    """A filter's picture has the weights' shape and order, mid-grey for zero; other layers are refused."""
    network = compact()
    name, module = layer_pictures.find_convolution(network, None)
    assert name == "stages.0.0.0"
    picture = layer_pictures.colours(layer_pictures.weights_of(module))
    weight = module.weight[2, 1, 0, 2].item() / module.weight[2].abs().max().item()
    assert abs(picture[2, 0, 2, 1] - (127.5 + 127.5 * weight)) <= 1
    assert layer_pictures.mosaic(layer_pictures.shades(layer_pictures.weights_of(module)), 3).shape == (4 * 11 - 2, 3 * 11 - 2, 3)
    with pytest.raises(ParamsError, match="not a convolution"):
        layer_pictures.find_convolution(network, "head")


def test_before_and_after_show_the_same_channels():
    """The channels that are chosen by the trained maps are those of the row before training, in the same order."""
    after, before = torch.rand(6, 4, 4) * torch.arange(6).view(6, 1, 1), torch.rand(6, 4, 4)
    chosen = layer_pictures.choose_channels(after, 3)
    rows = [layer_pictures.draw_maps(maps, nn.ReLU(), "maps", chosen) for maps in (before, after)]
    assert [tile.caption for tile in rows[0].tiles] == [tile.caption for tile in rows[1].tiles] == [str(i) for i in chosen]
    assert layer_pictures.choose_channels(after, None) == list(range(6))
