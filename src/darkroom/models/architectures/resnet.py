"""Residual networks (He et al. 2016): a block learns what to add to its input, which a skip connection
carries past it.

`plain…` is the same depth and width without skips, the paper's own comparison. Networks for CIFAR (section
4.2) have 6n + 2 layers and skips without parameters where the width changes (option A: every other pixel, new
channels zero). Networks for ImageNet (table 1) have a 1×1 convolution there (option B), and bottlenecks
stride in their 3×3 convolution, as torchvision's do.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from darkroom.models.architectures.features import Layers, Parts
from darkroom.models.architectures.layers import averaged, stem
from darkroom.models.architectures.registry import architecture

PAPER = "He et al. 2016"
CIFAR = {  # n blocks on each size of map, whether they have skips
    "resnet8": ("n = 1, shallower than any of the paper's: the least of a study of depth.", (1, True)),
    "resnet20": ("n = 3 of table 6.", (3, True)),
    "resnet32": ("n = 5 of table 6.", (5, True)),
    "resnet44": ("n = 7 of table 6.", (7, True)),
    "resnet56": ("n = 9 of table 6.", (9, True)),
    "plain8": ("resnet8 without skips.", (1, False)),
    "plain20": ("resnet20 without skips.", (3, False)),
    "plain32": ("resnet32 without skips.", (5, False)),
    "plain44": ("resnet44 without skips.", (7, False)),
    "plain56": ("resnet56 without skips.", (9, False)),
}
IMAGENET = {  # blocks of each stage, whether they are bottlenecks and have skips
    "resnet18": ("Column 18-layer: basic blocks.", ((2, 2, 2, 2), False, True)),
    "resnet34": ("Column 34-layer: basic blocks.", ((3, 4, 6, 3), False, True)),
    "resnet50": ("Column 50-layer: bottlenecks.", ((3, 4, 6, 3), True, True)),
    "resnet101": ("Column 101-layer: bottlenecks.", ((3, 4, 23, 3), True, True)),
    "resnet152": ("Column 152-layer: bottlenecks.", ((3, 8, 36, 3), True, True)),
    "plain18": ("resnet18 without skips.", ((2, 2, 2, 2), False, False)),
    "plain34": ("resnet34 without skips (figure 3, middle).", ((3, 4, 6, 3), False, False)),
}


class Shortcut(nn.Module):
    """Option A: every other pixel, new channels 0: (N, C, H, W) to (N, `outputs`, H / stride, W / stride)."""

    def __init__(self, outputs: int, stride: int) -> None:
        super().__init__()
        self.outputs, self.stride = outputs, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.outputs - x.shape[1]))


def _shortcut(inputs: int, outputs: int, stride: int, has_parameters: bool) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    if not has_parameters:
        return Shortcut(outputs, stride)
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class Basic(nn.Module):
    """Two 3×3 convolutions (figure 5, left); `shortcut` is None in a plain network."""

    EXPANSION = 1

    def __init__(self, inputs: int, width: int, stride: int, has_skip: bool, has_parameters: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(inputs, width, stride, has_parameters) if has_skip else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.shortcut is not None:
            y = y + self.shortcut(x)  # the skip connection
        return F.relu(y)


class Bottleneck(nn.Module):
    """1×1 down to a quarter of the width, 3×3, 1×1 up (figure 5, right); plain networks have no `shortcut`."""

    EXPANSION = 4

    def __init__(self, inputs: int, width: int, stride: int, has_skip: bool, has_parameters: bool) -> None:
        super().__init__()
        outputs = width * self.EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = _shortcut(inputs, outputs, stride, has_parameters) if has_skip else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        if self.shortcut is not None:
            y = y + self.shortcut(x)  # the skip connection
        return F.relu(y)


Block = type[Basic] | type[Bottleneck]


def _stages(body: Layers, block: Block, depths: Sequence[int], width: int, has_skips: bool, has_parameters: bool) -> int:
    """Add stages `conv2_x` and on, each of half the resolution and twice the width; return the last width."""
    inputs = width
    for stage, depth in enumerate(depths):
        for i in range(depth):
            stride = 2 if stage and not i else 1
            body[f"conv{stage + 2}_{i + 1}"] = block(inputs, width << stage, stride, has_skips, has_parameters)
            inputs = (width << stage) * block.EXPANSION
    return inputs


@architecture(PAPER, size=32, classes=10, variants=CIFAR)
def resnet_cifar(size: int, channels: int, blocks: int, has_skips: bool, *, width: int = 16) -> Parts:
    """Section 4.2: a 3×3 convolution, then `blocks` blocks of two layers on each of three sizes of map."""
    body: Layers = {
        "conv1": nn.Conv2d(channels, width, 3, padding=1, bias=False), "bn1": nn.BatchNorm2d(width), "relu": nn.ReLU(inplace=True),
    }  # fmt: skip
    dim = _stages(body, Basic, [blocks] * 3, width, has_skips, has_parameters=False)
    return Parts(body, averaged(), dim)


@architecture(PAPER, variants=IMAGENET)
def resnet_imagenet(
    size: int, channels: int, depths: Sequence[int], is_bottleneck: bool, has_skips: bool, *, width: int = 64
) -> Parts:
    """Table 1: a 7×7 convolution and maximum pooling, then four stages."""
    body: Layers = {
        "conv1": nn.Conv2d(channels, width, 7, stem(size, 2), 3, bias=False), "bn1": nn.BatchNorm2d(width),
        "relu": nn.ReLU(inplace=True), "maxpool": nn.MaxPool2d(3, 2, 1),
    }  # fmt: skip
    block: Block = Bottleneck if is_bottleneck else Basic
    return Parts(body, averaged(), _stages(body, block, depths, width, has_skips, has_parameters=True))
