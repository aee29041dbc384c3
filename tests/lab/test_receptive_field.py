"""Receptive fields: those of known networks, and no pixel outside them matters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from darkroom.lab import layers, receptive_field
from darkroom.models import factory
from darkroom.models.architectures.resnet import Shortcut
from tests.lab.test_layers import compact, torchvision


class Chain(nn.Module):
    """Layers on (N, S, S, 3) uint8."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.Sequential(*parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.parts(x.permute(0, 3, 1, 2).float())


class Normalized(Chain):
    """The convolutions of an architecture."""

    def __init__(self, name: str) -> None:
        super().__init__(factory.build_features(factory.make_spec(name, 32, 3, {}), 0).body)


class Branches(nn.Module):
    """A wide and a narrow branch that are added."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(4, 4, 5, padding=2, stride=2), nn.Conv2d(4, 4, 1, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu_(self.wide(x)) + self.narrow(x)


def sizes(network: nn.Module, size: int) -> dict[str, tuple[float, float]]:
    return {name: (down.size, down.step) for name, ((down, _), _) in receptive_field.fields(network, size).items()}


def test_grey_images_have_fields_too():
    """The mean of the colours sees one pixel, so that the layers of a network for grey images do not see the whole image."""
    network = Chain(factory.build_features(factory.make_spec("lenet5", 32, 1, {}), 0))
    fields = sizes(network, 32)
    assert [fields[f"parts.0.body.{layer}"] for layer in ("c1", "s2", "c3", "s4")] == [(5, 1), (6, 2), (14, 2), (16, 4)]


@pytest.mark.parametrize(
    ("name", "layer", "size", "step"),
    [
        ("vgg16", "features.28", 196, 16),  # conv5_3
        ("vgg16", "features.30", 212, 32),
        ("alexnet", "features.10", 163, 16),
        ("alexnet", "features.12", 195, 32),
        ("resnet18", "layer4.1", 435, 32),
        ("squeezenet1_1", "features.12", 207, 16),
    ],
)
def test_fields_of_known_networks(name, layer, size, step):
    """Fields and strides are the published ones (Araujo et al. 2019 for VGG-16, AlexNet and ResNet)."""
    assert sizes(torchvision(name, 96), 96)[layer] == (size, step)


def test_every_second_position_doubles_the_step():
    """A shortcut without a convolution takes every second position: the convolution after it widens the field by two
    steps of the layer below, and the fields of a CIFAR ResNet are those of its plain twin."""
    network = Chain(nn.Conv2d(3, 4, 3), Shortcut(8, 2), nn.Conv2d(8, 8, 3))
    assert sizes(network, 32)["parts.2"] == (7, 2)
    last = [list(sizes(Normalized(name), 32).values())[-1] for name in ("resnet20", "plain20")]
    assert last == [(81, 4)] * 2


@pytest.mark.slow
def test_resnet_50_depends_on_where_its_strides_are():
    """With its strides in the 1×1 convolutions, as published, the field is 483; in the 3×3, as torchvision
    has them, 427."""
    network = torchvision("resnet50", 96)
    assert sizes(network, 96)["layer4.2"] == (427, 32)
    for stage in ("layer2", "layer3", "layer4"):
        layers.find_layer(network, f"{stage}.0.conv1").stride = (2, 2)
        layers.find_layer(network, f"{stage}.0.conv2").stride = (1, 1)
    assert sizes(network, 96)["layer4.2"] == (483, 32)


def chains() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "odd": Chain(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 4, 5, padding=2)),
        "even": Chain(nn.Conv2d(3, 4, 4, 2, 1), nn.AvgPool2d(2), nn.Conv2d(4, 4, 2)),
        "dilated": Chain(nn.Conv2d(3, 4, 3, dilation=3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, dilation=2, padding=2)),
        "oblong": Chain(nn.Conv2d(3, 4, (1, 5), padding=(0, 2)), nn.Conv2d(4, 4, (3, 1), stride=(2, 1))),
        "branches": Chain(nn.Conv2d(3, 4, 3), Branches(), nn.Conv2d(4, 4, 3)),
    }


@pytest.mark.parametrize("name", ["odd", "even", "dilated", "oblong", "branches"])
def test_pixels_outside_the_field_have_no_gradient(name):
    """The gradient of a unit is exactly zero outside its field, and reaches the field's first and last rows
    and columns."""
    network = chains()[name].eval()
    (down, across), shape = receptive_field.fields(network, 33)["parts"]
    images = torch.rand(8, 33, 33, 3).mul(255).requires_grad_()
    y, x = shape[1] // 2, shape[2] // 2
    (gradient,) = torch.autograd.grad(network(images)[:, :, y, x].square().sum(), images)
    has_gradient = gradient.abs().sum((0, 3)) > 0
    for side, index, axis in ((down, y, 1), (across, x, 0)):
        touched = has_gradient.any(axis).nonzero().flatten()
        assert touched.min() == side.first + index * side.step
        assert touched.max() == side.last + index * side.step


@pytest.mark.slow
def test_global_operations_see_the_whole_image():
    """After a global average, squeeze and excitation, flattening or attention, the field is the whole image."""
    assert receptive_field.fields(compact(), 32)["head"][0] == (receptive_field.WHOLE, receptive_field.WHOLE)
    assert receptive_field.fields(torchvision("mobilenet_v3_small"), 64)["features.4"][0][0] == receptive_field.WHOLE
    assert receptive_field.fields(torchvision("vit_b_16"), 64)["conv_proj"][0][0].size == 16
    assert receptive_field.fields(torchvision("vit_b_16"), 64)["encoder.layers.encoder_layer_0"][0][0] == receptive_field.WHOLE


def test_the_measured_field_lies_within_the_theoretical():
    """The gradient of a trained or random network is zero outside the frame, and its effective size is no
    larger."""
    network = compact()
    (down, _), shape = receptive_field.fields(network, 32)["stages.1.1.0"]
    noise = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    influence = receptive_field.effective(network, "stages.1.1.0", noise)
    first, last = (int(edge + shape[1] // 2 * down.step) for edge in (down.first, down.last))
    assert influence.max() == 1
    influence[first : last + 1, first : last + 1] = 0
    assert influence.max() == 0
    assert 0 < receptive_field.effective_size(receptive_field.effective(network, "stages.1.1.0", noise)) <= down.size
