"""Network in Network (Lin et al. 2014): after each convolution two of 1×1, a small perceptron at every pixel.

In the paper the last 1×1 convolution has a map per class, of which the global average is taken. Average and
1×1 convolution may change places, so here the average comes first and the classifier's linear layer is that
convolution, without the ReLU after it.
"""

from __future__ import annotations

from torch import nn

from darkroom.models.architectures.features import Layers, Parts
from darkroom.models.architectures.layers import averaged
from darkroom.models.architectures.registry import architecture

STAGES = (((192, 5), (160, 1), (96, 1)), ((192, 5), (192, 1), (192, 1)), ((192, 3), (192, 1)))  # outputs and kernels


@architecture("Lin et al. 2014", size=32, classes=10)
def nin(size: int, channels: int, *, width: float = 1.0, pointwise: bool = True, dropout: float = 0.5) -> Parts:
    """Three stages for CIFAR-10 with overlapping pooling and dropout between them; `pointwise: false` leaves out the 1×1
    convolutions.
    """
    body: Layers = {}
    inputs = channels
    for stage, convolutions in enumerate(STAGES, 1):
        for i, (outputs, kernel) in enumerate(convolutions if pointwise else convolutions[:1], 1):
            outputs = max(1, round(outputs * width))
            body[f"conv{stage}_{i}"] = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
            body[f"relu{stage}_{i}"] = nn.ReLU(inplace=True)
            inputs = outputs
        if stage < len(STAGES):
            body[f"pool{stage}"] = nn.MaxPool2d(3, 2, ceil_mode=True)
            body[f"drop{stage}"] = nn.Dropout(dropout)
    return Parts(body, averaged(), inputs)
