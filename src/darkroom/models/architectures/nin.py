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
def nin(
    size: int, channels: int, *, width: float = 1.0, pointwise: bool = True, pointwise_relu: bool = True, dropout: float = 0.5,
    batch_norm: bool = False, dense: int = 0,
) -> Parts:  # fmt: skip
    """Three stages for CIFAR-10 with overlapping pooling and dropout between them.

    `pointwise: false` leaves out the 1×1 convolutions, `pointwise_relu: false` the ReLUs before them, `batch_norm` normalises
    after each convolution, and with `dense` a fully connected layer of that width takes the place of global average pooling.
    """
    body: Layers = {}
    inputs = channels
    for stage, convolutions in enumerate(STAGES, 1):
        convolutions = convolutions if pointwise else convolutions[:1]
        for i, (outputs, kernel) in enumerate(convolutions, 1):
            outputs = max(1, round(outputs * width))
            body[f"conv{stage}_{i}"] = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=not batch_norm)
            if batch_norm:
                body[f"norm{stage}_{i}"] = nn.BatchNorm2d(outputs)
            if pointwise_relu or i == len(convolutions):
                body[f"relu{stage}_{i}"] = nn.ReLU(inplace=True)
            inputs = outputs
        if stage < len(STAGES):
            body[f"pool{stage}"] = nn.MaxPool2d(3, 2, ceil_mode=True)
            body[f"drop{stage}"] = nn.Dropout(dropout)
            size = size // 2
    if not dense:
        return Parts(body, averaged(), inputs)
    neck: Layers = {"flatten": nn.Flatten(1), "fc": nn.Linear(inputs * size * size, dense), "relu": nn.ReLU(inplace=True)}
    return Parts(body, neck, dense)
