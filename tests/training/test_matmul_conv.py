"""Convolutions as products: the same function with the same gradients."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from darkroom.models.backbones.torchvision import TorchvisionBackbone
from darkroom.models.folding import folded
from darkroom.models.specs import BackboneSpec
from darkroom.training import matmul_conv

SHAPES = [
    (kernel, stride, padding, size)
    for kernel, stride, padding, size in itertools.product((1, 2, 3, 5, 7), (1, 2, 3), (0, 1, 2, 3), (1, 2, 3, 4, 5))
    if kernel <= size + 2 * padding and padding < kernel
]


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, 6])
def test_outputs_and_gradients_are_those_of_torch(groups, monkeypatch):
    """For every kernel, stride, padding and size, with and without bias, dense and depthwise, nothing differs
    from torch.
    """
    monkeypatch.setattr(matmul_conv, "limits", lambda: matmul_conv.Limits(25, 2.0))
    monkeypatch.setattr(matmul_conv, "DEPTHWISE", 10**9)
    monkeypatch.setattr(matmul_conv, "DEPTHWISE_3", 10**9)
    torch.manual_seed(0)
    for number, (kernel, stride, padding, size) in enumerate(SHAPES):
        layer = nn.Conv2d(6, 6, kernel, stride, padding, groups=groups, bias=bool(number % 2)).double()
        x = torch.randn(3, 6, size, size + number % 2, dtype=torch.float64, requires_grad=True)

        def gradients(layer=layer, x=x):
            output = layer(x)
            torch.manual_seed(1)
            tensors = [x, *layer.parameters()]
            return [output, *torch.autograd.grad((output * torch.randn(output.shape, dtype=output.dtype)).sum(), tensors)]

        expected = gradients()
        with matmul_conv.as_products(layer, x[:1].detach()) as count:
            computed = gradients()
        assert count == 1
        for one, two in zip(computed, expected, strict=True):
            assert torch.allclose(one, two, rtol=1e-9, atol=1e-12), (kernel, stride, padding, size)
        assert "_conv_forward" not in vars(layer)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size", "share"),
    [(3, 1, 1, 2, 16 / 36), (5, 1, 2, 2, 16 / 100), (3, 1, 1, 1, 1 / 9), (1, 1, 0, 3, 1)],
)
def test_the_share_of_products_that_count(kernel, stride, padding, size, share):
    """The share is the number of products with pixels of the map among all of the kernel's."""
    assert matmul_conv.useful_share(nn.Conv2d(1, 1, kernel, stride, padding), size, size) == pytest.approx(share)


@pytest.mark.parametrize(("limits", "count"), [(matmul_conv.FULL_WIDTH, 4), (matmul_conv.HALF_WIDTH, 2)])
def test_only_what_is_worth_it_is_changed(limits, count, monkeypatch):
    """Large maps, dilated and grouped convolutions and padding by mirroring are left to the library, and where products are
    slow, maps of 4 × 4 pixels too.
    """
    monkeypatch.setattr(matmul_conv, "limits", lambda: limits)
    network = TorchvisionBackbone(BackboneSpec("vgg11_bn", 32))
    assert len(matmul_conv.replacements(network, torch.zeros(1, 3, 32, 32))) == count
    assert not matmul_conv.replacements(network, torch.zeros(1, 3, 160, 160))
    for layer in (
        nn.Conv2d(4, 4, 3, padding=2, dilation=2), nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), nn.Conv2d(4, 4, 3, padding="same"),
    ):  # fmt: skip
        assert not matmul_conv.replacements(layer, torch.zeros(1, 4, 3, 3))


@pytest.mark.parametrize(
    ("vendor", "capability", "limits"),
    [
        ("AuthenticAMD", "AVX512", matmul_conv.HALF_WIDTH), ("AuthenticAMD", "AVX2", matmul_conv.FULL_WIDTH),
        ("GenuineIntel", "AVX512", matmul_conv.FULL_WIDTH), (None, "DEFAULT", matmul_conv.FULL_WIDTH),
    ],
)  # fmt: skip
def test_products_are_slow_on_processors_of_amds_with_avx512(vendor, capability, limits, tmp_path, monkeypatch):
    """There alone the limits are lower; where the processor is not known they are the usual ones."""
    file = tmp_path / "cpuinfo"
    if vendor:
        file.write_text(f"vendor_id\t: {vendor}\n")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert matmul_conv.limits(file) == limits


def test_maps_of_several_sizes_are_left_to_the_library():
    """A convolution that a model uses on maps of two sizes is not changed, whichever of them comes first."""
    for first, second in ((2, 4), (4, 2)):

        class Twice(nn.Module):
            def __init__(self, sizes):
                super().__init__()
                self.layer, self.sizes = nn.Conv2d(2, 2, 3, padding=1), sizes

            def forward(self, x):
                return [self.layer(x[:, :, :size, :size]) for size in self.sizes][1]

        model, x = Twice((first, second)), torch.randn(3, 2, 4, 4)
        expected = model(x)
        with matmul_conv.as_products(model, x[:1]) as count:
            assert torch.allclose(model(x), expected, atol=1e-6)
        assert count == 0
    model = Twice((2, 2))
    with matmul_conv.as_products(model, x[:1]) as count:
        assert torch.allclose(model(x), model.layer(x[:, :, :2, :2]), atol=1e-6)
    assert count == 1


def test_a_single_channel_and_what_changes_in_place_after_it():
    """A dense convolution of one channel, and one that is followed by an in-place ReLU, have torch's
    gradients.
    """
    torch.manual_seed(0)
    for model in (
        nn.Sequential(nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.ReLU(inplace=True)),
        nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False), nn.ReLU(inplace=True)),
    ):
        x = torch.randn(4, model[0].in_channels, 2, 2)
        expected = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
        with matmul_conv.as_products(model, x[:1]) as count:
            computed = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
        assert count == 1
        assert torch.allclose(computed[0], expected[0], rtol=1e-5)


def test_folding_and_taps_go_together():
    """A convolution with a folded normalisation on a tiny map gives the answers and gradients of both alone."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)).double().eval()
    model[1].running_mean.uniform_()
    model[1].running_var.uniform_(0.5, 1)
    x = torch.randn(5, 4, 2, 2, dtype=torch.float64)
    expected = [model(x), *torch.autograd.grad(model(x).square().sum(), list(model.parameters()))]
    with folded(model, x[:1], 100) as one, matmul_conv.as_products(model, x[:1]) as two:
        computed = [model(x), *torch.autograd.grad(model(x).square().sum(), list(model.parameters()))]
    assert one == two == 1
    assert all(torch.allclose(a, b, rtol=1e-9) for a, b in zip(computed, expected, strict=True))
