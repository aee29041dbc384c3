"""AlexNet (Krizhevsky et al. 2012), in the one-column form of Krizhevsky (2014), as torchvision's."""

from __future__ import annotations

from torch import nn

from darkroom.models.architectures.features import Layers, Parts
from darkroom.models.architectures.layers import Grid, pooled, stem
from darkroom.models.architectures.registry import architecture

# outputs, kernel, stride, padding, pooled after it
CONVOLUTIONS = ((64, 11, 4, 2, True), (192, 5, 1, 2, True), (384, 3, 1, 1, False), (256, 3, 1, 1, False), (256, 3, 1, 1, True))


@architecture("Krizhevsky et al. 2012")
def alexnet(size: int, channels: int, *, dense: int = 4096) -> Parts:
    """Five convolutions and two fully connected layers of `dense` numbers with dropout."""
    body: Layers = {}
    inputs = channels
    for i, (outputs, kernel, stride, padding, is_pooled) in enumerate(CONVOLUTIONS, 1):
        stride = stem(size, stride)
        body[f"conv{i}"] = nn.Conv2d(inputs, outputs, kernel, stride, padding)
        body[f"relu{i}"] = nn.ReLU(inplace=True)
        size = (size + 2 * padding - kernel) // stride + 1
        if is_pooled:
            size = pooled(body, f"pool{i}", size, window=3)
        inputs = outputs
    side = min(6, size)
    neck = {
        "grid": Grid(side), "flatten": nn.Flatten(1),
        "drop6": nn.Dropout(0.5), "fc6": nn.Linear(inputs * side * side, dense), "relu6": nn.ReLU(inplace=True),
        "drop7": nn.Dropout(0.5), "fc7": nn.Linear(dense, dense), "relu7": nn.ReLU(inplace=True),
    }  # fmt: skip
    return Parts(body, neck, dense)
