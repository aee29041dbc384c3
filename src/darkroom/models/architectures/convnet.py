"""A small convolutional network whose parts can be taken out one at a time."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from darkroom.models.architectures.features import Layers, Parts
from darkroom.models.architectures.layers import pooled
from darkroom.models.architectures.registry import architecture


@architecture("LeCun et al. 1998", size=32, classes=10)
def convnet(
    size: int, channels: int, *, widths: Sequence[int] = (16, 32, 64), hidden: int = 256, batch_norm: bool = True,
    dropout: float = 0.25,
) -> Parts:  # fmt: skip
    """3×3 convolutions with batch normalisation, ReLU and maximum pooling; a hidden layer with dropout before and after it."""
    body: Layers = {}
    inputs, side = channels, size
    for i, outputs in enumerate(widths, 1):
        body[f"conv{i}"] = nn.Conv2d(inputs, outputs, 3, padding=1, bias=not batch_norm)
        if batch_norm:
            body[f"norm{i}"] = nn.BatchNorm2d(outputs)
        body[f"relu{i}"] = nn.ReLU(inplace=True)
        side = pooled(body, f"pool{i}", side, 2)
        inputs = outputs
    neck: Layers = {"flatten": nn.Flatten(1), "drop1": nn.Dropout(dropout)}
    neck["fc"] = nn.Linear(inputs * side * side, hidden, bias=not batch_norm)
    if batch_norm:
        neck["norm"] = nn.BatchNorm1d(hidden)
    return Parts(body, {**neck, "relu": nn.ReLU(inplace=True), "drop2": nn.Dropout(dropout)}, hidden)
