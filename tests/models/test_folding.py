"""Folding: batch normalisation inside a convolution is the same function with the same gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from darkroom.models.folding import folded, pairs
from tests.models.test_backbones import SMALLEST, shallow

WITH_BATCH_NORMALIZATION = {
    "EfficientNet", "GoogLeNet", "Inception3", "MNASNet", "MobileNetV2", "MobileNetV3", "RegNet", "ResNet", "ShuffleNetV2",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("family", [name for name in SMALLEST if name not in ("MaxVit", "SwinTransformer", "VisionTransformer")])
def test_gradients_are_those_of_the_unfolded_network(family):
    """In every family the folded network has the outputs and the gradients of the unfolded one.

    Of the other families no convolution feeds a batch normalisation alone.
    """
    network = shallow(family)
    x = torch.randn(2, 3, network.spec.image_size, network.spec.image_size, generator=torch.Generator().manual_seed(0)).double()
    if family not in WITH_BATCH_NORMALIZATION:
        assert bool(pairs(network, x.float(), 10**6)) == (family == "DenseNet")  # some of its normalisations follow a concatenation
        return
    network.double().eval()
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.data.uniform_(0.5, 1.0, generator=generator)

    def gradients():
        network.zero_grad()
        outputs = network(x)
        outputs.square().sum().backward()
        return outputs.detach(), [parameter.grad.clone() for parameter in network.parameters()]

    plain, expected = gradients()
    with folded(network, x, 10**6) as count:
        outputs, computed = gradients()
    assert count == sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    assert torch.allclose(outputs, plain, rtol=1e-9)
    for one, two in zip(computed, expected, strict=True):
        assert torch.allclose(one, two, rtol=1e-6, atol=1e-9 * float(two.abs().max()))
    assert torch.equal(network(x), plain)


def test_only_what_goes_to_the_normalisation_alone_is_folded():
    """A convolution is not folded where a module stands between it and the normalisation, or reads its output
    too.
    """

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution, self.norm, self.other = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.Sigmoid()

        def forward(self, x):
            y = self.convolution(x)
            return self.norm(y) + self.other(y)

    x = torch.zeros(1, 2, 3, 3)
    between = nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU(inplace=True), nn.BatchNorm2d(2))
    assert pairs(between, x, 10**6) == []
    assert pairs(Shared(), x, 10**6) == []
    assert len(pairs(nn.Sequential(between[0], between[2]), x, 10**6)) == 1


def test_what_has_more_weights_than_outputs_is_not_folded():
    """A convolution is folded only where it makes at least as many numbers as it has weights, and never if it
    is used twice.
    """
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8))
    x = torch.zeros(1, 4, 5, 5)
    weights, outputs = 4 * 8 * 9, 8 * 9
    assert pairs(model, x, weights // outputs) == [(model[0], model[1])]
    assert pairs(model, x, weights // outputs - 1) == []

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Conv2d(4, 4, 1)
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x):
            return self.norm(self.one(x)) + self.one(x)

    assert pairs(Twice(), x, 10**6) == []


def test_statistics_and_forwards_are_restored():
    """After the block, also after an error, the modules are as they were."""
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8))
    state = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="stop"), folded(model, torch.zeros(1, 3, 8, 8), 8):
        _stop(model(torch.ones(2, 3, 8, 8)))
    assert all("forward" not in vars(module) for module in model)
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


def _stop(_):
    raise ValueError("stop")
