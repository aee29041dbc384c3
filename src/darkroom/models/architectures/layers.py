"""Layers that several families share: a normalised convolution, pooling, maps of a fixed size."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from darkroom.models.architectures.features import Layers
from darkroom.models.base import SMALL_IMAGE, GlobalPool

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


def activation_of(name: str) -> nn.Module:
    """Return an activation by name. Raises ValueError that lists them for an unknown name."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation is one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def normed(
    inputs: int,
    outputs: int,
    kernel: int = 3,
    stride: int = 1,
    *,
    groups: int = 1,
    activation: nn.Module | None = None,
    eps: float = 1e-5,
) -> nn.Sequential:
    """Return a padded convolution, batch normalisation, and an activation if there is one."""
    layers: Layers = {
        "conv": nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        "norm": nn.BatchNorm2d(outputs, eps),
    }
    if activation is not None:
        layers["act"] = activation
    return nn.Sequential(OrderedDict(layers))


def stem(size: int, stride: int) -> int:
    """Return the stride of a first convolution: 1 for images of at most 64 pixels, to keep their resolution."""
    return 1 if size <= SMALL_IMAGE else stride


def pooled(body: Layers, name: str, size: int, window: int) -> int:
    """Add maximum pooling of stride 2, unless its window is larger than the map; return the size of the map after it."""
    if size < window:
        return size
    body[name] = nn.MaxPool2d(window, 2)
    return (size - window) // 2 + 1


def averaged() -> Layers:
    """Return global average pooling (Lin et al. 2014): (N, C, H, W) to (N, C)."""
    return {"pool": GlobalPool()}


class Grid(nn.Module):
    """Adaptive average pooling to a map for fully connected layers: (N, C, H, W) to (N, C, side, side).

    Unlike torch's, it is computed as matrix products, which are deterministic on a GPU and can be exported to
    ONNX.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[2:] == (self.side, self.side):
            return x
        rows, columns = (self._means(int(size)).to(x) for size in x.shape[2:])
        return rows @ x @ columns.t()

    def _means(self, size: int) -> torch.Tensor:
        """Return (side, size): in row i the weights of the pixels whose mean is the i-th output pixel."""
        cuts = [(i * size // self.side, -(-(i + 1) * size // self.side)) for i in range(self.side)]
        return torch.tensor([[(first <= pixel < last) / (last - first) for pixel in range(size)] for first, last in cuts])


def divisible(channels: float) -> int:
    """Round channels to a multiple of 8, down by a tenth at most, as the code of Sandler et al. (2018)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8
