"""A small residual network whose block is an option: networks that differ in one operation and in nothing else.

A 3×3 convolution, then three stages of `blocks` blocks, each stage of half the resolution and twice the width, as section 4.2 of He
et al. (2016) has them for images of 32 pixels. A block has C inputs and C' outputs:

- `basic`: two convolutions of `kernel`; 2 k² C² multiply-adds a pixel where C = C'.
- `reduced`: before each of the two, a 1×1 convolution to C / `reduction` channels (Szegedy et al. 2015, figure 2b).
- `separable`: in place of each of the two, one per channel, or `depth_multiplier` of them, and a 1×1 across channels (Howard et al.
  2017, figure 3).
- `inverted`: 1×1 to six times the channels, one per channel, 1×1 down, without an activation (Sandler et al. 2018, figure 3b);
  `inverted_relu` has one there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from darkroom.models.architectures.features import Layers, Parts
from darkroom.models.architectures.layers import averaged, normed
from darkroom.models.architectures.mobilenet import InvertedResidual, separable
from darkroom.models.architectures.registry import architecture
from darkroom.models.architectures.resnet import Shortcut

EXPANSION = 6  # of an inverted residual, as in table 2 of Sandler et al.
STAGES = 3

Convolution = Callable[[int, int, int], nn.Module]  # (inputs, outputs, stride), normalised, without the last activation
MakeBlock = Callable[[int, int, int], nn.Module]


class TwoConvolutions(nn.Module):
    """Two normalised convolutions and a skip connection (He et al., figure 2), without one in a plain network."""

    def __init__(self, inputs: int, outputs: int, stride: int, make: Convolution, has_skip: bool) -> None:
        super().__init__()
        self.conv1 = make(inputs, outputs, stride)
        self.conv2 = make(outputs, outputs, 1)
        same = stride == 1 and inputs == outputs
        self.shortcut = (nn.Identity() if same else Shortcut(outputs, stride)) if has_skip else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        if self.shortcut is not None:
            y = y + self.shortcut(x)  # the skip connection
        return F.relu(y)


def _reduced(inputs: int, outputs: int, stride: int, kernel: int, reduction: int) -> nn.Module:
    hidden = max(1, inputs // reduction)
    return nn.Sequential(normed(inputs, hidden, 1, activation=nn.ReLU(inplace=True)), normed(hidden, outputs, kernel, stride))


def _block(name: str, kernel: int, reduction: int, has_skips: bool, depth_multiplier: int) -> MakeBlock:
    if name in ("inverted", "inverted_relu"):
        is_linear = name == "inverted"
        return partial(InvertedResidual, expansion=EXPANSION, kernel=kernel, is_linear=is_linear, has_skip=has_skips)
    convolutions: dict[str, Convolution] = {
        "basic": lambda inputs, outputs, stride: normed(inputs, outputs, kernel, stride),
        "reduced": partial(_reduced, kernel=kernel, reduction=reduction),
        "separable": partial(separable, kernel=kernel, is_last_linear=True, depth_multiplier=depth_multiplier),
    }
    if name not in convolutions:
        raise ValueError(f"block is one of {', '.join((*convolutions, 'inverted', 'inverted_relu'))}")
    return partial(TwoConvolutions, make=convolutions[name], has_skip=has_skips)


@architecture("He et al. 2016", size=32, classes=10)
def residual(
    size: int, channels: int, *, block: str = "basic", blocks: int = 1, width: int = 16, kernel: int = 3, reduction: int = 4,
    skips: bool = True, depth_multiplier: int = 1,
) -> Parts:  # fmt: skip
    """Three stages of blocks, for images of 32 pixels: `block` is basic, reduced, separable, inverted or inverted_relu."""
    if min(blocks, width, kernel, reduction, depth_multiplier) < 1 or not kernel % 2:
        raise ValueError("blocks, width, reduction and depth_multiplier are at least 1, and kernel is odd")
    make = _block(block, kernel, reduction, skips, depth_multiplier)
    body: Layers = {"conv1": normed(channels, width, 3, activation=nn.ReLU(inplace=True))}
    inputs = width
    for stage in range(STAGES):
        for i in range(blocks):
            outputs = width << stage
            body[f"block{stage + 1}_{i + 1}"] = make(inputs, outputs, 2 if stage and not i else 1)
            inputs = outputs
    return Parts(body, averaged(), inputs)
