"""Network in Network and its variants, which the page on it compares."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from darkroom.models.architectures.features import Classic
from darkroom.models.macs import layers
from darkroom.models.specs import ArchitectureSpec


def features(size: int = 16, **options: object) -> Classic:
    return Classic(ArchitectureSpec("nin", size, 3, {"width": 0.125, "dropout": 0.0, **options}))


def account(network: Classic, size: int = 16) -> list[tuple[int, int]]:
    """Return parameters and multiply-adds of each layer."""
    return [(layer.parameters, layer.multiply_adds) for layer in layers(network, (3, size, size))]


@pytest.mark.parametrize("batch_norm", [False, True])
def test_without_relu_a_stage_is_one_convolution(batch_norm):
    """Without the ReLUs before its 1×1 convolutions a stage is affine at the same cost; with them it is not."""
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    mixed = torch.cat([images[:2], images[:2].mean(0, keepdim=True)])
    costs = []
    for is_linear in (True, False):
        network = features(pointwise_relu=not is_linear, batch_norm=batch_norm).eval()
        last = max(i for i, name in enumerate(dict(network.body.named_children())) if name.endswith("1_3") and "relu" not in name)
        with torch.inference_mode():
            first, second, between = network.body[: last + 1](mixed)
        assert torch.allclose((first + second) / 2, between, atol=1e-5) == is_linear
        costs.append(account(network))
    assert costs[0] == costs[1]


@pytest.mark.parametrize("size", [7, 16, 28, 33])
def test_a_fully_connected_layer_takes_the_place_of_the_average(size):
    """With `dense` the convolutions are the same, and one linear layer sees every place of the last map, at any size."""
    averaged, dense = features(size), features(size, dense=32)
    assert account(averaged, size) == account(dense, size)[:-1]
    linear = next(module for module in dense.neck if isinstance(module, nn.Linear))
    assert linear.in_features == averaged.body(torch.zeros(1, 3, size, size)).flatten(1).shape[1]
    assert dense(torch.zeros(1, 3, size, size)).shape == (1, 32)
