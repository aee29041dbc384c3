"""EfficientNet (Tan and Le 2019): depth, width and resolution grow together, by one number.

Equation 3: depth 1.2^φ, width 1.1^φ, resolution 1.15^φ, so that multiply-adds grow by about 2^φ.
`efficientnet` follows the formula; `efficientnet_b0` … `b7` have the rounded factors that the authors
published with their code.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import nn

from darkroom.models.architectures.features import Layers, Parts
from darkroom.models.architectures.layers import averaged, divisible, normed, stem
from darkroom.models.architectures.registry import architecture

PAPER = "Tan and Le 2019"
ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15  # depth, width, resolution (section 3.3)
STAGES = (  # table 1, rows 2 to 8: expansion, kernel, stride, outputs, layers
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
)  # fmt: skip
VARIANTS = {  # factors of depth and width
    "efficientnet_b0": ("Table 1 itself.", (1.0, 1.0), {}),
    "efficientnet_b1": ("Depth 1.1, width 1.0.", (1.1, 1.0), {"size": 240}),
    "efficientnet_b2": ("Depth 1.2, width 1.1.", (1.2, 1.1), {"size": 260, "dropout": 0.3}),
    "efficientnet_b3": ("Depth 1.4, width 1.2.", (1.4, 1.2), {"size": 300, "dropout": 0.3}),
    "efficientnet_b4": ("Depth 1.8, width 1.4.", (1.8, 1.4), {"size": 380, "dropout": 0.4}),
    "efficientnet_b5": ("Depth 2.2, width 1.6.", (2.2, 1.6), {"size": 456, "dropout": 0.4}),
    "efficientnet_b6": ("Depth 2.6, width 1.8.", (2.6, 1.8), {"size": 528, "dropout": 0.5}),
    "efficientnet_b7": ("Depth 3.1, width 2.0.", (3.1, 2.0), {"size": 600, "dropout": 0.5}),
}
SQUEEZE = 4  # of a block's inputs, for squeeze-and-excitation
SURVIVAL = 0.8  # of the last block, stochastic depth


def resolution(phi: float) -> int:
    """Return the pixels a side that the formula gives for φ, from B0's 224."""
    return round(224 * GAMMA**phi)


class SqueezeExcitation(nn.Module):
    """A factor per channel from all channels' averages (Hu et al. 2018): (N, C, H, W) to the same."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, hidden, 1)
        self.up = nn.Conv2d(hidden, channels, 1)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.up(self.act(self.down(x.mean((2, 3), keepdim=True)))))


class Block(nn.Module):
    """MBConv: an inverted residual with squeeze-and-excitation and stochastic depth (Huang et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int, survival: float) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: Layers = {}
        if expansion != 1:
            layers["expand"] = normed(inputs, hidden, 1, activation=nn.SiLU(inplace=True))
        layers["depthwise"] = normed(hidden, hidden, kernel, stride, groups=hidden, activation=nn.SiLU(inplace=True))
        layers["squeeze"] = SqueezeExcitation(hidden, max(1, inputs // SQUEEZE))
        layers["project"] = normed(hidden, outputs, 1)
        self.layers = nn.Sequential(OrderedDict(layers))
        self.has_skip = stride == 1 and inputs == outputs
        self.survival = survival

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layers(x)
        if not self.has_skip:
            return y
        if self.training and self.survival < 1:
            y = y * (torch.rand(len(y), 1, 1, 1, device=y.device) < self.survival) / self.survival
        return x + y


def _scaled(size: int, channels: int, depth: float, width: float, dropout: float) -> Parts:
    """Build table 1 with layers times `depth`, rounded up, and channels times `width`, to a multiple of 8."""
    inputs = divisible(32 * width)
    body: Layers = {"conv1": normed(channels, inputs, 3, stem(size, 2), activation=nn.SiLU(inplace=True))}
    total = sum(math.ceil(layers * depth) for *_, layers in STAGES)
    built = 0
    for stage, (expansion, kernel, stride, outputs, layers) in enumerate(STAGES, 2):
        outputs = divisible(outputs * width)
        for i in range(math.ceil(layers * depth)):
            survival = 1 - (1 - SURVIVAL) * built / total
            body[f"block{stage}_{i + 1}"] = Block(inputs, outputs, expansion, kernel, 1 if i else stride, survival)
            inputs, built = outputs, built + 1
    dim = 4 * inputs
    body["conv_last"] = normed(inputs, dim, 1, activation=nn.SiLU(inplace=True))
    return Parts(body, {**averaged(), "drop": nn.Dropout(dropout)}, dim)


@architecture(PAPER)
def efficientnet(
    size: int, channels: int, *, phi: float = 0.0, depth: float = 1.0, width: float = 1.0, dropout: float = 0.2
) -> Parts:
    """Scaled by φ, for images of `resolution(phi)`; `depth` and `width` are further factors."""
    return _scaled(size, channels, depth * ALPHA**phi, width * BETA**phi, dropout)


@architecture(PAPER, variants=VARIANTS)
def efficientnet_rounded(size: int, channels: int, depth: float, width: float, *, dropout: float = 0.2) -> Parts:
    """Scaled by published factors."""
    return _scaled(size, channels, depth, width, dropout)
