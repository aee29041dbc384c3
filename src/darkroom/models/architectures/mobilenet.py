"""MobileNet v1 (Howard et al. 2017) and v2 (Sandler et al. 2018): a convolution as one per channel and a 1×1
across channels.

A 3×3 convolution of C maps to C' costs 9 C C' multiply-adds a pixel, the pair 9 C + C C'. `width` multiplies
all layers' channels.
"""

from __future__ import annotations

import torch
from torch import nn

from darkroom.models.architectures.features import Layers, Parts
from darkroom.models.architectures.layers import averaged, divisible, normed, stem
from darkroom.models.architectures.registry import architecture

V1 = "Howard et al. 2017"
V2 = "Sandler et al. 2018"
V1_VARIANTS = {
    "mobilenet_v1": ("Depthwise-separable convolutions.", (True,)),
    "mobilenet_v1_standard": (
        'mobilenet_v1 with a full 3×3 convolution in place of each pair (table 4, "Conv MobileNet").', (False,),
    ),
}  # fmt: skip
SEPARABLE = (  # v1, table 1: outputs and stride of each depthwise-separable convolution
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1),
    (512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip
RESIDUALS = (  # v2, table 2: expansion, outputs, repeats, stride of the first
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip


def separable(
    inputs: int, outputs: int, stride: int, kernel: int = 3, is_last_linear: bool = False, depth_multiplier: int = 1
) -> nn.Sequential:  # fmt: skip
    """Return v1's pair (figure 3, right): depthwise, then 1×1 across channels, each normalised and, unless the last is linear, with
    ReLU. `depth_multiplier` is the number of kernels of each channel (Chollet 2017), 1 in MobileNet.
    """
    hidden = inputs * depth_multiplier
    depthwise = normed(inputs, hidden, kernel, stride, groups=inputs, activation=nn.ReLU(inplace=True))
    return nn.Sequential(depthwise, normed(hidden, outputs, 1, activation=None if is_last_linear else nn.ReLU(inplace=True)))


@architecture(V1, variants=V1_VARIANTS)
def mobilenet_separable(size: int, channels: int, is_separable: bool, *, width: float = 1.0) -> Parts:
    """Table 1 of v1."""
    inputs = divisible(32 * width)
    body: Layers = {"conv1": normed(channels, inputs, 3, stem(size, 2), activation=nn.ReLU(inplace=True))}
    for i, (outputs, stride) in enumerate(SEPARABLE, 2):
        outputs = divisible(outputs * width)
        if is_separable:
            body[f"conv{i}"] = separable(inputs, outputs, stride)
        else:
            body[f"conv{i}"] = normed(inputs, outputs, 3, stride, activation=nn.ReLU(inplace=True))
        inputs = outputs
    return Parts(body, averaged(), inputs)


class InvertedResidual(nn.Module):
    """1×1 to `expansion` times the channels, depthwise, 1×1 down (v2, figure 3b and table 1), which is linear unless the study of
    section 6 (figure 6a) is repeated.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, expansion: int, is_linear: bool = True, kernel: int = 3, has_skip: bool = True
    ) -> None:  # fmt: skip
        super().__init__()
        hidden = inputs * expansion
        layers = [] if expansion == 1 else [normed(inputs, hidden, 1, activation=nn.ReLU6(inplace=True))]
        layers.append(normed(hidden, hidden, kernel, stride, groups=hidden, activation=nn.ReLU6(inplace=True)))
        layers.append(normed(hidden, outputs, 1, activation=None if is_linear else nn.ReLU6(inplace=True)))
        self.layers = nn.Sequential(*layers)
        self.has_skip = has_skip and stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self.has_skip else self.layers(x)


@architecture(V2)
def mobilenet_v2(
    size: int, channels: int, *, width: float = 1.0, dropout: float = 0.2, linear_bottleneck: bool = True
) -> Parts:  # fmt: skip
    """Inverted residuals with linear bottlenecks."""
    inputs = divisible(32 * width)
    body: Layers = {"conv1": normed(channels, inputs, 3, stem(size, 2), activation=nn.ReLU6(inplace=True))}
    for stage, (expansion, outputs, repeats, stride) in enumerate(RESIDUALS, 2):
        outputs = divisible(outputs * width)
        for i in range(repeats):
            body[f"block{stage}_{i + 1}"] = InvertedResidual(inputs, outputs, 1 if i else stride, expansion, linear_bottleneck)
            inputs = outputs
    dim = divisible(1280 * max(1.0, width))
    body["conv_last"] = normed(inputs, dim, 1, activation=nn.ReLU6(inplace=True))
    return Parts(body, {**averaged(), "drop": nn.Dropout(dropout)}, dim)
