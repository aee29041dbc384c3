"""Stride, padding and pooling are torch's; the steps of one filter are the network's own outputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from darkroom.inference.classifier import Classifier
from darkroom.lab import layers, networks, one_filter, pooling
from darkroom.models.base import Network
from darkroom.models.checkpoint import Checkpoint
from darkroom.models.factory import build_features, make_spec
from tests.lab.test_layers import PLAIN, compact


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 0), (3, 2, 1), (5, 3, 2), (2, 2, 0), (1, 4, 0)])
def test_windows_are_torchs(size, kernel, stride, padding):
    """Convolution and pooling are torch's, and the formula gives the size of their output."""
    values, weights = noise(size, size + 3), noise(kernel, kernel)
    image = torch.from_numpy(values)[None, None]
    own = pooling.convolve(values, weights, stride, padding)
    theirs = F.conv2d(image, torch.from_numpy(weights)[None, None], stride=stride, padding=padding)[0, 0].numpy()
    assert own == pytest.approx(theirs, abs=1e-5)
    assert own.shape == tuple(pooling.output_size(side, kernel, stride, padding) for side in values.shape)
    assert pooling.max_pool(values, kernel, stride) == pytest.approx(F.max_pool2d(image, kernel, stride)[0, 0].numpy())
    assert pooling.average_pool(values, kernel, stride) == pytest.approx(
        F.avg_pool2d(image, kernel, stride)[0, 0].numpy(), abs=1e-6
    )


def inspected(name: str) -> networks.InspectedNetwork:
    network = compact() if name == "compact" else Network(build_features(make_spec(name, 32)), PLAIN, 3).eval()
    return networks.from_classifier(
        Classifier(network, Checkpoint("x", network.features.spec, PLAIN, ("a", "b", "c"), {}, {})), "x", 0
    )


@pytest.mark.parametrize(
    ("name", "layer", "kinds", "last"),
    [
        (
            "compact",
            "stages.0.1.0",
            ["convolution stages.0.1.0", "batch normalisation", "ReLU", "2×2 max pooling, stride 2"],
            "stages.0.2",
        ),
        ("compact", "stages.0.0.0", ["convolution stages.0.0.0", "batch normalisation", "ReLU"], "stages.0.0.2"),
        ("lenet5", "body.c1", ["convolution body.c1", "tanh", "2×2 average pooling, stride 2"], "body.s2"),
        ("resnet8", "body.conv2_1.conv2", ["convolution body.conv2_1.conv2", "batch normalisation"], "body.conv2_1.bn2"),
    ],
)
def test_the_steps_are_the_networks_own(name, layer, kinds, last):
    """The steps end at the next convolution, merge or pooling, and the last one is what the network itself computes there."""
    subject = inspected(name)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    outputs = one_filter.steps(subject, layer, pixels)
    assert [step.description for step in outputs] == kinds
    recorded = layers.record(subject.network, networks.to_tensor(pixels), [last])[last][0]
    assert torch.equal(outputs[-1].values, recorded)


def test_a_function_without_a_module_is_a_step():
    """The first convolution of a residual block is followed by its ReLU, which is a call and no module."""
    subject = inspected("resnet8")
    outputs = one_filter.steps(subject, "body.conv2_1.conv1", np.zeros((32, 32, 3), np.uint8))
    assert [step.description for step in outputs][1:] == ["batch normalisation", "ReLU"]
    assert torch.equal(outputs[-1].values, outputs[-2].values.clamp(min=0))
