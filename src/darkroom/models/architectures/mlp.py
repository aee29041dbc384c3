"""Multi-layer perceptrons (Rumelhart et al. 1986): every pixel is an input without neighbours."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from darkroom.models.architectures.features import Layers, Parts
from darkroom.models.architectures.layers import activation_of
from darkroom.models.architectures.registry import architecture


@architecture("Rumelhart et al. 1986", size=28, channels=1, classes=10)
def mlp(size: int, channels: int, *, hidden: Sequence[int] = (256, 128), activation: str = "relu", dropout: float = 0.0) -> Parts:
    """784-256-128-10 on MNIST: hidden layers of `hidden` numbers."""
    neck: Layers = {"flatten": nn.Flatten(1)}
    inputs = channels * size * size
    for i, outputs in enumerate(hidden, 1):
        neck[f"fc{i}"] = nn.Linear(inputs, outputs)
        neck[f"act{i}"] = activation_of(activation)
        if dropout:
            neck[f"drop{i}"] = nn.Dropout(dropout)
        inputs = outputs
    return Parts({}, neck, inputs)
