"""Winograd's algorithm: another way to the same convolution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from darkroom.config.params import Compute
from darkroom.models import engine, winograd
from darkroom.models.backbones.torchvision import TorchvisionBackbone
from darkroom.models.base import IMAGENET, Normalize
from darkroom.models.specs import BackboneSpec
from darkroom.training.embedding import FeaturesAndMaps, LowerPart, engine_for

CPU = torch.device("cpu")


def network(name: str, size: int, count: int) -> tuple[nn.Sequential, np.ndarray]:
    """Return a frozen network whose batch normalisation is no identity, and images."""
    backbone = TorchvisionBackbone(BackboneSpec(name, size, "pooled"))
    for norm in (m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.uniform_(-0.1, 0.1)
        norm.running_var.uniform_(0.5, 2)
    images = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)
    return nn.Sequential(Normalize(*IMAGENET), backbone.to(memory_format=torch.channels_last)).eval(), images


@pytest.mark.parametrize(("height", "width", "count"), [(4, 4, 3), (8, 12, 2), (13, 6, 5), (1, 1, 2), (3, 9, 130)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_is_the_direct_one(height, width, count, bias):
    """On maps of any size, whole tiles or not, many chunks or one, the outputs are those of float64 within
    2e-5 of the largest.
    """
    torch.manual_seed(0)
    layer = nn.Conv2d(24, 40, 3, padding=1, bias=bias).requires_grad_(False)
    x = torch.randn(count, 24, height, width).contiguous(memory_format=torch.channels_last)
    added = layer.bias if bias else torch.zeros(40)
    output = winograd.convolve(x, winograd.transform_kernels(layer.weight), added)
    expected = layer.double()(x.double())
    assert output.shape == expected.shape
    assert output.is_contiguous(memory_format=torch.channels_last)
    assert (output - expected).abs().max() <= 2e-5 * expected.abs().max()


def test_large_images_are_cut_into_rows_of_tiles(monkeypatch):
    """An image of more tiles than are taken at a time gives what it gives at once."""
    torch.manual_seed(0)
    kernels, x = winograd.transform_kernels(torch.randn(5, 4, 3, 3)), torch.randn(2, 4, 45, 30)
    expected = winograd.convolve(x, kernels, torch.ones(5))
    for tiles in (1, 8, 17, 30):
        monkeypatch.setattr(winograd, "TILES", tiles)
        assert torch.allclose(winograd.convolve(x, kernels, torch.ones(5)), expected, atol=1e-4)


def test_two_streams_at_once_are_refused():
    """A network that is being run cannot be run by the same engine again before its stream has ended; then it
    can.
    """
    frozen, images = network("vgg11", 32, 8)
    chosen = engine.Winograd(frozen, images[:4], 2)
    one = chosen.stream(iter([images] * 8))
    next(one)
    with pytest.raises(RuntimeError, match="has not ended"):
        next(chosen.stream([images]))
    one.close()
    assert len(next(iter(chosen.stream([images])))[0]) == 8


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(512, 512, 3, padding=1, stride=2),
        nn.Conv2d(512, 512, 3, padding=0),
        nn.Conv2d(512, 512, 3, padding=2, dilation=2),
        nn.Conv2d(512, 512, 5, padding=2),
        nn.Conv2d(512, 512, 3, padding=1, groups=2),
        nn.Conv2d(512, 512, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(512, 512, 3, padding="same"),
        nn.Conv2d(16, 512, 3, padding=1),
    ],
    ids=str,
)
def test_other_convolutions_are_left_alone(layer):
    """Strides, dilations, groups, other kernels and paddings, and narrow layers, are not computed this way."""
    x = torch.randn(1, layer.in_channels, 8, 8)
    assert not winograd.replacements(nn.Sequential(layer), x).wide


@pytest.mark.parametrize(("name", "size", "count"), [("vgg11_bn", 32, 20), ("vgg16", 64, 7)])
def test_vgg_takes_it_and_gives_torchs_embeddings(name, size, count):
    """VGG runs by Winograd's algorithm: torch's embeddings, the same bytes on one to three threads; the
    network is restored.
    """
    frozen, images = network(name, size, count)
    assert engine.select_engine(frozen, images, CPU, 2).name == "torch, Winograd"
    threads = torch.get_num_threads()
    batches = [images[i : i + 5] for i in range(0, count, 5)]
    runs = [engine.Winograd(frozen, images[:4], number).stream(iter(batches)) for number in (1, 2, 3)]
    results = [np.concatenate([outputs[0] for outputs in run]) for run in runs]
    assert torch.get_num_threads() == threads
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])
    with torch.inference_mode():
        eager = frozen(torch.from_numpy(images)).numpy()
    assert np.abs(results[0] - eager).max() <= engine.TOLERANCE * np.abs(eager).max()
    assert not any("forward" in vars(module) for module in frozen.modules())


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18"])
def test_networks_of_narrow_layers_do_not(name):
    """Where wide 3 × 3 convolutions are not most of the work, ONNX Runtime is chosen."""
    frozen, images = network(name, 64, 4)
    assert engine.select_engine(frozen, images, CPU, 2).name == "ONNX Runtime"


def test_a_part_gives_the_bytes_of_the_network():
    """The map at a cut has the same bytes whether the blocks above it run or not, also where a part alone
    would run otherwise.
    """
    frozen, images = network("vgg11_bn", 32, 8)
    normalize, backbone = frozen
    compute = Compute(seed=0, threads=2, accelerator="cpu", precision="32-true")
    for cut in (2, backbone.block_count - 1):
        whole = engine_for(FeaturesAndMaps(normalize, backbone, cut), images[None], compute)
        part = engine_for(LowerPart(normalize, backbone, cut), images[None], compute)
        assert whole.name == part.name == "torch, Winograd"
        assert whole.batch == part.batch
        assert np.array_equal(next(whole.stream([images]))[1], next(part.stream([images]))[0])


def test_a_broken_transform_is_noticed(monkeypatch, capsys):
    """Where the outputs are not torch's, ONNX Runtime is used instead."""
    monkeypatch.setattr(winograd, "_FROM_WINOGRAD", winograd._FROM_WINOGRAD * 1.01)
    frozen, images = network("vgg11", 32, 4)
    assert engine.select_engine(frozen, images, CPU, 2).name == "ONNX Runtime"
