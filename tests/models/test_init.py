"""The laws that the schemes of initialisation promise."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from darkroom.models.architectures.features import classifier
from darkroom.models.init import SCHEMES, WEIGHTED, SkipInit, initialize, unit_variance


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(8, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Flatten(1), nn.Linear(64 * 16, 200))


EXPECTED = {  # of the convolution: 72 inputs, feeds 9 · 64 = 576
    "zeros": (0.0, 0.0), "ones": (1.0, 0.0), "constant": (0.01, 0.0), "uniform": (0.5, 1 / 12), "uniform_fan": (0.0, 1 / (3 * 72)),
    "normal": (0.0, 1e-4), "xavier": (0.0, 2 / (72 + 576)), "kaiming": (0.0, 2 / 72), "orthogonal": (0.0, 1 / 72),
    "lsuv": (0.0, None),
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEMES)
def test_mean_and_variance_are_the_papers(name):
    """Each scheme draws weights of the mean and variance that its paper derives from the layer's inputs and
    outputs.
    """
    drawn = network()
    initialize(drawn, name, 0, torch.randn(64, 8, 6, 6))
    mean, variance = EXPECTED[name]
    weight = drawn[0].weight.detach()
    spread = math.sqrt(variance or 1)
    assert float(weight.mean()) == pytest.approx(mean, abs=0.05 * spread)
    assert variance is None or float(weight.var(unbiased=False)) == pytest.approx(variance, rel=0.05, abs=1e-12)
    assert not drawn[0].bias.any()


def test_orthogonal_matrices_keep_lengths():
    """The rows of a kernel as a matrix are of length 1 and at right angles, or its columns where there are
    fewer.
    """
    drawn = network()
    initialize(drawn, "orthogonal", 0)
    rows = drawn[0].weight.flatten(1)
    torch.testing.assert_close(rows @ rows.t(), torch.eye(64), atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ["mlp", "lenet5"])
def test_lsuv_gives_every_layer_unit_variance(architecture):
    """After LSUV the outputs of each convolution and linear layer for the images have variance 1."""
    drawn = classifier(architecture, classes=10, channels=1, size=28)
    images = torch.randn(64, 1, 28, 28)
    initialize(drawn, "lsuv", 0, images)
    variances = []
    for module in drawn.modules():
        if isinstance(module, WEIGHTED):
            module.register_forward_hook(lambda _module, _inputs, output: variances.append(float(output.detach().var())))
    drawn(images)
    assert variances == pytest.approx([1.0] * len(variances), abs=0.02)
    assert len(variances) > 2


def test_lsuv_leaves_a_silent_layer_alone():
    """A layer with constant outputs has no variance to scale: it is not changed."""
    drawn = nn.Sequential(nn.Linear(4, 4))
    initialize(drawn, "zeros", 0)
    unit_variance(drawn, torch.randn(8, 4))
    assert not drawn[0].weight.any()


@pytest.mark.parametrize("name", SCHEMES)
def test_a_seed_draws_the_same_weights(name):
    """The same seed gives the same weights, and the global random state does not change."""
    images = torch.randn(16, 8, 6, 6)
    state = torch.get_rng_state()
    one, two = network(), network()
    torch.set_rng_state(state)
    for drawn in (one, two):
        initialize(drawn, name, 5, images)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_every_scheme_has_an_expectation():
    """A scheme that is added is tested."""
    assert set(EXPECTED) == set(SCHEMES)


def test_skipped_initialisers_leave_tensors_alone():
    """Inside the context initialisers do not change tensors; outside they do."""
    layer = nn.Linear(3, 3)
    before = layer.weight.clone()
    with SkipInit():
        nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        nn.init.zeros_(tensor=layer.weight)
    assert torch.equal(layer.weight, before)
    nn.init.zeros_(layer.weight)
    assert not layer.weight.any()
