"""Layers by name: what is recorded is what a hook sees, and a wrong name finds its neighbours."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from darkroom.core.errors import ParamsError
from darkroom.lab import filters, layers
from darkroom.models.base import Network, Preprocessing, build_features
from darkroom.models.compact import Compact, Spec

PLAIN = Preprocessing(32, "crop", (0, 0, 0), (0.5,) * 3, (0.25,) * 3)


def compact() -> Network:
    return Network(Compact(Spec(32, 4)), PLAIN, 3).eval()


def torchvision(name: str, size: int = 64) -> Network:
    return Network(build_features({"family": "torchvision", "name": name, "image_size": size, "head": "pooled"}), PLAIN, 2).eval()


def images(count: int = 2, size: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_recorded_maps_are_what_a_hook_sees():
    """Each layer's record is its output at that moment, though what follows works in place; the network is left as it was."""
    network = compact().train()
    seen = {}
    wanted = ["stages.0.0.1", "stages.0.0.2", "stages.1.2", "head"]
    hooks = [layers.find(network, n).register_forward_hook(lambda m, i, o, n=n: seen.update({n: o.clone()})) for n in wanted]
    found = layers.record(network, images(), wanted)
    for hook in hooks:
        hook.remove()
    assert list(found) == wanted
    assert all(torch.equal(found[name], seen[name]) for name in wanted)
    assert (found["stages.0.0.1"] < 0).any()  # batch normalisation before the ReLU that overwrites it
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())


def test_layers_are_in_the_order_of_their_use():
    """The record of all layers begins with the first convolution and ends with the head."""
    names = [name for name in layers.record(compact(), images()) if "." in name or name == "head"]
    assert names[0] == "stages.0.0.0"
    assert names[-1] == "head"


def test_torchvisions_layers_have_torchvisions_names():
    """Layers of a backbone are called as torchvision calls them, and one that is used again is numbered."""
    network = torchvision("resnet18")
    assert isinstance(layers.find(network, "layer4.1.conv2"), nn.Conv2d)
    found = layers.record(network, images(1, 64), ["layer1.0.relu"])
    assert list(found) == ["layer1.0.relu", "layer1.0.relu#2"]


@pytest.mark.parametrize("wrong", ["stages.0.0.9", "stage.1.0.0", "x", ""])
def test_an_unknown_layer_names_its_neighbours(wrong):
    """The error lists what there is, and the nearest names where any is near."""
    with pytest.raises(ParamsError) as caught:
        layers.find(compact(), wrong)
    assert "stages.0.0.0" in caught.value.remedy
    assert ("did you mean" in caught.value.problem) == (len(wrong) > 1)


def test_maps_of_transformers_and_channels_last():
    """Tokens become a square without the class token, channels that come last come first, and vectors have no places."""
    tokens = torch.arange(2 * 10 * 4.0).reshape(2, 10, 4)
    square = layers.maps(tokens, nn.Identity())
    assert square.shape == (2, 4, 3, 3)
    assert torch.equal(square[1, 2].flatten(), tokens[1, 1:, 2])
    assert layers.maps(torch.zeros(1, 5, 6, 7), nn.Linear(7, 7)).shape == (1, 7, 5, 6)
    assert layers.maps(torch.zeros(1, 7, 5, 6), nn.Conv2d(7, 7, 1)).shape == (1, 7, 5, 6)
    assert layers.maps(torch.zeros(1, 10), nn.Identity()) is None


def test_the_strongest_channels_vary_most():
    """Channels come in the order of their standard deviation over the image; a bright but plain one is last."""
    values = torch.stack([torch.full((4, 4), 9.0), torch.randn(4, 4), 5 * torch.randn(4, 4)])
    assert layers.strongest(values, 5) == [2, 1, 0]


def test_filters_are_the_weights():
    """A filter's picture has the weights' shape and order, mid-grey for zero; what is no convolution is refused."""
    network = compact()
    name, module = filters.convolution(network, None)
    assert name == "stages.0.0.0"
    shown = filters.colours(filters.weights(module))
    weight = module.weight[2, 1, 0, 2].item() / module.weight[2].abs().max().item()
    assert abs(shown[2, 0, 2, 1] - (127.5 + 127.5 * weight)) <= 1
    assert filters.mosaic(filters.shades(filters.weights(module)), 3).shape == (4 * 11 - 2, 3 * 11 - 2, 3)
    with pytest.raises(ParamsError, match="not a convolution"):
        filters.convolution(network, "head")
